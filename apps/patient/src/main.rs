//! The bedside app: uploads a patient, images and ECG strips.

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "generated"
)]
mod window {
    slint::include_modules!();
}

fn main() -> Result<(), slint::PlatformError> {
    use slint::ComponentHandle as _;
    window::Main::new()?.run()
}

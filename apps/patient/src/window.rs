//! The code that Slint generates from `ui/*.slint`: the window and the global [`Api`], the only interface between Rust and
//! the window.

#[allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::all,
    clippy::todo,
    clippy::dbg_macro,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "generated"
)]
mod generated {
    slint::include_modules!();
}

pub use generated::*;

ui::window_conversions!(generated);

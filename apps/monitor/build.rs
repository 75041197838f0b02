//! Compiles the Slint files: see `apps/ui/app_build.rs`.

#[path = "../ui/app_build.rs"]
mod app_build;

fn main() {
    app_build::compile();
}

//! Compiles the Slint files. The shared widgets are imported as `@ui`.
fn main() {
    // Read at run time, because several checkouts may share a target folder.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| ".".into());
    let shared = std::path::Path::new(&package).join("../ui/ui");
    let configuration = slint_build::CompilerConfiguration::new()
        .with_library_paths([("ui".to_owned(), shared)].into())
        .with_style("fluent".to_owned());
    if let Err(error) = slint_build::compile_with_config("ui/main.slint", configuration) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

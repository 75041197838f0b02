//! The build script of each app: compiles its Slint files with their translations. The shared widgets of `apps/ui` are
//! imported as `@ui`.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

pub(crate) fn compile() {
    // Read at run time: several checkouts may share one build folder.
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| ".".into()));
    let result = merge_catalogues(&package).map_err(|error| error.to_string()).and_then(|catalogues| {
        let configuration = slint_build::CompilerConfiguration::new()
            .with_library_paths([("ui".to_owned(), package.join("../ui/ui"))].into())
            .with_bundled_translations(catalogues)
            .with_default_translation_context(slint_build::DefaultTranslationContext::None)
            .with_style("fluent".to_owned());
        slint_build::compile_with_config("ui/main.slint", configuration).map_err(|error| error.to_string())
    });
    if let Err(error) = result {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

/// Writes the translations of this app and of the shared widgets as one catalogue, which Slint and `ui::text` read. Returns the
/// folder of the catalogues.
fn merge_catalogues(package: &Path) -> io::Result<PathBuf> {
    let folder = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("lang");
    let mut merged = String::new();
    for source in [package.join("lang/de.po"), package.join("../ui/lang/de.po")] {
        println!("cargo:rerun-if-changed={}", source.display());
        let catalogue = fs::read_to_string(&source)?;
        // Only the first catalogue keeps its header, which ends at the first empty line.
        let entries = catalogue.split_once("\n\n").map_or("", |(_, entries)| entries);
        merged.push_str(if merged.is_empty() { &catalogue } else { entries });
        merged.push('\n');
    }
    let target = folder.join("de/LC_MESSAGES");
    fs::create_dir_all(&target)?;
    fs::write(target.join(concat!(env!("CARGO_PKG_NAME"), ".po")), merged)?;
    Ok(folder)
}

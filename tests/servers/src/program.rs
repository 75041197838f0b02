//! Where the programs of the servers are.

use std::env;
use std::path::PathBuf;

/// The program named by the environment variable `variable`, else `name` on the PATH, else the one that `scripts/test`
/// installs.
///
/// # Panics
/// When there is none.
#[must_use]
pub(crate) fn find(name: &str, variable: &str) -> PathBuf {
    if let Some(named) = env::var_os(variable) {
        return PathBuf::from(named);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let here = env::current_dir().unwrap_or_default();
    let installed = here.ancestors().map(|folder| folder.join("target/tools"));
    env::split_paths(&path)
        .chain(installed)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| {
            panic!(
                "these tests need the program {name}: run scripts/test, which installs it, or name it in {variable}"
            )
        })
}

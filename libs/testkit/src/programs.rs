//! Paths of the programs under test and of the servers that tests need.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// Path of a program of this project: in the directory `BEDSIDE_TEST_PROGRAMS`, otherwise built now, so that a test does not run
/// an outdated program.
///
/// # Panics
/// If the program cannot be built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder =
        FOLDER.get_or_init(|| env::var_os("BEDSIDE_TEST_PROGRAMS").map_or_else(build, PathBuf::from));
    let path = folder.join(name);
    assert!(path.is_file(), "{} does not exist: build all programs first", path.display());
    path
}

fn build() -> PathBuf {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args([
        "build",
        "--quiet",
        "--bins",
        "--workspace",
        "--features",
        "bedside-standalone/full-stack",
    ]);
    let release = !cfg!(debug_assertions);
    if release {
        command.arg("--release");
    }
    assert!(command.status().expect("cargo runs").success(), "the programs under test cannot be built");
    // For example target/debug/deps/this_test-0123 or target/debug/bench.
    let this = env::current_exe().expect("the path of this program");
    let profile = if release { "release" } else { "debug" };
    this.ancestors()
        .find(|folder| folder.file_name().is_some_and(|name| name == profile))
        .expect("this program is in the build directory")
        .to_owned()
}

/// Path of a server: from the environment variable `variable`, otherwise `name` on the PATH, otherwise as installed by
/// `scripts/test`.
///
/// # Panics
/// If there is none.
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
                "this test needs {name}: run scripts/test, which installs it, or set {variable} to its path"
            )
        })
}

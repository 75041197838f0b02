//! The documents name existing files and link to existing documents.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// Directories without source files.
const SKIPPED: [&str; 4] = ["target", ".git", "corpus", "found"];

/// All files and directories of the repository, relative to its root.
fn paths(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if SKIPPED.iter().any(|skipped| path.ends_with(skipped)) {
            continue;
        }
        found.push(path.strip_prefix("..").unwrap().to_str().unwrap().to_owned());
        if path.is_dir() {
            paths(&path, found);
        }
    }
}

fn documents() -> Vec<PathBuf> {
    let in_folder = |folder: &str| fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    let all = in_folder("..").chain(in_folder("../docs")).chain(in_folder("../docs/ecg"));
    all.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

#[test]
fn documents_name_existing_source_files() {
    let mut existing = Vec::new();
    paths(Path::new(".."), &mut existing);
    let mut missing = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for name in text.split('`').filter(|name| name.contains('/') && name.ends_with(".rs")) {
            // Names can be relative to the crate that the text is about.
            if !existing.iter().any(|path| Path::new(path).ends_with(name)) {
                missing.push(format!("{}: {name}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "these files do not exist:\n{}", missing.join("\n"));
}

#[test]
fn links_between_documents_lead_to_existing_files() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("http")) {
            let file = link.split('#').next().unwrap();
            if !file.is_empty() && !document.parent().unwrap().join(file).exists() {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "these links are broken:\n{}", broken.join("\n"));
}

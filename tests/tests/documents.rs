//! The documents name existing files, and link to existing documents and headings.

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

/// Files that a user creates.
const CREATED: [&str; 1] = ["deploy/.env"];

#[test]
fn documents_name_existing_paths_of_the_repository() {
    let mut existing = Vec::new();
    paths(Path::new(".."), &mut existing);
    let folders: Vec<&str> = existing
        .iter()
        .map(String::as_str)
        .filter(|path| !path.contains('/') && Path::new("..").join(path).is_dir())
        .collect();
    let mut missing = Vec::new();
    let mut named = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for name in text.split('`').skip(1).step_by(2) {
            let in_repository = name.split_once('/').is_some_and(|(first, _)| folders.contains(&first));
            if !in_repository || name.contains(|c: char| c.is_whitespace() || "*<>{}=".contains(c)) {
                continue;
            }
            named += 1;
            let name = name.trim_end_matches('/');
            // Names can be relative to the crate that the text is about.
            if !CREATED.contains(&name) && !existing.iter().any(|path| Path::new(path).ends_with(name)) {
                missing.push(format!("{}: {name}", document.display()));
            }
        }
    }
    assert!(named > 100, "{named} names");
    assert!(missing.is_empty(), "these paths do not exist:\n{}", missing.join("\n"));
}

#[test]
fn anchors_in_links_are_headings() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            let Some((file, anchor)) = link.split_once('#') else { continue };
            let target =
                if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            // A code file has lines instead of headings.
            if target.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&target).unwrap_or_default();
                if !headings(&text).any(|heading| heading == anchor) {
                    broken.push(format!("{}: {link}", document.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "these links lead to no heading:\n{}", broken.join("\n"));
}

/// Targets of the links in a document, apart from web addresses.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let all = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    all.filter(|link| !link.starts_with("http"))
}

/// The anchors that GitHub gives to the headings of a document.
fn headings(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

#[test]
fn links_between_documents_lead_to_existing_files() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            let file = link.split('#').next().unwrap();
            if !file.is_empty() && !document.parent().unwrap().join(file).exists() {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "these links are broken:\n{}", broken.join("\n"));
}

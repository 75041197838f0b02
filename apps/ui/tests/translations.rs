//! Every text of the apps has a German translation.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Strings in Slint files that are shown as they are: names of products, and an example of an address.
const UNTRANSLATED: [&str; 4] =
    [" · Bedside Monitor", "Bedside Monitor", "Bedside Patient", "http://127.0.0.1:5011"];

fn folder(app: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(app)
}

fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|end| end == extension) {
            found.push(path);
        }
    }
}

/// The string literal at the start of `code`, without escapes, and the code after it. `None` if there is none.
fn literal(code: &str) -> Option<(String, &str)> {
    let mut letters = code.strip_prefix('"')?.char_indices();
    let mut text = String::new();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((text, &code[at + 2..])),
            '\\' => match letters.next()?.1 {
                'n' => text.push('\n'),
                // The next line continues the string, without its indentation.
                '\n' => {
                    while letters.clone().next().is_some_and(|(_, letter)| letter == ' ') {
                        letters.next();
                    }
                }
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
    None
}

/// The texts after any of these marks.
fn marked(code: &str, marks: &[&str]) -> Vec<String> {
    let mut texts = Vec::new();
    for mark in marks {
        for (at, _) in code.match_indices(mark) {
            if let Some((text, _)) = literal(code[at + mark.len()..].trim_start()) {
                texts.push(text);
            }
        }
    }
    texts
}

/// The texts in the source files of an app, without its tests.
fn texts(app: &str) -> BTreeSet<String> {
    let (mut slint, mut rust) = (Vec::new(), Vec::new());
    files(&folder(app).join("ui"), "slint", &mut slint);
    files(&folder(app).join("src"), "rs", &mut rust);
    let mut texts = BTreeSet::new();
    for file in slint {
        texts.extend(marked(&fs::read_to_string(file).unwrap(), &["@tr("]));
    }
    for file in rust.iter().filter(|file| !file.ends_with("ui/src/text.rs")) {
        let source = fs::read_to_string(file).unwrap();
        let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
        texts.extend(marked(code, &["tr!(", "untranslated!("]));
    }
    texts
}

/// The texts and translations of a catalogue.
fn catalogue(app: &str) -> BTreeMap<String, String> {
    let source = fs::read_to_string(folder(app).join("lang/de.po")).unwrap();
    let (header, entries) = source.split_once("\n\n").unwrap();
    assert!(
        header.contains("Language: de"),
        "{app}: the header is the first paragraph, as the build scripts expect"
    );
    let mut found = BTreeMap::new();
    for entry in entries.split("\n\n") {
        let part = |name: &str| {
            let (_, code) =
                entry.split_once(name).unwrap_or_else(|| panic!("{app}: {name} is missing in {entry:?}"));
            literal(code).unwrap().0
        };
        let before = found.insert(part("msgid "), part("msgstr "));
        assert!(before.is_none(), "{app}: twice in the catalogue: {entry}");
    }
    found
}

#[test]
fn every_text_has_a_german_translation_and_every_translation_a_text() {
    let shared = texts("ui");
    for app in ["ui", "monitor", "patient"] {
        let own: BTreeSet<String> =
            if app == "ui" { shared.clone() } else { texts(app).difference(&shared).cloned().collect() };
        assert!(own.len() > 40, "{app}: the texts are found: {}", own.len());
        let catalogue = catalogue(app);
        let missing: Vec<&String> =
            own.iter().filter(|text| catalogue.get(*text).is_none_or(String::is_empty)).collect();
        assert!(missing.is_empty(), "{app}/lang/de.po does not translate {missing:#?}");
        let unused: Vec<&String> = catalogue.keys().filter(|text| !own.contains(*text)).collect();
        assert!(unused.is_empty(), "{app}/lang/de.po translates texts that no file has: {unused:#?}");
        for (text, translation) in &catalogue {
            let shape = |text: &str| {
                let edges = (text.starts_with([' ', ',']), text.ends_with(' '));
                (text.matches("{}").count(), edges, text.matches('\n').count())
            };
            assert_eq!(shape(text), shape(translation), "{app}: {text:?} and {translation:?}");
        }
    }
}

/// A string with a word in a Slint file is translatable, unless it is compared or names a file.
#[test]
fn every_string_with_a_word_in_a_slint_file_is_translatable() {
    let mut wrong = Vec::new();
    for app in ["ui", "monitor", "patient"] {
        let mut found = Vec::new();
        files(&folder(app).join("ui"), "slint", &mut found);
        for file in found {
            let source = fs::read_to_string(&file).unwrap();
            for (number, line) in source.lines().enumerate() {
                let is_code = !line.trim_start().starts_with("//");
                if !is_code || line.contains(" from \"") || line.contains("@image-url(") {
                    continue;
                }
                let mut rest = line;
                while let Some(at) = rest.find('"') {
                    let (before, Some((text, after))) = (&rest[..at], literal(&rest[at..])) else { break };
                    let has_word =
                        text.as_bytes().windows(2).any(|pair| pair.iter().all(u8::is_ascii_alphabetic));
                    let is_marked = before.ends_with("@tr(") || before.trim_end().ends_with("==");
                    let is_comment = before.contains("//");
                    if has_word && !is_marked && !is_comment && !UNTRANSLATED.contains(&text.as_str()) {
                        wrong.push(format!("{}:{}: {text:?}", file.display(), number + 1));
                    }
                    rest = after;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "use @tr:\n{}", wrong.join("\n"));
}

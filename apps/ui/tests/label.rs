//! Rules for Slint files that the compiler does not check.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

fn slint_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            slint_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "slint") {
            files.push(path);
        }
    }
}

/// A `Text` may not be repainted when its string changes. See `label.slint`.
#[test]
fn label_is_used_instead_of_text() {
    let apps = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for app in ["monitor", "patient", "ui"] {
        slint_files(&apps.join(app).join("ui"), &mut files);
    }
    assert!(files.len() > 20, "the Slint files are found");
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| !file.ends_with("ui/ui/label.slint")) {
        for (number, line) in fs::read_to_string(file).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let words: Vec<&str> =
                code.split(|letter: char| letter.is_whitespace() || letter == ':').collect();
            if words.windows(2).any(|pair| matches!(pair, ["Text", "{"] | ["inherits", "Text"])) {
                wrong.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "use Label of @ui/widgets.slint:\n{}", wrong.join("\n"));
}

//! Checks that the tests of both API documents share.

use std::collections::BTreeSet;

use serde_json::Value;

/// Fails if the checked-in document `<name>.json` is not `document`. With `BEDSIDE_UPDATE`, writes it.
pub(crate) fn assert_current(name: &str, document: &Value) {
    let file = format!("{name}.json");
    let made = format!("{document:#}\n");
    if std::env::var_os("BEDSIDE_UPDATE").is_some() {
        std::fs::write(&file, &made).unwrap();
    }
    let on_disk = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        on_disk == made,
        "{file} is not current; run `BEDSIDE_UPDATE=1 cargo test -p bedside-gateway --lib {name}` and review the change"
    );
}

/// Fails if a reference of the document does not resolve. Returns all references.
pub(crate) fn resolved_references(document: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    references(document, &mut found);
    for target in &found {
        let pointer = target.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{target}");
    }
    found
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(key, value)| match value.as_str() {
            Some(target) if key == "$ref" => drop(found.insert(target.to_owned())),
            _ => references(value, found),
        }),
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

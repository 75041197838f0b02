//! Compares the committed JSON Schemas with the types. `BEDSIDE_UPDATE=1 cargo test -p bedside-proto-json` updates them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn committed_schemas_match_the_types() {
    let folder = Path::new("schemas");
    let schemas = proto_json::schemas::all();
    if std::env::var_os("BEDSIDE_UPDATE").is_some() {
        for (name, schema) in &schemas {
            fs::write(folder.join(name), schema).unwrap();
        }
    }
    for (name, schema) in &schemas {
        let on_disk = fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(
            on_disk == *schema,
            "schemas/{name} differs from its type; run `BEDSIDE_UPDATE=1 cargo test -p bedside-proto-json` and review the change"
        );
    }
    let names: BTreeSet<String> = schemas.iter().map(|(name, _)| (*name).to_owned()).collect();
    let files: BTreeSet<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(files, names, "schemas/ contains exactly the schemas of the types");
}

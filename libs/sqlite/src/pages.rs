//! SQLite's own check of pages and indexes.

use rusqlite::Connection;

/// Checks a table with its indexes, or the whole file if `table` is `None`. Returns at most `most` messages of SQLite:
/// inconsistent pages, rows out of order, indexes that do not match their table.
///
/// # Errors
/// When the file cannot be read. Damage that ends the check early is a message, not an error.
pub fn check_pages(db: &Connection, table: Option<&str>, most: usize) -> rusqlite::Result<Vec<String>> {
    let argument = match table {
        Some(table) => format!("'{}'", table.replace('\'', "''")),
        None => most.to_string(),
    };
    let checked = || -> rusqlite::Result<Vec<String>> {
        let mut statement = db.prepare(&format!("PRAGMA integrity_check({argument})"))?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let message: String = row.get(0)?;
            if message != "ok" && found.len() < most {
                found.push(message);
            }
        }
        Ok(found)
    };
    match checked() {
        Err(error) if is_damage(&error) => Ok(vec![error.to_string()]),
        checked => checked,
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

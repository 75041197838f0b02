//! Rows with checksums.

use checksum::Fields;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row, ToSql};

/// A table whose rows carry a checksum, in a column `checksum` that is declared as `INTEGER NOT NULL`.
///
/// The column holds two CRC-32: that of the key in the upper half, and that of the whole row in the lower half. So the key of
/// a row with a damaged value can still be trusted, and a range of rows can be verified as complete: see [`Integrity::key`].
///
/// A checksum covers the name of the table and the names, types and values of all columns of [`Table::columns`] that are
/// not NULL. A column that is added later is NULL in older rows, and their checksums stay valid.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// The columns that the checksum covers, in the order in which rows are read and written. The key comes first.
    pub columns: &'static [&'static str],
    /// Number of columns of the key, by which rows are found and ordered.
    pub key: usize,
    /// The columns of the unique constraint that decides which row [`Table::put`] replaces.
    pub unique: &'static str,
}

/// Result of verifying a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Integrity {
    /// The columns of the key match their checksum.
    pub key: bool,
    /// All columns match their checksum.
    pub row: bool,
}

impl Table {
    /// A `SELECT` of all columns and the checksum. Clauses such as `WHERE` can be appended.
    #[must_use]
    pub fn select(&self) -> String {
        format!("SELECT {}, checksum FROM {}", self.columns.join(", "), self.name)
    }

    /// Inserts a row.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn insert(&self, db: &Connection, values: &[&dyn ToSql]) -> rusqlite::Result<()> {
        self.write(db, values, "")
    }

    /// Inserts a row, or replaces all columns of the row with the same unique columns.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn put(&self, db: &Connection, values: &[&dyn ToSql]) -> rusqlite::Result<()> {
        let mut replace =
            format!(" ON CONFLICT ({}) DO UPDATE SET checksum = excluded.checksum", self.unique);
        for column in self.columns {
            replace.push_str(&format!(", {column} = excluded.{column}"));
        }
        self.write(db, values, &replace)
    }

    fn write(&self, db: &Connection, values: &[&dyn ToSql], conflict: &str) -> rusqlite::Result<()> {
        let checksum = self.checksum_of(values)?;
        let marks = vec!["?"; self.columns.len() + 1].join(", ");
        let columns = self.columns.join(", ");
        let sql = format!("INSERT INTO {} ({columns}, checksum) VALUES ({marks}){conflict}", self.name);
        let values = values.iter().copied().chain(std::iter::once(&checksum as &dyn ToSql));
        db.prepare_cached(&sql)?.execute(rusqlite::params_from_iter(values)).map(drop)
    }

    /// Computes the checksums of all rows, for a table that had none before.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn seal(&self, db: &Connection) -> rusqlite::Result<()> {
        let unique: Vec<&str> = self.unique.split(", ").collect();
        let matches: Vec<String> = unique.iter().map(|column| format!("{column} = ?")).collect();
        let update = format!("UPDATE {} SET checksum = ? WHERE {}", self.name, matches.join(" AND "));
        let mut update = db.prepare(&update)?;
        let mut rows = db.prepare(&self.select())?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let checksum = self.checksum((0..self.columns.len()).map(|index| row.get_ref(index)))?;
            update.raw_bind_parameter(1, checksum)?;
            for (index, column) in (2..).zip(&unique) {
                let value = ToSqlOutput::Borrowed(row.get_ref(*column)?);
                update.raw_bind_parameter(index, value)?;
            }
            update.raw_execute()?;
        }
        Ok(())
    }

    /// The checksum of a row with these values.
    ///
    /// # Errors
    /// When a value cannot be stored.
    pub fn checksum_of(&self, values: &[&dyn ToSql]) -> rusqlite::Result<i64> {
        if values.len() != self.columns.len() {
            return Err(rusqlite::Error::InvalidParameterCount(values.len(), self.columns.len()));
        }
        let values = values.iter().map(|value| value.to_sql()).collect::<rusqlite::Result<Vec<_>>>()?;
        let values = values.iter().map(|value| match value {
            ToSqlOutput::Borrowed(value) => Ok(*value),
            ToSqlOutput::Owned(value) => Ok(ValueRef::from(value)),
            _ => Err(rusqlite::Error::InvalidQuery),
        });
        self.checksum(values)
    }

    /// Verifies a row that was read with [`Table::select`]. Further columns may follow.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn verify(&self, row: &Row<'_>) -> rusqlite::Result<Integrity> {
        let computed = self.checksum((0..self.columns.len()).map(|index| row.get_ref(index)))?;
        let ValueRef::Integer(stored) = row.get_ref(self.columns.len())? else {
            return Ok(Integrity { key: false, row: false });
        };
        let (key, row) = (computed >> 32 == stored >> 32, computed == stored);
        Ok(Integrity { key, row })
    }

    /// The key of a row as text for messages: `mrn 7`, or `id 0192…, mrn 7, at 1800000000000`. 16 bytes are shown as a UUID.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn name_of(&self, row: &Row<'_>) -> rusqlite::Result<String> {
        let mut name = String::new();
        for (index, column) in self.columns.iter().enumerate().take(self.key) {
            let separator = if index == 0 { "" } else { ", " };
            let value = match row.get_ref(index)? {
                ValueRef::Null => "nothing".to_owned(),
                ValueRef::Integer(number) => number.to_string(),
                ValueRef::Real(number) => number.to_string(),
                ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                ValueRef::Blob(bytes) => hexadecimal(bytes),
            };
            name.push_str(&format!("{separator}{column} {value}"));
        }
        Ok(name)
    }

    fn checksum<'a>(
        &self,
        values: impl Iterator<Item = rusqlite::Result<ValueRef<'a>>>,
    ) -> rusqlite::Result<i64> {
        let mut fields = Fields::of(self.name);
        let mut key = 0;
        for (index, (column, value)) in self.columns.iter().zip(values).enumerate() {
            match value? {
                ValueRef::Null => {}
                ValueRef::Integer(number) => fields.add(column, 1, &number.to_le_bytes()),
                ValueRef::Real(number) => fields.add(column, 2, &number.to_le_bytes()),
                ValueRef::Text(text) => fields.add(column, 3, text),
                ValueRef::Blob(bytes) => fields.add(column, 4, bytes),
            }
            if index + 1 == self.key {
                key = fields.clone().finish();
            }
        }
        Ok((u64::from(key) << 32 | u64::from(fields.finish())).cast_signed())
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        if bytes.len() == 16 && matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use rusqlite::params;

    use super::*;

    const RATES: Table = Table { name: "rates", columns: &["id", "bpm", "note"], key: 1, unique: "id" };

    fn database() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(
            "CREATE TABLE rates (id INTEGER PRIMARY KEY, bpm INTEGER, note TEXT, checksum INTEGER NOT NULL)",
        )
        .unwrap();
        db
    }

    fn read(db: &Connection, table: &Table) -> Vec<Integrity> {
        let mut statement = db.prepare(&format!("{} ORDER BY id", table.select())).unwrap();
        let rows = statement.query_map([], |row| table.verify(row)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    const INTACT: Integrity = Integrity { key: true, row: true };

    #[test]
    fn changed_value_is_distinguished_from_a_changed_key() {
        let db = database();
        for id in 1..=4 {
            RATES.insert(&db, params![id, 92, "at rest"]).unwrap();
        }
        RATES.put(&db, params![4, 93, None::<String>]).unwrap();
        assert_eq!(read(&db, &RATES), [INTACT; 4]);
        db.execute("UPDATE rates SET bpm = 32 WHERE id = 1", []).unwrap();
        db.execute("UPDATE rates SET note = NULL WHERE id = 2", []).unwrap();
        db.execute("UPDATE rates SET id = 7 WHERE id = 3", []).unwrap();
        let value = Integrity { key: true, row: false };
        let key = Integrity { key: false, row: false };
        assert_eq!(read(&db, &RATES), [value, value, INTACT, key]);
    }

    #[test]
    fn rows_without_checksums_are_sealed() {
        let db = database();
        db.execute_batch("INSERT INTO rates VALUES (1, 92, NULL, 0), (2, 93, 'at rest', 0)").unwrap();
        RATES.seal(&db).unwrap();
        assert_eq!(read(&db, &RATES), [INTACT; 2]);
    }

    #[test]
    fn column_that_is_added_later_leaves_older_rows_valid() {
        let db = database();
        RATES.insert(&db, params![1, 92, "at rest"]).unwrap();
        db.execute("ALTER TABLE rates ADD COLUMN source TEXT", []).unwrap();
        let later = Table { columns: &["id", "bpm", "note", "source"], ..RATES };
        later.insert(&db, params![2, 92, "at rest", "reported"]).unwrap();
        assert_eq!(read(&db, &later), [INTACT; 2]);
        db.execute("UPDATE rates SET source = 'reported' WHERE id = 1", []).unwrap();
        assert_eq!(read(&db, &later)[0], Integrity { key: true, row: false });
    }
}

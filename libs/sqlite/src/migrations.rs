//! The version of a file (`PRAGMA user_version`), and its migrations.
//!
//! Each migration is one transaction together with its version, so an interrupted migration continues at the next start.
//!
//! `rusqlite_migration` is not used: its current version (2.6) requires `rusqlite` 0.40 and Rust 1.95, and SQLite can be
//! linked only once. The checks of the program and of the oldest version, most of this file, would remain.

use rusqlite::{Connection, TransactionBehavior};

use crate::{Error, Format};

impl Format {
    /// The current version.
    fn newest(&self) -> i32 {
        self.first_version - 1 + self.migrations.len() as i32
    }

    /// The version of a file; `None` if the file is empty. Refuses files that cannot be migrated.
    pub(crate) fn identify(&self, db: &Connection) -> Result<Option<i32>, Error> {
        let pragma = |name| db.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        let (application, found) = (pragma("application_id")?, pragma("user_version")?);
        let is_empty: bool = db.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))?;
        if application != self.application_id && !(is_empty && application == 0) {
            Err(Error::OtherProgram(application))
        } else if found > self.newest() {
            Err(Error::TooNew { found, newest: self.newest() })
        } else if is_empty {
            Ok(None)
        } else if found < self.first_version {
            Err(Error::TooOld)
        } else {
            Ok(Some(found))
        }
    }

    /// For readers, which cannot migrate: refuses a file that is not of the current version.
    ///
    /// # Errors
    /// When it has another version, or cannot be read.
    pub fn check(&self, db: &Connection) -> Result<(), Error> {
        match self.identify(db)?.unwrap_or(0) {
            found if found == self.newest() => Ok(()),
            found => Err(Error::NotMigrated { found, newest: self.newest() }),
        }
    }

    pub(crate) fn migrate(&self, db: &mut Connection, version: Option<i32>) -> Result<(), Error> {
        for (next, script) in (self.first_version..).zip(self.migrations) {
            if version.is_none_or(|version| version < next) {
                let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
                transaction.execute_batch(script)?;
                transaction.pragma_update(None, "application_id", self.application_id)?;
                transaction.pragma_update(None, "user_version", next)?;
                transaction.commit()?;
                tracing::info!(file = self.name, schema = next, "database schema brought up to date");
            }
        }
        Ok(())
    }
}

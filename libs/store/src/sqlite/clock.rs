//! The highest time that the server's clock has shown, and records whose time is in the future.

use proto_json::{PatientSummary, Timestamp};
use rusqlite::{Connection, OptionalExtension};

use crate::{StoreError, records};

use super::rows::{self, Checked};
use super::uploads;

pub(super) fn highest(connection: &Connection) -> Result<Option<Timestamp>, StoreError> {
    let highest: Option<i64> =
        connection.prepare_cached("SELECT highest FROM clock")?.query_row([], |row| row.get(0)).optional()?;
    highest.map(rows::time).transpose()
}

/// Stores that the clock shows `now`, and returns the highest time it has shown.
pub(super) fn observe(connection: &Connection, now: Timestamp) -> Result<Timestamp, StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO clock (id, highest) VALUES (1, ?1)
             ON CONFLICT (id) DO UPDATE SET highest = excluded.highest WHERE excluded.highest > highest",
        )?
        .execute([now.as_millis()])?;
    Ok(highest(connection)?.unwrap_or(now))
}

pub(super) fn accept(connection: &Connection, now: Timestamp) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO clock (id, highest) VALUES (1, ?1)")?
        .execute([now.as_millis()])?;
    Ok(())
}

/// Marks latest records whose time is in the future. Reads all patients, so it runs only after a clock was wrong. Skips
/// damaged patients.
pub(super) fn mark_wrong(connection: &Connection, now: Timestamp) -> Result<Vec<PatientSummary>, StoreError> {
    let mut statement = connection.prepare_cached(&rows::PATIENTS.select())?;
    let mut found = statement.query([])?;
    let mut marked = Vec::new();
    while let Some(row) = found.next()? {
        let mut patient = match rows::checked(&rows::PATIENTS, row, rows::patient)? {
            Checked::Intact(patient) => patient,
            Checked::Damaged(record) => {
                tracing::error!(
                    kind = record.kind.name(),
                    "a damaged patient is not checked for wrong times"
                );
                continue;
            }
        };
        if records::mark_clock_wrong(&mut patient, now) {
            patient.version += 1;
            marked.push(patient);
        }
    }
    for patient in &marked {
        uploads::write_patient(connection, patient)?;
    }
    Ok(marked)
}

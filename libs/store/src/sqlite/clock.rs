//! The highest time the server's clock has shown, and records from its future.

use proto_json::{CLOCK_TOLERANCE_MS, PatientSummary, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{StoreError, records};

use super::{rows, uploads};

pub(super) fn highest(connection: &Connection) -> Result<Option<Timestamp>, StoreError> {
    let highest: Option<i64> =
        connection.prepare_cached("SELECT highest FROM clock")?.query_row([], |row| row.get(0)).optional()?;
    highest.map(rows::time).transpose()
}

/// Notes that the clock shows `now`, and gives the highest time it has shown.
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

/// Times are stored as RFC 3339 with three digits of milliseconds in UTC, so text is in the order of time.
const FROM_THE_FUTURE: &str = "
    (json_extract({column}, '$.at') > ?1 AND json_extract({column}, '$.clock_wrong') IS NULL)";

/// Marks latest records whose time is in the future. Reads all patients: it is for when a clock was wrong.
pub(super) fn mark_wrong(connection: &Connection, now: Timestamp) -> Result<Vec<PatientSummary>, StoreError> {
    let conditions = ["latest_heart_rate", "latest_ecg", "latest_image"]
        .map(|column| FROM_THE_FUTURE.replace("{column}", column))
        .join(" OR ");
    let sql = format!("SELECT {} FROM patients WHERE {conditions}", rows::PATIENT);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query(params![now.plus_millis(CLOCK_TOLERANCE_MS).to_string()])?;
    let mut marked = Vec::new();
    while let Some(row) = found.next()? {
        let mut patient = rows::patient(row)?;
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

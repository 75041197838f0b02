//! Alarms in the SQLite file.
//!
//! The writer thread executes one write after the other, so a check and the write that depends on it cannot be interrupted by
//! another write. The lease is in memory: only this process has the file open.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use proto_json::alarms::{Alarm, AlarmAction, AlarmLimits, LimitScope};
use proto_json::{Cursor, RecordId};
use rusqlite::{Connection, Row, ToSql, params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::alarms::{
    AlarmList, AlarmQuery, AlarmStore, AlarmWrite, LimitsWrite, MAX_OPEN_ALARMS, ReceiverState, RuleState,
    ScopeLimits,
};
use crate::records::Position;
use crate::{PageRequest, StoreError};

use super::failure::broken;
use super::rows::{self, ALARM_LIMITS, ALARM_RECEIVERS, ALARM_RULES, ALARMS, Checked, checked, required};
use super::{SqliteStore, corrections};

/// A lease: who has it, and until when.
pub(super) type Lease = std::sync::Mutex<Option<(Uuid, Instant)>>;

/// What the column `record` of [`ALARM_LIMITS`] contains.
#[derive(Serialize, Deserialize)]
struct LimitsRecord {
    limits: AlarmLimits,
    changed: AlarmAction,
}

fn id(id: RecordId) -> [u8; 16] {
    *id.as_uuid().as_bytes()
}

fn version(version: u64) -> Result<i64, StoreError> {
    i64::try_from(version).map_err(|error| broken("version", error))
}

fn alarm(row: &Row<'_>) -> Result<Alarm, StoreError> {
    rows::parse(&row.get::<_, String>("record")?)
}

/// Reads the rows of a query. Damaged rows are logged and omitted.
fn intact<T>(
    db: &Connection,
    table: &sqlite::Table,
    clauses: &str,
    values: &[&dyn ToSql],
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = db.prepare_cached(&format!("{} {clauses}", table.select()))?;
    let mut found = statement.query(values)?;
    let mut items = Vec::new();
    while let Some(row) = found.next()? {
        match checked(table, row, &read)? {
            Checked::Intact(item) => items.push(item),
            Checked::Damaged(record) => {
                tracing::error!(kind = record.kind.name(), "a damaged record is omitted");
            }
        }
    }
    Ok(items)
}

fn find(db: &Connection, clauses: &str, values: &[&dyn ToSql]) -> Result<Option<Alarm>, StoreError> {
    let mut statement = db.prepare_cached(&format!("{} {clauses}", ALARMS.select()))?;
    let mut found = statement.query(values)?;
    found.next()?.map(|row| required(&ALARMS, row, alarm)).transpose()
}

fn open_alarms(db: &Connection) -> Result<Vec<Alarm>, StoreError> {
    let clauses = "WHERE is_open = 1 ORDER BY mrn, rule LIMIT ?1";
    intact(db, &ALARMS, clauses, &[&(MAX_OPEN_ALARMS as i64)], alarm)
}

fn list(
    db: &Connection,
    query: AlarmQuery,
    after: Option<Position>,
    limit: usize,
) -> Result<AlarmList, StoreError> {
    let mut conditions: Vec<&str> = Vec::new();
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    if let Some(mrn) = query.mrn {
        conditions.push("mrn = ?");
        values.push(Box::new(rows::number(mrn)));
    }
    if let Some(priority) = query.priority {
        conditions.push("priority = ?");
        values.push(Box::new(priority.name()));
    }
    if let Some(is_open) = query.is_open {
        // The partial index of open alarms is used only for this text.
        conditions.push(if is_open { "is_open = 1" } else { "is_open = 0" });
    }
    if let Some((at, before)) = after {
        conditions.push("(raised_at, id) < (?, ?)");
        values.push(Box::new(at.as_millis()));
        values.push(Box::new(id(before)));
    }
    let mut clauses = String::new();
    if !conditions.is_empty() {
        clauses = format!("WHERE {} ", conditions.join(" AND "));
    }
    clauses.push_str("ORDER BY raised_at DESC, id DESC LIMIT ?");
    values.push(Box::new((limit + 1) as i64));
    let values: Vec<&dyn ToSql> = values.iter().map(|value| &**value).collect();
    Ok(page(intact(db, &ALARMS, &clauses, &values, alarm)?, limit))
}

/// Makes a page of alarms that were read with one more than the limit.
fn page(mut items: Vec<Alarm>, limit: usize) -> AlarmList {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| Cursor::Record(last.raised_at, last.id));
    AlarmList { items, next }
}

fn put(db: &Connection, alarm: &Alarm) -> Result<AlarmWrite, StoreError> {
    let stored = find(db, "WHERE id = ?1", &[&id(alarm.id)])?;
    match stored {
        Some(stored) if stored == *alarm => return Ok(AlarmWrite::Stored),
        Some(stored) if stored.version + 1 != alarm.version => {
            return Ok(AlarmWrite::Conflict(Box::new(stored)));
        }
        None if alarm.version != 1 => return Err(StoreError::refused("an alarm to change is not stored")),
        None if corrections::is_number_erased(db, alarm.mrn)? => return Ok(AlarmWrite::Erased),
        _ => {}
    }
    if alarm.is_open() {
        let clauses = "WHERE mrn = ?1 AND rule = ?2 AND is_open = 1 AND id <> ?3";
        let other = find(db, clauses, &[&rows::number(alarm.mrn), &alarm.rule.name(), &id(alarm.id)])?;
        if let Some(other) = other {
            return Ok(AlarmWrite::Conflict(Box::new(other)));
        }
    }
    ALARMS.put(
        db,
        params![
            id(alarm.id),
            rows::number(alarm.mrn),
            alarm.rule.name(),
            alarm.raised_at.as_millis(),
            alarm.priority.name(),
            i64::from(alarm.is_open()),
            version(alarm.version)?,
            rows::json(alarm)?,
        ],
    )?;
    Ok(AlarmWrite::Stored)
}

fn scope_limits(row: &Row<'_>) -> Result<ScopeLimits, StoreError> {
    let scope: LimitScope = row.get::<_, String>("scope")?.parse().map_err(|error| broken("scope", error))?;
    let LimitsRecord { limits, changed } = rows::parse(&row.get::<_, String>("record")?)?;
    let version = u64::try_from(row.get::<_, i64>("version")?).map_err(|error| broken("version", error))?;
    Ok(ScopeLimits { scope, limits, version, changed })
}

fn limits(db: &Connection, clauses: &str, values: &[&dyn ToSql]) -> Result<Vec<ScopeLimits>, StoreError> {
    let mut statement = db.prepare_cached(&format!("{} {clauses}", ALARM_LIMITS.select()))?;
    let mut found = statement.query(values)?;
    let mut limits = Vec::new();
    while let Some(row) = found.next()? {
        limits.push(required(&ALARM_LIMITS, row, scope_limits)?);
    }
    Ok(limits)
}

fn put_limits(db: &Connection, new: &ScopeLimits) -> Result<LimitsWrite, StoreError> {
    let scope = new.scope.to_string();
    let stored = limits(db, "WHERE scope = ?1", &[&scope])?.first().map_or(0, |stored| stored.version);
    if stored + 1 != new.version {
        return Ok(LimitsWrite::Conflict(stored));
    }
    let record = rows::json(&LimitsRecord { limits: new.limits, changed: new.changed.clone() })?;
    ALARM_LIMITS.put(db, params![scope, version(new.version)?, record])?;
    Ok(LimitsWrite::Stored(new.clone()))
}

fn rule_state(row: &Row<'_>) -> Result<RuleState, StoreError> {
    Ok(RuleState { mrn: rows::mrn(row.get("mrn")?)?, state: row.get("state")? })
}

fn receiver_state(row: &Row<'_>) -> Result<ReceiverState, StoreError> {
    Ok(ReceiverState { receiver: row.get("receiver")?, state: row.get("state")? })
}

#[async_trait]
impl AlarmStore for SqliteStore {
    async fn alarm(&self, of: RecordId) -> Result<Option<Alarm>, StoreError> {
        self.readers.read(move |db| find(db, "WHERE id = ?1", &[&id(of)])).await
    }

    async fn open_alarms(&self) -> Result<Vec<Alarm>, StoreError> {
        self.readers.read(open_alarms).await
    }

    async fn alarms(&self, query: AlarmQuery, request: PageRequest) -> Result<AlarmList, StoreError> {
        let (after, limit) = (request.after_record()?, request.size());
        self.readers.read(move |db| list(db, query, after, limit)).await
    }

    async fn put_alarm(&self, alarm: &Alarm) -> Result<AlarmWrite, StoreError> {
        let alarm = alarm.clone();
        self.writer.write(move |db| put(db, &alarm)).await
    }

    async fn limits(&self) -> Result<Vec<ScopeLimits>, StoreError> {
        self.readers.read(|db| limits(db, "ORDER BY scope", &[])).await
    }

    async fn put_limits(
        &self,
        scope: LimitScope,
        limits: AlarmLimits,
        version: u64,
        changed: AlarmAction,
    ) -> Result<LimitsWrite, StoreError> {
        let new = ScopeLimits { scope, limits, version: version.saturating_add(1), changed };
        self.writer.write(move |db| put_limits(db, &new)).await
    }

    async fn rule_states(&self) -> Result<Vec<RuleState>, StoreError> {
        self.readers.read(|db| intact(db, &ALARM_RULES, "ORDER BY mrn", &[], rule_state)).await
    }

    async fn put_rule_states(&self, states: Vec<RuleState>) -> Result<(), StoreError> {
        self.writer
            .write(move |db| {
                for RuleState { mrn, state } in &states {
                    let mrn = rows::number(*mrn);
                    if state.is_empty() {
                        db.prepare_cached("DELETE FROM alarm_rules WHERE mrn = ?1")?.execute([mrn])?;
                    } else {
                        ALARM_RULES.put(db, params![mrn, state])?;
                    }
                }
                Ok(())
            })
            .await
    }

    async fn receiver_states(&self) -> Result<Vec<ReceiverState>, StoreError> {
        self.readers.read(|db| intact(db, &ALARM_RECEIVERS, "ORDER BY receiver", &[], receiver_state)).await
    }

    async fn put_receiver_state(&self, state: ReceiverState) -> Result<(), StoreError> {
        self.writer.write(move |db| Ok(ALARM_RECEIVERS.put(db, params![state.receiver, state.state])?)).await
    }

    async fn lease_alarms(&self, holder: Uuid, lease: Duration) -> Result<bool, StoreError> {
        let mut held = self.alarm_lease.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if held.is_some_and(|(other, until)| other != holder && until > now) {
            return Ok(false);
        }
        *held = Some((holder, now + lease));
        Ok(true)
    }

    async fn release_alarms(&self, holder: Uuid) -> Result<(), StoreError> {
        let mut held = self.alarm_lease.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_some_and(|(other, _)| other == holder) {
            *held = None;
        }
        Ok(())
    }
}

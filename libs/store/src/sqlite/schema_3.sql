-- Alarms, their limits, and the state of their rules.

CREATE TABLE alarms (
    id        BLOB PRIMARY KEY,
    mrn       INTEGER NOT NULL,
    rule      TEXT NOT NULL,
    raised_at INTEGER NOT NULL,
    priority  TEXT NOT NULL,
    is_open   INTEGER NOT NULL,
    version   INTEGER NOT NULL,
    record    TEXT NOT NULL,     -- JSON
    checksum  INTEGER NOT NULL
);
CREATE INDEX alarm_history ON alarms (raised_at, id);
CREATE INDEX alarm_history_of_patient ON alarms (mrn, raised_at, id);
CREATE INDEX alarm_history_of_priority ON alarms (priority, raised_at, id);
-- At most one open alarm of a patient and a rule.
CREATE UNIQUE INDEX alarm_open ON alarms (mrn, rule) WHERE is_open = 1;

CREATE TABLE alarm_limits (
    scope    TEXT PRIMARY KEY,
    version  INTEGER NOT NULL,
    record   TEXT NOT NULL,      -- JSON
    checksum INTEGER NOT NULL
);

CREATE TABLE alarm_rules (
    mrn      INTEGER PRIMARY KEY,
    state    TEXT NOT NULL,      -- JSON
    checksum INTEGER NOT NULL
);

-- The audit: see audit.rs. Times are milliseconds since 1970.

CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    mrn    INTEGER,
    client TEXT NOT NULL,
    event  TEXT NOT NULL,  -- JSON; the hash covers this text
    hash   BLOB NOT NULL
);
CREATE INDEX audit_of_patient ON audit (mrn, number) WHERE mrn IS NOT NULL;
CREATE INDEX audit_of_client ON audit (client, number);

CREATE TABLE head (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    number INTEGER NOT NULL,
    hash   BLOB NOT NULL
);

-- The last batch of each gateway process: a batch that is sent again is stored once.
CREATE TABLE batches (
    gateway BLOB PRIMARY KEY,
    batch   INTEGER NOT NULL,
    at      INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN SELECT raise(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit BEGIN SELECT raise(ABORT, 'the audit is append-only'); END;

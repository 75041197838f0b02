-- Times are milliseconds since 1970 in UTC, ids the 16 bytes of a UUID, hashes the 32 bytes of a SHA-256. Each row carries
-- a checksum of its values: see libs/sqlite.

CREATE TABLE patients (
    mrn               INTEGER PRIMARY KEY,
    name              TEXT,
    name_key          TEXT,             -- the name without case, for searching
    version           INTEGER NOT NULL,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    latest_heart_rate TEXT,             -- JSON, as in the patient's summary
    latest_ecg        TEXT,
    latest_image      TEXT,
    renamed           TEXT,             -- JSON: the last change of the name
    checksum          INTEGER NOT NULL
);

CREATE TABLE former_names (
    mrn         INTEGER NOT NULL,
    replaced_at INTEGER NOT NULL,
    upload_id   BLOB NOT NULL,
    name        TEXT NOT NULL,
    confirmed   INTEGER NOT NULL,
    checksum    INTEGER NOT NULL,
    PRIMARY KEY (mrn, replaced_at, upload_id)
) WITHOUT ROWID;

-- A heart rate is only read as part of a history, so the order of the history is its key.
CREATE TABLE heart_rates (
    mrn         INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    id          BLOB NOT NULL,
    bpm         INTEGER NOT NULL,
    source      TEXT NOT NULL,
    ecg_id      BLOB,
    received_at INTEGER,
    recorded_at INTEGER,
    checksum    INTEGER NOT NULL,
    PRIMARY KEY (mrn, at, id)
) WITHOUT ROWID;

CREATE TABLE ecgs (
    id          BLOB NOT NULL UNIQUE,
    mrn         INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    pending     INTEGER NOT NULL,       -- 1 while it waits for its analysis
    record      TEXT NOT NULL,          -- JSON of the whole record
    options     TEXT,                   -- JSON: how to read the signal; only while pending
    checksum    INTEGER NOT NULL
);
CREATE INDEX ecg_history ON ecgs (mrn, at, id);
CREATE INDEX ecg_pending ON ecgs (received_at, id) WHERE pending = 1;

CREATE TABLE images (
    id        BLOB NOT NULL UNIQUE,
    mrn       INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    upload_id BLOB NOT NULL,
    file      TEXT NOT NULL,            -- JSON
    checksum  INTEGER NOT NULL
);
CREATE INDEX image_history ON images (mrn, at, id);

CREATE TABLE uploads (
    id          BLOB NOT NULL UNIQUE,
    mrn         INTEGER NOT NULL,
    fingerprint BLOB NOT NULL,
    stored_at   INTEGER NOT NULL,
    receipt     TEXT NOT NULL,          -- JSON
    uploaded_by TEXT,                   -- name of the client that sent it
    checksum    INTEGER NOT NULL
);

-- A file belongs to one upload. It becomes visible when all of its chunks are written: complete = 1. Files that are not
-- complete when the store is opened were interrupted and are removed. A file that no record refers to (referenced = 0) is
-- orphaned: the sweep removes it from a certain age on.
CREATE TABLE blobs (
    number     INTEGER PRIMARY KEY,
    upload     BLOB NOT NULL,
    sha256     BLOB NOT NULL,
    bytes      INTEGER NOT NULL,
    complete   INTEGER NOT NULL,
    referenced INTEGER NOT NULL,
    written_at INTEGER NOT NULL,
    checksum   INTEGER NOT NULL
);
CREATE UNIQUE INDEX blob_visible ON blobs (upload, sha256) WHERE complete = 1;
CREATE INDEX blob_incomplete ON blobs (number) WHERE complete = 0;
CREATE INDEX blob_orphaned ON blobs (written_at) WHERE complete = 1 AND referenced = 0;

-- Chunk n of blob b has the key b * 2^20 + n: one tree without a further index, and neighbours are stored together.
CREATE TABLE blob_chunks (
    key      INTEGER PRIMARY KEY,
    data     BLOB NOT NULL,
    checksum INTEGER NOT NULL
);

-- The highest time that the server's clock has shown: at most one row.
CREATE TABLE clock (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    highest INTEGER NOT NULL
);

-- Progress of the background scrub: at most one row.
CREATE TABLE scrub (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    state TEXT NOT NULL
);

-- Times are milliseconds since 1970 in UTC, ids the 16 bytes of a UUID, hashes the 32 bytes of a SHA-256.

CREATE TABLE patients (
    mrn               INTEGER PRIMARY KEY,
    name              TEXT,
    name_key          TEXT,             -- the name without case, for searching
    version           INTEGER NOT NULL,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    latest_heart_rate TEXT,             -- JSON, as in the patient's summary
    latest_ecg        TEXT,
    latest_image      TEXT
);

-- A heart rate is only ever read as part of a history, so the history's order is its key.
CREATE TABLE heart_rates (
    mrn    INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    id     BLOB NOT NULL,
    bpm    INTEGER NOT NULL,
    source TEXT NOT NULL,
    ecg_id BLOB,
    PRIMARY KEY (mrn, at, id)
) WITHOUT ROWID;

CREATE TABLE ecgs (
    id          BLOB NOT NULL UNIQUE,
    mrn         INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    pending     INTEGER NOT NULL,       -- 1 while it waits for its analysis
    record      TEXT NOT NULL,          -- JSON of the whole record
    options     TEXT                    -- JSON: how to read the signal; only while pending
);
CREATE INDEX ecg_history ON ecgs (mrn, at, id);
CREATE INDEX ecg_pending ON ecgs (received_at, id) WHERE pending = 1;

CREATE TABLE images (
    id        BLOB NOT NULL UNIQUE,
    mrn       INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    upload_id BLOB NOT NULL,
    file      TEXT NOT NULL             -- JSON
);
CREATE INDEX image_history ON images (mrn, at, id);

CREATE TABLE uploads (
    id          BLOB NOT NULL UNIQUE,
    mrn         INTEGER NOT NULL,
    fingerprint BLOB NOT NULL,
    stored_at   INTEGER NOT NULL,
    receipt     TEXT NOT NULL           -- JSON
);

-- A file becomes visible when the last of it is there: complete = 1. What is not complete when the store is opened was
-- cut off and is removed.
CREATE TABLE blobs (
    number   INTEGER PRIMARY KEY,
    sha256   BLOB NOT NULL,
    bytes    INTEGER NOT NULL,
    complete INTEGER NOT NULL
);
CREATE UNIQUE INDEX blob_visible ON blobs (sha256) WHERE complete = 1;
CREATE INDEX blob_cut_off ON blobs (number) WHERE complete = 0;

-- Chunk n of blob b has the key b * 2^20 + n: one tree, no index beside it, neighbours lie together.
CREATE TABLE blob_chunks (
    key  INTEGER PRIMARY KEY,
    data BLOB NOT NULL
);

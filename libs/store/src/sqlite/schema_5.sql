-- The last change of a patient's name, as JSON, and the names that a patient had before.
ALTER TABLE patients ADD COLUMN renamed TEXT;
CREATE TABLE former_names (
    mrn         INTEGER NOT NULL,
    replaced_at INTEGER NOT NULL,
    upload_id   BLOB NOT NULL,
    name        TEXT NOT NULL,
    confirmed   INTEGER NOT NULL,
    checksum    INTEGER NOT NULL,
    PRIMARY KEY (mrn, replaced_at, upload_id)
) WITHOUT ROWID;

-- Each row carries a checksum of its values: see libs/sqlite. Rows that are there get theirs after this script.
ALTER TABLE patients ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE heart_rates ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ecgs ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE images ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE uploads ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE blobs ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE blob_chunks ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;

-- How far the background check of all records has come: one row.
CREATE TABLE scrub (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    state TEXT NOT NULL
);

-- Corrections, merges and erasures.

ALTER TABLE heart_rates ADD COLUMN error TEXT;       -- JSON: who has marked it as entered in error, when and why
ALTER TABLE images ADD COLUMN error TEXT;
ALTER TABLE uploads ADD COLUMN addressed_to INTEGER; -- number in the request, if the upload belongs to another patient now
CREATE INDEX heart_rate_ids ON heart_rates (id);
CREATE INDEX upload_patients ON uploads (mrn, id);

CREATE TABLE corrections (
    id       BLOB NOT NULL UNIQUE,
    at       INTEGER NOT NULL,
    running  INTEGER NOT NULL,          -- 1 until everything is done
    content  TEXT NOT NULL,             -- JSON
    checksum INTEGER NOT NULL
);
CREATE INDEX correction_running ON corrections (at) WHERE running = 1;

CREATE TABLE correction_patients (
    mrn      INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    id       BLOB NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (mrn, at, id)
) WITHOUT ROWID;

-- What has become of numbers without a patient. An erased number stays here for ever.
CREATE TABLE fates (
    mrn      INTEGER PRIMARY KEY,
    content  TEXT NOT NULL,             -- JSON
    checksum INTEGER NOT NULL
);

-- Ids of the uploads and streams of erased patients: what arrives late is not stored.
CREATE TABLE erased (
    id       BLOB NOT NULL UNIQUE,
    checksum INTEGER NOT NULL
);

-- Patients that are protected from erasure and retention.
CREATE TABLE holds (
    mrn      INTEGER PRIMARY KEY,
    checksum INTEGER NOT NULL
);

-- What a merge has moved.
CREATE TABLE merged_items (
    merge    BLOB NOT NULL,
    kind     INTEGER NOT NULL,          -- 0: upload, 1: stream
    id       BLOB NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (merge, kind, id)
) WITHOUT ROWID;

-- Wards, beds, admissions and details of patients.

ALTER TABLE patients ADD COLUMN admission TEXT;   -- JSON: where the patient is
ALTER TABLE patients ADD COLUMN details TEXT;     -- JSON

CREATE TABLE wards (
    id       BLOB NOT NULL UNIQUE,
    name_key TEXT NOT NULL UNIQUE,      -- the name without case
    record   TEXT NOT NULL,             -- JSON of the ward with its beds and their occupants
    checksum INTEGER NOT NULL
);

-- The ward of each bed.
CREATE TABLE beds (
    id       BLOB NOT NULL UNIQUE,
    ward     BLOB NOT NULL,
    checksum INTEGER NOT NULL
);

-- Stays of patients in beds.
CREATE TABLE admissions (
    id       BLOB NOT NULL UNIQUE,
    mrn      INTEGER NOT NULL,
    at       INTEGER NOT NULL,          -- when it began
    bed      BLOB,                      -- while it has not ended
    record   TEXT NOT NULL,             -- JSON of the whole record
    checksum INTEGER NOT NULL
);
CREATE INDEX admission_history ON admissions (mrn, at, id);
CREATE UNIQUE INDEX admission_of_bed ON admissions (bed) WHERE bed IS NOT NULL;
CREATE UNIQUE INDEX admission_of_patient ON admissions (mrn) WHERE bed IS NOT NULL;

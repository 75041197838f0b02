//! The format of the queue file.

use rusqlite::{Connection, OptionalExtension};
use sqlite::{ChunkTable, Format, Table};

/// Payloads are the last columns, so that the index of all messages is loaded without reading them. Chunks
/// without a row in `blobs` belong to an interrupted put. Chunks have no checksum, because a file is verified
/// against its hash when it is read.
const SCHEMA: &str = "
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY,
        queue INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        enqueued_at INTEGER NOT NULL,
        mrn INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        reply_to TEXT,
        trace_parent TEXT,
        payload BLOB NOT NULL
    );
    CREATE TABLE dead_letters (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        queue INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        died_at INTEGER NOT NULL,
        mrn INTEGER NOT NULL,
        damaged INTEGER,
        checksum INTEGER NOT NULL,
        reason TEXT NOT NULL,
        trace_parent TEXT,
        payload BLOB NOT NULL
    );
    CREATE TABLE blobs (
        id INTEGER PRIMARY KEY,
        upload BLOB NOT NULL,
        sha256 BLOB NOT NULL,
        bytes INTEGER NOT NULL,
        staged_at INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        UNIQUE (upload, sha256)
    );
    CREATE TABLE chunks (
        id INTEGER PRIMARY KEY,
        bytes BLOB NOT NULL
    );
";

/// Version 2 kept idempotency reservations.
const TO_VERSION_3: &str = "DROP TABLE IF EXISTS claims";

/// Live waveforms, and what each group of consumers has acknowledged in each partition. Rows are only appended, and deleted
/// from the beginning. No index: it would double what each commit writes, and the log is read from its end or as a whole.
const TO_VERSION_4: &str = "
    CREATE TABLE waves (
        id INTEGER PRIMARY KEY,
        stored_at INTEGER NOT NULL,
        partition INTEGER NOT NULL,
        mrn INTEGER NOT NULL,
        stream TEXT NOT NULL,
        kind INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        time_us INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        payload BLOB NOT NULL
    );
    CREATE TABLE wave_floors (
        consumer INTEGER NOT NULL,
        partition INTEGER NOT NULL,
        acked INTEGER NOT NULL,
        PRIMARY KEY (consumer, partition)
    ) WITHOUT ROWID;
";

pub(super) static FORMAT: Format = Format {
    name: "queues",
    application_id: 0x4264_7342, // "BdsB"
    first_version: 2,
    migrations: &[SCHEMA, TO_VERSION_3, TO_VERSION_4],
    syncs_commits: true,
    checkpoint_pages: 4_000,
    max_log_bytes: 64 << 20,
    truncates_log: true,
    overwrites_free_pages: false,
    shrinks: true,
    chunks: CHUNKS,
};

/// The chunks of staged files.
pub(super) const CHUNKS: ChunkTable = ChunkTable {
    table: Table { name: "chunks", columns: &["id", "bytes"], key: 1, unique: "id" },
    has_checksums: false,
    is_visible: has_row,
    forget: |_, _| Ok(()),
};

fn has_row(db: &Connection, blob: i64) -> rusqlite::Result<bool> {
    let mut statement = db.prepare_cached("SELECT 1 FROM blobs WHERE id = ?1")?;
    statement.query_row([blob], |_| Ok(())).optional().map(|row| row.is_some())
}

/// The checksum does not cover `attempts`, which changes with each delivery. If it is damaged, a message may
/// be dead-lettered too early; it can then be retried.
pub(super) const MESSAGES: Table = Table {
    name: "messages",
    columns: &["id", "queue", "enqueued_at", "mrn", "reply_to", "trace_parent", "payload"],
    key: 1,
    unique: "id",
};

pub(super) const DEAD_LETTERS: Table = Table {
    name: "dead_letters",
    columns: &["id", "queue", "attempts", "died_at", "mrn", "reason", "trace_parent", "payload", "damaged"],
    key: 1,
    unique: "id",
};

pub(super) const WAVES: Table = Table {
    name: "waves",
    columns: &["id", "stored_at", "partition", "mrn", "stream", "kind", "sequence", "time_us", "payload"],
    key: 1,
    unique: "id",
};

pub(super) const BLOBS: Table =
    Table { name: "blobs", columns: &["id", "upload", "sha256", "bytes", "staged_at"], key: 3, unique: "id" };

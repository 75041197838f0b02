//! The format of the database file.

use sqlite::Format;

use super::blobs;

/// `BEDS`: the application id of a version whose data this program does not read.
pub(super) const FORMER_APPLICATION_ID: i32 = 0x4245_4453;

/// Migrations are appended: script N converts version N-1 to N.
pub(super) static FORMAT: Format = Format {
    name: "store",
    application_id: 0x4245_4432, // `BED2`
    first_version: 1,
    migrations: &[
        include_str!("schema_1.sql"),
        include_str!("schema_2.sql"),
        include_str!("schema_3.sql"),
        include_str!("schema_4.sql"),
        include_str!("schema_5.sql"),
        include_str!("schema_6.sql"),
        include_str!("schema_7.sql"),
    ],
    syncs_commits: true,
    checkpoint_pages: 2_000,
    max_log_bytes: 16 << 20,
    truncates_log: false,
    overwrites_free_pages: true,
    shrinks: false,
    chunks: blobs::CHUNKS,
};

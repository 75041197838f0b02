//! In process, durable in one SQLite file.

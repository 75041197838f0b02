//! Uploads: reads and validates the fields and files of a request, stages them, and submits the upload to the
//! queue.

pub(crate) mod arriving_file;
pub(crate) mod dead_letters;
pub(crate) mod ecg_file;
pub(crate) mod fields;
pub(crate) mod handler;
pub(crate) mod image;
pub(crate) mod names;
pub(crate) mod options;
pub(crate) mod preview;
pub(crate) mod spool;
pub(crate) mod submit;

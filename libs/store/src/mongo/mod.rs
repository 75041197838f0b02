//! MongoDB with GridFS.

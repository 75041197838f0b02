//! Consistent copies of a file that is in use.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::file::create_private;
use crate::{Error, open_reader};

/// Copies a consistent state of the file `from` to `to`, which must not exist. Writers go on meanwhile.
///
/// # Errors
/// When one of them cannot be read or written.
pub fn snapshot(from: &Path, to: &Path) -> Result<(), Error> {
    let failed = |cause| Error::Copy { from: from.to_owned(), to: to.to_owned(), cause: Arc::new(cause) };
    // Created here with access for the owner only; SQLite treats an empty file as a missing one.
    create_private(to).map_err(failed)?;
    let copied = open_reader(from).and_then(|db| {
        db.busy_timeout(Duration::from_secs(30))?;
        // To SQLite, the copy is a write.
        db.pragma_update(None, "query_only", false)?;
        db.execute("VACUUM INTO ?1", [to.to_string_lossy()])
    });
    match copied {
        // SQLite does not sync the copy.
        Ok(_) => File::open(to).and_then(|file| file.sync_all()).map_err(failed),
        Err(error) => {
            let _ = fs::remove_file(to);
            Err(error.into())
        }
    }
}

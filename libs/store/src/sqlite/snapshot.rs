//! Consistent copies of an SQLite file that is in use.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::StoreError;

/// Copies a consistent state of the file `from` to `to`, which must not exist. Writers go on meanwhile.
///
/// # Errors
/// When one of them cannot be read or written.
pub fn snapshot(from: &Path, to: &Path) -> Result<(), StoreError> {
    let cannot = |error: std::io::Error| {
        StoreError::unavailable(format!("{} cannot be copied to {}: {error}", from.display(), to.display()))
    };
    // Created here with access for the owner only; SQLite treats an empty file as a missing one.
    private(to).map_err(cannot)?;
    let made = || -> rusqlite::Result<usize> {
        let db = Connection::open_with_flags(
            from,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        db.busy_timeout(std::time::Duration::from_secs(30))?;
        db.execute("VACUUM INTO ?1", [to.to_string_lossy()])
    };
    match made() {
        // SQLite does not sync the copy.
        Ok(_) => File::open(to).and_then(|file| file.sync_all()).map_err(cannot),
        Err(error) => {
            let _ = fs::remove_file(to);
            Err(error.into())
        }
    }
}

fn private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

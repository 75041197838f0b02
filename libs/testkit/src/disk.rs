//! A small file system that tests can fill.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A tmpfs. Dropping it unmounts it.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Creates a directory and mounts a file system of 512 MB on it.
    ///
    /// # Panics
    /// If mounting is not permitted: it needs root.
    #[must_use]
    pub fn mount(folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("a directory for the mount");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=512m", "tmpfs"]).arg(folder).output();
        match mounted {
            Ok(output) if output.status.success() => SmallDisk { folder: folder.to_owned() },
            Ok(output) => panic!(
                "a small disk cannot be mounted; run this test as root: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ),
            Err(error) => panic!("a small disk cannot be mounted: {error}"),
        }
    }

    /// The mount point.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Fills the free space.
    ///
    /// # Panics
    /// If no file can be created on it.
    pub fn fill(&self) {
        let mut ballast = self.open_ballast();
        for size in [1 << 20, 4096, 1] {
            let piece = vec![0_u8; size];
            while ballast.write_all(&piece).is_ok() {}
        }
    }

    /// Uses `bytes` of the free space.
    ///
    /// # Panics
    /// If less is free.
    pub fn take(&self, bytes: u64) {
        let mut ballast = self.open_ballast();
        let copied = std::io::copy(&mut std::io::repeat(0).take(bytes), &mut ballast);
        assert_eq!(copied.expect("there is enough space"), bytes);
    }

    fn open_ballast(&self) -> fs::File {
        fs::File::create(self.ballast()).expect("a file on the small disk")
    }

    /// Frees the space that [`SmallDisk::fill`] or [`SmallDisk::take`] used.
    ///
    /// # Panics
    /// If the file cannot be removed.
    pub fn free(&self) {
        fs::remove_file(self.ballast()).expect("the ballast can be removed");
    }

    /// Makes it read-only or writable. Fails while a file on it is open for writing.
    ///
    /// # Errors
    /// The message of `mount`.
    pub fn read_only(&self, read_only: bool) -> Result<(), String> {
        let option = if read_only { "remount,ro" } else { "remount,rw" };
        let output = Command::new("mount").args(["-o", option]).arg(&self.folder).output();
        let output = output.map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: processes with open files on it are about to end.
        let _ = Command::new("umount").arg("--lazy").arg(&self.folder).status();
    }
}

//! A disk so small that it can be filled.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory. Dropping it unmounts it.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts one of 512 MB in a folder that it makes.
    ///
    /// # Panics
    /// When that is not allowed: it takes root on a machine, or in a container, that may mount.
    #[must_use]
    pub fn mount(folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("a folder to mount in");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=512m", "tmpfs"]).arg(folder).output();
        match mounted {
            Ok(output) if output.status.success() => SmallDisk { folder: folder.to_owned() },
            Ok(output) => panic!(
                "a small disk to be filled cannot be mounted, run this as root: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ),
            Err(error) => panic!("a small disk to be filled cannot be mounted: {error}"),
        }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes all the room that is left.
    ///
    /// # Panics
    /// When no file can be made on it.
    pub fn fill(&self) {
        let mut ballast = self.open_ballast();
        for size in [1 << 20, 4096, 1] {
            let piece = vec![0_u8; size];
            while ballast.write_all(&piece).is_ok() {}
        }
    }

    /// Takes `bytes` of the room.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn take(&self, bytes: u64) {
        let mut ballast = self.open_ballast();
        let copied = std::io::copy(&mut std::io::repeat(0).take(bytes), &mut ballast);
        assert_eq!(copied.expect("there is room"), bytes);
    }

    fn open_ballast(&self) -> fs::File {
        fs::File::create(self.ballast()).expect("a file on the small disk")
    }

    /// Gives the room back.
    ///
    /// # Panics
    /// When the file that takes it cannot be removed.
    pub fn free(&self) {
        fs::remove_file(self.ballast()).expect("the ballast can be removed");
    }

    /// Makes it read-only, or writable again. Fails while a file on it is open for writing.
    ///
    /// # Errors
    /// What `mount` says.
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
        // Lazily: whoever has files open on it is about to end.
        let _ = Command::new("umount").arg("--lazy").arg(&self.folder).status();
    }
}

//! Free space on the disks that this process writes: a reserve below which nothing new is taken in, a metric, and a part of
//! readiness.
//!
//! What was accepted has to be stored, and storing it takes room. So nothing more is accepted while there is still room for
//! that. A disk that fills up all the same loses nothing: work waits until there is room again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::{Unit, describe_gauge, gauge};

use crate::admin::Check;
use crate::{ByteSize, Shutdown};

/// Free space that stays for what was accepted already.
pub const DISK_RESERVE: ByteSize = ByteSize(512_000_000);

/// On a disk where this share of it is less than the reserve, this share is the reserve.
const MOST_OF_A_DISK: u64 = 10;

/// A measurement is as good as a new one for this long.
const FRESH: Duration = Duration::from_millis(200);
/// Time between two measurements for the metric.
const PERIOD: Duration = Duration::from_secs(5);

/// A folder, and what its disk is called in metrics.
#[derive(Debug, Clone)]
struct Folder {
    disk: &'static str,
    path: PathBuf,
}

/// Watches the disks of some folders.
#[derive(Debug)]
pub struct DiskReserve {
    folders: Vec<Folder>,
    reserve: u64,
    measured: Mutex<Option<(Instant, Result<(), LowDisk>)>>,
}

/// A disk that has less free space than its reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the {disk} disk has {free} bytes left; {reserve} are kept free")]
pub struct LowDisk {
    /// What the disk is called.
    pub disk: &'static str,
    /// Bytes left.
    pub free: u64,
    /// Bytes that are kept free.
    pub reserve: u64,
}

impl DiskReserve {
    /// Keeps `reserve` bytes free on the disk of each folder, or a tenth of the disk where that is less. The name of each is
    /// what its disk is called in metrics.
    #[must_use]
    pub fn new(reserve: ByteSize, folders: impl IntoIterator<Item = (&'static str, PathBuf)>) -> Arc<Self> {
        let folders = folders.into_iter().map(|(disk, path)| Folder { disk, path }).collect();
        Arc::new(DiskReserve { folders, reserve: reserve.0, measured: Mutex::new(None) })
    }

    /// Whether every disk has its reserve.
    ///
    /// # Errors
    /// Names the first one that has not.
    pub fn check(&self) -> Result<(), LowDisk> {
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, outcome)) = &*measured
            && at.elapsed() < FRESH
        {
            return *outcome;
        }
        let outcome = self.measure();
        *measured = Some((Instant::now(), outcome));
        outcome
    }

    fn measure(&self) -> Result<(), LowDisk> {
        let mut outcome = Ok(());
        for Folder { disk, path } in &self.folders {
            let Some((free, total)) = space(path) else { continue };
            let reserve = show(disk, free, total, self.reserve);
            if free < reserve && outcome.is_ok() {
                outcome = Err(LowDisk { disk, free, reserve });
            }
        }
        outcome
    }

    /// Measures for the metric, until the shutdown begins.
    pub async fn watch(self: Arc<Self>, shutdown: Shutdown) {
        let mut was_low = false;
        let watching = async {
            let mut period = tokio::time::interval(PERIOD);
            loop {
                period.tick().await;
                let outcome = self.check();
                if outcome.is_err() != was_low {
                    was_low = outcome.is_err();
                    match outcome {
                        Err(low) => tracing::warn!(
                            disk = low.disk,
                            free = low.free,
                            reserve = low.reserve,
                            "a disk is nearly full; uploads are not accepted"
                        ),
                        Ok(()) => tracing::info!("there is room on every disk again"),
                    }
                }
            }
        };
        shutdown.unless_begun(watching).await;
    }
}

impl Check {
    /// Free space, as a part of readiness.
    #[must_use]
    pub fn disk(disk: &Arc<DiskReserve>) -> Self {
        let disk = disk.clone();
        Check::new("disk", move || {
            let outcome = disk.check().map_err(|low| low.to_string());
            async move { outcome }
        })
    }
}

/// Shows the free space of a disk as a metric. Returns the reserve of this disk: `reserve`, or a tenth of the disk where
/// that is less.
pub fn show(disk: &'static str, free: u64, total: u64, reserve: u64) -> u64 {
    let reserve = reserve.min(total / MOST_OF_A_DISK);
    gauge!("bedside_disk_free_bytes", "disk" => disk).set(free as f64);
    gauge!("bedside_disk_reserve_bytes", "disk" => disk).set(reserve as f64);
    reserve
}

/// Describes the metrics of free space.
pub fn describe_disks() {
    describe_gauge!("bedside_disk_free_bytes", Unit::Bytes, "Free space on a disk that is written");
    describe_gauge!(
        "bedside_disk_reserve_bytes",
        Unit::Bytes,
        "Free space below which uploads are not accepted, for each disk"
    );
}

/// Free and total space of the disk that a folder is on; `None` if the system does not say.
fn space(path: &Path) -> Option<(u64, u64)> {
    Some((fs4::available_space(path).ok()?, fs4::total_space(path).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_low_below_its_reserve_which_is_a_tenth_of_it_at_most() {
        let folder = tempfile::tempdir().unwrap();
        let (free, total) = space(folder.path()).unwrap();
        let of =
            |reserve| DiskReserve::new(ByteSize(reserve), [("data", folder.path().to_owned())]).measure();
        assert_eq!(of(0), Ok(()));
        if free < total / MOST_OF_A_DISK {
            assert_eq!(of(u64::MAX).unwrap_err().reserve, total / MOST_OF_A_DISK);
        } else {
            assert_eq!(of(u64::MAX), Ok(()), "a tenth of the disk is free");
        }
        assert_eq!(DiskReserve::new(ByteSize(u64::MAX), [("x", "/nowhere/at/all".into())]).check(), Ok(()));
    }
}

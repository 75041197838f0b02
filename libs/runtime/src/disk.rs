//! Free disk space: a reserve below which no uploads are accepted, a metric, and a readiness check.
//!
//! Accepted uploads still need space to be stored. Uploads are therefore rejected while there is still space
//! for the accepted ones. If a disk fills up nevertheless, nothing is lost: stored work waits until space is
//! available.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{Unit, describe_gauge, gauge};
use parking_lot::Mutex;

use crate::health::Check;
use crate::shutdown::Shutdown;
use crate::size::ByteSize;

/// Default reserve.
pub const DISK_RESERVE: ByteSize = ByteSize(512_000_000);

/// The reserve is at most the size of the disk divided by this number.
const RESERVE_DIVISOR: u64 = 10;

/// Time for which a measurement is reused.
const MEASUREMENT_LIFETIME: Duration = Duration::from_millis(200);
/// Interval between two measurements for the metric.
const METRIC_INTERVAL: Duration = Duration::from_secs(5);

/// A folder and the metric label of its disk.
#[derive(Debug, Clone)]
struct Folder {
    disk: &'static str,
    path: PathBuf,
}

/// Measures the free space of the disks of some folders.
#[derive(Debug)]
pub struct DiskReserve {
    folders: Vec<Folder>,
    reserve: u64,
    measured: Mutex<Option<(Instant, Result<(), LowDisk>)>>,
}

/// A disk has less free space than its reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the {disk} disk has {free} bytes left; {reserve} are kept free")]
pub struct LowDisk {
    /// Metric label of the disk.
    pub disk: &'static str,
    /// Free bytes.
    pub free: u64,
    /// Reserve in bytes.
    pub reserve: u64,
}

impl DiskReserve {
    /// Keeps `reserve` bytes, but at most a tenth of the disk, free on the disk of each folder. The string is
    /// the metric label of the disk.
    #[must_use]
    pub fn new(reserve: ByteSize, folders: impl IntoIterator<Item = (&'static str, PathBuf)>) -> Arc<Self> {
        let folders = folders.into_iter().map(|(disk, path)| Folder { disk, path }).collect();
        Arc::new(DiskReserve { folders, reserve: reserve.0, measured: Mutex::new(None) })
    }

    /// Checks the reserve of every disk.
    ///
    /// # Errors
    /// The first disk that is below its reserve.
    pub fn check(&self) -> Result<(), LowDisk> {
        let mut measured = self.measured.lock();
        if let Some((at, outcome)) = &*measured
            && at.elapsed() < MEASUREMENT_LIFETIME
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

    /// Updates the metric until the shutdown begins.
    pub async fn watch(self: Arc<Self>, shutdown: Shutdown) {
        let mut was_low = false;
        let watching = async {
            let mut period = tokio::time::interval(METRIC_INTERVAL);
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
                            "a disk is nearly full; uploads are rejected"
                        ),
                        Ok(()) => tracing::info!("all disks have their reserve again"),
                    }
                }
            }
        };
        shutdown.unless_begun(watching).await;
    }
}

impl Check {
    /// A readiness check of the free space.
    #[must_use]
    pub fn disk(disk: &Arc<DiskReserve>) -> Self {
        let disk = disk.clone();
        Check::new("disk", move || {
            let outcome = disk.check().map_err(|low| low.to_string());
            async move { outcome }
        })
    }
}

/// Records the metrics of a disk. Returns the reserve that applies to it: `reserve`, but at most a tenth of
/// the disk.
pub fn show(disk: &'static str, free: u64, total: u64, reserve: u64) -> u64 {
    let reserve = reserve.min(total / RESERVE_DIVISOR);
    gauge!("bedside_disk_free_bytes", "disk" => disk).set(free as f64);
    gauge!("bedside_disk_reserve_bytes", "disk" => disk).set(reserve as f64);
    reserve
}

/// Describes the metrics.
pub fn describe_disks() {
    describe_gauge!("bedside_disk_free_bytes", Unit::Bytes, "Free space of a disk in use");
    describe_gauge!(
        "bedside_disk_reserve_bytes",
        Unit::Bytes,
        "Free space below which uploads are rejected, per disk"
    );
}

/// Free and total bytes of the disk that contains a folder, or `None` if the system does not report them.
fn space(path: &Path) -> Option<(u64, u64)> {
    Some((fs4::available_space(path).ok()?, fs4::total_space(path).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserve_is_at_most_a_tenth_of_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let (free, total) = space(folder.path()).unwrap();
        let of =
            |reserve| DiskReserve::new(ByteSize(reserve), [("data", folder.path().to_owned())]).measure();
        assert_eq!(of(0), Ok(()));
        if free < total / RESERVE_DIVISOR {
            assert_eq!(of(u64::MAX).unwrap_err().reserve, total / RESERVE_DIVISOR);
        } else {
            assert_eq!(of(u64::MAX), Ok(()), "a tenth of the disk is free");
        }
        assert_eq!(DiskReserve::new(ByteSize(u64::MAX), [("x", "/nowhere/at/all".into())]).check(), Ok(()));
    }
}

//! Distribution of the partitions among the processes of a group, without a coordinator.
//!
//! The broker gives a partition to the process whose pull request comes first, so the first process receives all of
//! them. Each process has one open pull request per partition, so the number of waiting requests of a consumer is the number
//! of processes. A process that holds more than its fair share releases one partition per [`INTERVAL`]; another
//! process, whose request is waiting, receives it.
//!
//! Failure modes: right after a process has died, its requests still count for up to 2 s, and right after a reconnect,
//! requests count twice. A release for that reason would be useless, so the lowest of the last [`SAMPLES`] counts decides.
//! With more than one process above its fair share and others below, a released partition can go to a process that is full; it
//! is then released again.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use proto_json::waveform::PARTITIONS;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::{Core, waves};
use crate::WaveGroup;

/// Interval of the checks.
const INTERVAL: Duration = Duration::from_millis(500);
/// Number of counts that must agree.
const SAMPLES: usize = 6;

/// The memberships of this process in the groups.
#[derive(Debug, Default)]
pub(super) struct Shares {
    groups: [Mutex<GroupShares>; WaveGroup::ALL.len()],
}

#[derive(Debug, Default)]
struct GroupShares {
    members: Vec<Weak<Share>>,
    task: Option<AbortOnDropHandle<()>>,
}

/// Membership in one partition.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) partition: u16,
    /// This process has the active consumer of the partition.
    pub(super) is_held: AtomicBool,
    /// Requests the release of the partition.
    pub(super) release: Notify,
}

/// Registers a membership. It ends when the result is dropped.
pub(super) fn join(core: &Arc<Core>, group: WaveGroup, partition: u16) -> Arc<Share> {
    let share = Arc::new(Share { partition, is_held: AtomicBool::new(false), release: Notify::new() });
    let mut of_group = group_shares(core, group);
    of_group.members.retain(|member| member.strong_count() > 0);
    of_group.members.push(Arc::downgrade(&share));
    if of_group.task.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
        let task = core.runtime.spawn(balance(Arc::downgrade(core), group));
        of_group.task = Some(AbortOnDropHandle::new(task));
    }
    share
}

fn group_shares(core: &Core, group: WaveGroup) -> std::sync::MutexGuard<'_, GroupShares> {
    let index = match group {
        WaveGroup::Storage => 0,
        WaveGroup::Analysis => 1,
    };
    core.shares.groups[index].lock().unwrap_or_else(PoisonError::into_inner)
}

/// Releases partitions while this process holds more than its fair share.
async fn balance(core: Weak<Core>, group: WaveGroup) {
    let mut processes: VecDeque<u64> = VecDeque::new();
    let mut turn = 0;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(core) = core.upgrade() else { return };
        let held: Vec<Arc<Share>> = {
            let members = &group_shares(&core, group).members;
            members.iter().filter_map(Weak::upgrade).filter(|m| m.is_held.load(Ordering::Relaxed)).collect()
        };
        turn += 1;
        let Some(candidate) = held.get(turn % held.len().max(1)) else { continue };
        match waves::consumer_state(&core, group, candidate.partition).await {
            Ok(state) => processes.push_back(state.num_waiting),
            Err(_) => processes.clear(),
        }
        if processes.len() > SAMPLES {
            processes.pop_front();
        }
        let Some(lowest) = processes.iter().min().filter(|_| processes.len() == SAMPLES) else { continue };
        if held.len() > fair_share(*lowest) {
            tracing::debug!(group = group.name(), partition = candidate.partition, "partition released");
            candidate.release.notify_one();
        }
    }
}

/// The largest number of partitions that one of `processes` keeps.
fn fair_share(processes: u64) -> usize {
    u64::from(PARTITIONS).div_ceil(processes.max(1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fair_shares_cover_all_partitions() {
        for processes in 0..40 {
            let share = fair_share(processes);
            assert!(share >= 1 && share * (processes.max(1) as usize) >= usize::from(PARTITIONS));
        }
        assert_eq!((fair_share(0), fair_share(1), fair_share(2), fair_share(3)), (16, 16, 8, 6));
    }
}

//! The schedule of faults, determined by a seed.

use std::fmt;
use std::time::Duration;

use ecg::synth::Random;

use crate::{Between, Mode, Service};

/// A fault that is injected and later removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, then a restart.
    Kill(Service),
    /// SIGSTOP, then SIGCONT.
    Pause(Service),
    /// The broker is killed and restarted.
    KillBroker,
    /// The database is killed and restarted.
    KillDatabase,
    /// Connections between two parts are closed.
    Cut(Between),
    /// Connections between two parts stay open, but nothing is forwarded.
    Silence(Between),
    /// Data between two parts is delayed.
    Slow(Between),
    /// More uploads than the queue holds, while its consumer is paused.
    FillQueue,
    /// The disk of the queues is full, for a long outage.
    FillDisk,
    /// The disk of the database is full, for a long outage.
    FillDatabaseDisk,
    /// The database is killed and restarted after a long outage.
    LoseDatabase,
    /// The database is paused for a long outage.
    PauseDatabase,
}

/// A fault with its duration and the time until the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The fault.
    pub fault: Fault,
    /// Its duration.
    pub duration: Duration,
    /// Time without faults after it.
    pub rest: Duration,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} for {} ms, then {} ms of rest",
            self.fault,
            self.duration.as_millis(),
            self.rest.as_millis()
        )
    }
}

/// The faults that are possible in a mode.
#[must_use]
pub fn possible(mode: Mode) -> Vec<Fault> {
    let mut faults = vec![Fault::FillQueue, Fault::FillDisk];
    let lines = |between| [Fault::Cut(between), Fault::Silence(between), Fault::Slow(between)];
    faults.extend(lines(Between::ClientsAndGateway));
    match mode {
        Mode::Standalone => faults.extend([Fault::Kill(Service::Gateway), Fault::Pause(Service::Gateway)]),
        Mode::Processes => {
            faults.extend(Service::ALL.map(Fault::Kill));
            faults.extend(Service::ALL.map(Fault::Pause));
            faults.extend([Fault::KillBroker, Fault::KillDatabase]);
            faults.extend([Fault::FillDatabaseDisk, Fault::LoseDatabase, Fault::PauseDatabase]);
            faults.extend(lines(Between::ServicesAndBroker));
            faults.extend(lines(Between::ServicesAndDatabase));
        }
    }
    faults
}

/// Returns `count` steps. Long outages last `outage`, pauses about `pause`. Every fault occurs once before any occurs again, so that a
/// short run contains all of them.
#[must_use]
pub fn schedule(mode: Mode, seed: u64, count: usize, pause: Duration, outage: Duration) -> Vec<Step> {
    let mut random = Random::new(seed);
    let mut steps = Vec::with_capacity(count);
    let mut left = Vec::new();
    while steps.len() < count {
        if left.is_empty() {
            left = possible(mode);
        }
        let fault = left.swap_remove((random.uniform() * left.len() as f64) as usize);
        let between = |low: f64, high: f64, random: &mut Random| {
            Duration::from_millis((low + (high - low) * random.uniform()) as u64)
        };
        let duration = match fault {
            // Around the acknowledgement timeout: a paused consumer can lose its deliveries without noticing.
            Fault::Pause(_) => pause.mul_f64(0.5 + random.uniform()),
            Fault::FillDisk | Fault::FillDatabaseDisk | Fault::LoseDatabase | Fault::PauseDatabase => outage,
            _ => between(50.0, 1_500.0, &mut random),
        };
        steps.push(Step { fault, duration, rest: between(100.0, 1_000.0, &mut random) });
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedule_is_determined_by_its_seed_and_contains_every_fault_once_per_round() {
        let (pause, outage) = (Duration::from_secs(1), Duration::from_secs(2));
        for mode in [Mode::Standalone, Mode::Processes] {
            let all = possible(mode);
            let steps = schedule(mode, 7, 2 * all.len(), pause, outage);
            assert_eq!(steps, schedule(mode, 7, 2 * all.len(), pause, outage));
            assert_ne!(steps, schedule(mode, 8, 2 * all.len(), pause, outage));
            for round in steps.chunks(all.len()) {
                assert!(
                    all.iter().all(|fault| round.iter().filter(|step| step.fault == *fault).count() == 1)
                );
            }
        }
    }
}

//! Which faults happen, in what order: a random schedule that its seed tells.

use std::fmt;
use std::time::Duration;

use ecg::synth::Random;

use crate::{Between, Mode, Service};

/// One thing that goes wrong, and is put right again after a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`, and a start.
    Kill(Service),
    /// SIGSTOP, and SIGCONT.
    Pause(Service),
    /// The broker is killed and started.
    KillBroker,
    /// The database is killed and started.
    KillDatabase,
    /// The line between two parts is cut.
    Cut(Between),
    /// It stands, and nothing comes through.
    Silence(Between),
    /// It is slow.
    Slow(Between),
    /// More uploads than the queue takes, while nobody works them off.
    FillQueue,
    /// The disk of whoever keeps the queue is full, for long.
    FillDisk,
    /// The disk of the database is full, for long.
    FillDatabaseDisk,
    /// The database is killed, and started after long.
    LoseDatabase,
    /// SIGSTOP of the database, and SIGCONT after long.
    PauseDatabase,
}

/// A fault, how long it stays and how long the system then has before the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What.
    pub fault: Fault,
    /// How long.
    pub stays: Duration,
    /// Rest after it.
    pub rest: Duration,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} for {} ms, then {} ms of rest",
            self.fault,
            self.stays.as_millis(),
            self.rest.as_millis()
        )
    }
}

/// The faults that a way to run can have.
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

/// `count` steps; those that stay for long stay for `outage`. Every fault comes once before any comes again, so that a short run has seen them all.
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
        let stays = match fault {
            // Long enough for deliveries to count as lost while the one who has them still believes in them.
            Fault::Pause(_) => pause.mul_f64(0.5 + random.uniform()),
            Fault::FillDisk | Fault::FillDatabaseDisk | Fault::LoseDatabase | Fault::PauseDatabase => outage,
            _ => between(50.0, 1_500.0, &mut random),
        };
        steps.push(Step { fault, stays, rest: between(100.0, 1_000.0, &mut random) });
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_tells_the_schedule_and_every_fault_comes_once_before_any_comes_again() {
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

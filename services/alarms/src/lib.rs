//! Alarms: evaluates the rules of all patients, stores and publishes the alarms, and answers actions on them.
//!
//! - [`rules`]: the rules, as pure functions of vitals, strips and time.
//! - [`machine`]: the life cycle of an alarm, as pure functions.
//! - `evaluator`: runs the rules on what the broker delivers. Every process runs them; the one with the lease of the store
//!   writes what they report.
//! - `writer`: applies changes to the stored alarms by compare-and-set.
//! - `api`: the routes for the gateway, in every process.
//! - `notify`: Alertmanager and webhooks.
//!
//! Invariants:
//! - An alarm is stored before it is published. Its id is derived from patient, rule and onset, and a patient has at most one
//!   open alarm of each rule, so a restart or a second process raises no alarm twice.
//! - An alarm ends only when its condition is known to be over, or by a user. The end of a process, an outage of the broker or
//!   of the store, and missing input end none.
//! - Publication is at most once. Subscribers apply only higher versions; after a takeover, all open alarms are published
//!   again.
//!
//! Failure modes: without the store, rules go on and changes wait in memory. Without the broker, nothing is evaluated. When the
//! evaluating process dies, another one takes over when its lease ends, within 3 s.

mod api;
mod evaluator;
mod figures;
pub mod machine;
mod notify;
mod publisher;
pub mod rules;
mod wards;
mod writer;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bus::{BusPorts, PubSub, WaveLog, WorkQueue};
use http_server::internal;
use runtime::health::Check;
use runtime::{Secret, Shutdown, StartError, parse_duration};
use store::{AlarmStore, CorrectionReader, PatientReader};
use tokio::net::TcpListener;

pub use notify::{Notifications, NotifyArgs};

use publisher::Publisher;
use wards::Wards;

/// Where the service accepts calls of the gateway.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "alarm_calls")]
pub struct CallArgs {
    /// Listen address for calls of the gateway. A non-loopback address requires --token-file and --insecure
    #[arg(long, env = "BEDSIDE_ALARMS_LISTEN", default_value = "127.0.0.1:5015")]
    pub listen: SocketAddr,
    /// File with the secret that gateways authenticate with, at least 32 characters; the same as their
    /// --alarms-token-file
    #[arg(long, env = "BEDSIDE_ALARMS_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Allow a non-loopback address: the calls use plain HTTP, so the network must be private
    #[arg(long, env = "BEDSIDE_INSECURE")]
    pub insecure: bool,
}

impl CallArgs {
    /// Reads the secret that gateways authenticate with, and rejects an unsafe configuration.
    ///
    /// # Errors
    /// The setting to change.
    pub fn token(&self) -> Result<Option<Secret>, StartError> {
        internal::read_token("alarms", self.listen, self.token_file.as_deref(), self.insecure)
    }
}

/// Settings of the alarms.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Alarms")]
#[group(id = "alarms")]
pub struct Config {
    /// Time for which an audio pause silences an alarm unless the user states another one; at most 10 minutes
    #[arg(long, env = "BEDSIDE_AUDIO_PAUSE", default_value = "2m", value_parser = audio_pause)]
    pub audio_pause: Duration,
}

/// Longest audio pause in seconds. IEC 60601-1-8, clause 6.8.5, leaves it to the responsible organization.
const MAX_AUDIO_PAUSE_S: u64 = 600;

fn audio_pause(text: &str) -> Result<Duration, String> {
    let pause = parse_duration(text).map_err(|error| error.to_string())?;
    if (1..=MAX_AUDIO_PAUSE_S).contains(&pause.as_secs()) {
        Ok(pause)
    } else {
        Err(format!("an audio pause is from 1 to {MAX_AUDIO_PAUSE_S} s"))
    }
}

impl Default for Config {
    fn default() -> Self {
        Config { audio_pause: Duration::from_secs(120) }
    }
}

/// The ports of the service.
#[derive(Debug, Clone)]
pub struct Ports {
    /// Alarms and limits.
    pub store: Arc<dyn AlarmStore>,
    /// Patients, for strips and wards.
    pub patients: Arc<dyn PatientReader>,
    /// Merged and erased patients.
    pub corrections: Arc<dyn CorrectionReader>,
    /// Updates and events.
    pub pubsub: Arc<dyn PubSub>,
    /// Vitals.
    pub waves: Arc<dyn WaveLog>,
    /// For the readiness check of the broker.
    pub queue: Arc<dyn WorkQueue>,
}

impl Ports {
    /// The ports of one broker and one store.
    pub fn of(bus: &BusPorts, store: Arc<impl AlarmStore + PatientReader + CorrectionReader>) -> Self {
        Ports {
            store: store.clone(),
            patients: store.clone(),
            corrections: store,
            pubsub: bus.pubsub.clone(),
            waves: bus.waves.clone(),
            queue: bus.queue.clone(),
        }
    }
}

/// What all parts of the service share.
#[derive(Debug)]
struct Shared {
    config: Config,
    ports: Ports,
    publisher: Publisher,
    wards: Wards,
    notifications: Notifications,
}

/// The service. Clones share one state.
#[derive(Debug, Clone)]
pub struct Alarms(Arc<Shared>);

impl Alarms {
    /// The service with these ports. It does nothing before [`Alarms::run`].
    #[must_use]
    pub fn new(config: Config, notifications: Notifications, ports: Ports) -> Self {
        figures::describe();
        notify::describe();
        let publisher = Publisher::new(ports.pubsub.clone());
        Alarms(Arc::new(Shared { config, publisher, wards: Wards::default(), notifications, ports }))
    }

    /// The routes for the gateway.
    pub fn router(&self) -> Router {
        api::router(Arc::clone(&self.0))
    }

    /// The readiness checks.
    #[must_use]
    pub fn checks(&self) -> Vec<Check> {
        vec![Check::bus(&self.0.ports.queue), Check::store(&self.0.ports.patients)]
    }

    /// Evaluates the rules until the shutdown begins.
    ///
    /// # Errors
    /// None at present: failures of the broker and the store are retried.
    pub async fn run(&self, shutdown: Shutdown) -> Result<(), StartError> {
        evaluator::run(Arc::clone(&self.0), shutdown).await;
        Ok(())
    }

    /// Serves calls of gateways that carry `token` until the shutdown begins.
    ///
    /// # Errors
    /// If serving fails.
    pub async fn serve(
        &self,
        listener: TcpListener,
        token: Option<Secret>,
        shutdown: Shutdown,
    ) -> Result<(), StartError> {
        internal::serve_calls("alarms", listener, self.router(), token, &shutdown).await
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        config: Config,
    }

    #[test]
    fn defaults_of_the_command_line_are_those_of_the_type() {
        let parsed = Program::parse_from(["alarms"]).config;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", Config::default()));
        assert!(Program::try_parse_from(["alarms", "--audio-pause", "11m"]).is_err());
    }
}

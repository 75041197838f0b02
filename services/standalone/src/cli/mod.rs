//! The commands. Those that talk to a running system use the gateway's public API, like every other client.

mod audit;
mod backup;
mod cert;
mod connection;
mod dead_letters;
mod error;
mod export;
mod format;
mod healthcheck;
mod import;
mod output;
mod patients;
mod progress;
mod restore;
mod sample;
mod stream;
mod token;
mod upload;
mod verify;
mod watch;

pub(crate) use audit::AuditArgs;
pub(crate) use backup::BackupArgs;
pub(crate) use cert::CertArgs;
pub(crate) use dead_letters::DeadLettersArgs;
pub(crate) use error::run;
pub(crate) use export::ExportArgs;
pub(crate) use healthcheck::HealthcheckArgs;
pub(crate) use import::ImportArgs;
pub(crate) use patients::PatientsArgs;
pub(crate) use restore::RestoreArgs;
pub(crate) use sample::SampleArgs;
pub(crate) use stream::StreamArgs;
pub(crate) use token::TokenArgs;
pub(crate) use upload::UploadArgs;
pub(crate) use verify::VerifyArgs;
pub(crate) use watch::WatchArgs;

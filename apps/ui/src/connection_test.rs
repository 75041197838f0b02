//! The "Test connection" button of the settings dialog.

use std::time::Duration;

use client::{ClientError, Feed, FeedEvent, FeedMode, FeedSettings};
use proto_json::Mrn;

use crate::{Settings, SettingsError, tr};

/// The time in which the gateway, and then the feed, has to answer.
const LIMIT: Duration = Duration::from_secs(4);

/// What works with the tested settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestOutcome {
    /// The gateway answers and pushes updates as server-sent events.
    Push,
    /// The gateway answers and NATS pushes updates.
    NatsPush,
    /// The gateway answers. The access token allows uploads, but no reads and no updates.
    UploadsOnly,
}

impl std::fmt::Display for TestOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            TestOutcome::Push => tr!("The gateway answers and pushes updates."),
            TestOutcome::NatsPush => tr!("The gateway answers, and NATS pushes updates."),
            TestOutcome::UploadsOnly => tr!("The gateway answers. The access token allows uploads only."),
        })
    }
}

/// What does not work with the tested settings.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// The settings are invalid.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The gateway does not answer, or rejects the request.
    #[error(transparent)]
    Gateway(#[from] ClientError),
    /// The gateway answers, but does not push updates in time.
    #[error("{}", tr!("the gateway answers, but does not push updates"))]
    NoPush,
    /// The gateway answers, but NATS does not push updates in time.
    #[error("{}", tr!("the gateway answers, but NATS does not: check its address and credentials"))]
    NoNats,
    /// The test did not run to its end.
    #[error("{}", tr!("the test was interrupted"))]
    Interrupted,
}

/// Tests settings without applying them: gateway, access token, and the source of updates. Takes at most about 8 s.
///
/// # Errors
/// [`TestError`], the first thing that does not work.
pub async fn test_connection(settings: Settings) -> Result<TestOutcome, TestError> {
    // Reads files.
    let clients = tokio::task::spawn_blocking(move || settings.clients()).await;
    let (gateway, nats) = clients.map_err(|_| TestError::Interrupted)??;
    gateway.check(LIMIT).await?;
    // The response for an unknown patient shows whether the token may read.
    let unused = Mrn::new(0).map_err(|_| TestError::Interrupted)?;
    match gateway.patient(unused).await {
        Ok(_) => {}
        Err(ClientError::Forbidden(_)) => return Ok(TestOutcome::UploadsOnly),
        Err(error) => return Err(error.into()),
    }
    let wanted = if nats.is_some() { FeedMode::Nats } else { FeedMode::ServerSentEvents };
    // The feed of one patient costs less than that of all patients.
    let mut feed = Feed::start(FeedSettings { nats, ..FeedSettings::new(gateway, Some(unused)) });
    let reached = tokio::time::timeout(LIMIT, async {
        while let Some(event) = feed.next().await {
            if matches!(&event, FeedEvent::Connection(state) if state.mode == wanted) {
                return;
            }
        }
    });
    match (reached.await, wanted) {
        (Ok(()), FeedMode::Nats) => Ok(TestOutcome::NatsPush),
        (Ok(()), _) => Ok(TestOutcome::Push),
        (Err(_), FeedMode::Nats) => Err(TestError::NoNats),
        (Err(_), _) => Err(TestError::NoPush),
    }
}

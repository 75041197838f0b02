//! Follows the connection to the gateway and the changes of one patient.

use std::time::Duration;

use client::{ClientError, ConnectionState, Feed, FeedEvent, FeedMode, FeedSettings, Gateway, NatsSettings};
use proto_json::{Mrn, Timestamp};
use ui::{ConnectionLevel, ConnectionStatus, tr};

use crate::backend::UiSender;
use crate::message::Message;

/// Interval and time limit of the checks where the access token allows uploads only.
const CHECK_INTERVAL: Duration = Duration::from_secs(3);

/// Reports the connection status and changes of the patient of the last upload until it is dropped.
pub(crate) async fn follow(
    gateway: Gateway,
    nats: Option<NatsSettings>,
    patient: Option<Mrn>,
    sender: UiSender,
) {
    // The connection status needs a feed. A feed of one patient costs less than a feed of all patients.
    let patient = patient.or_else(|| Mrn::new(0).ok());
    loop {
        if let Some(mrn) = patient
            && matches!(gateway.patient(mrn).await, Err(ClientError::Forbidden(_)))
        {
            check_uploads_only(&gateway, &sender).await;
            continue;
        }
        let settings = FeedSettings { nats: nats.clone(), ..FeedSettings::new(gateway.clone(), patient) };
        let mut feed = Feed::start(settings);
        while let Some(event) = feed.next().await {
            let message = match event {
                FeedEvent::Connection(state) => Message::ConnectionChanged {
                    status: ConnectionStatus::of(Some(&state)),
                    token_rejected: state.token_rejected,
                },
                FeedEvent::Updated(update) => Message::PatientUpdated(update),
                FeedEvent::Snapshot(_)
                | FeedEvent::Damaged(_)
                | FeedEvent::Alarms(_)
                | FeedEvent::Outdated(_) => continue,
            };
            sender.send(message);
        }
    }
}

/// Reports the connection status where the access token allows uploads only. Returns when the gateway is back after an
/// outage, because the token may allow more then.
async fn check_uploads_only(gateway: &Gateway, sender: &UiSender) {
    let mut reported = None;
    loop {
        let checked = gateway.check(CHECK_INTERVAL).await;
        let token_rejected = matches!(checked, Err(client::ClientError::Unauthorized(_)));
        let status = match checked {
            Ok(()) => ConnectionStatus {
                level: ConnectionLevel::Good,
                text: tr!("connected · uploads only").to_owned(),
                detail: tr!("The access token allows uploads only. Results of the server cannot be shown.")
                    .to_owned(),
            },
            Err(error) => ConnectionStatus::of(Some(&ConnectionState {
                mode: FeedMode::Offline,
                since: Timestamp::now(),
                reason: Some(error.to_string()),
                token_rejected,
            })),
        };
        let level = status.level;
        if reported != Some(level) {
            sender.send(Message::ConnectionChanged { status, token_rejected });
        }
        if reported == Some(ConnectionLevel::Bad) && level == ConnectionLevel::Good {
            return;
        }
        reported = Some(level);
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

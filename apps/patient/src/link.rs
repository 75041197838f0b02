//! What every part of the desk needs: the window, the network's threads, and the way back from them.

use std::rc::Rc;

use client::{ConnectionState, Feed, FeedEvent, FeedMode, FeedSettings, Gateway, NatsSettings};
use proto_json::{Mrn, Timestamp};
use slint::{ComponentHandle as _, Weak};
use tokio::sync::mpsc::UnboundedSender;
use ui::{BackgroundRuntime, ConnectionLevel, ConnectionStatus};

use crate::message::Message;
use crate::window::{Api, Main};

/// How often and how long a gateway that lets us follow nothing is asked whether it is there.
const PROBE_EVERY: std::time::Duration = std::time::Duration::from_secs(3);

/// The window, the network's threads, and the way back from them.
#[derive(Clone)]
pub(crate) struct Link {
    window: Weak<Main>,
    pub(crate) network: Rc<BackgroundRuntime>,
    pub(crate) mail: UnboundedSender<Message>,
}

impl Link {
    pub(crate) fn new(window: &Main, network: BackgroundRuntime, mail: UnboundedSender<Message>) -> Self {
        Link { window: window.as_weak(), network: Rc::new(network), mail }
    }

    /// Does something with what the window shows; nothing if it is gone.
    pub(crate) fn api(&self, act: impl FnOnce(&Api<'_>)) {
        if let Some(window) = self.window.upgrade() {
            act(&window.global::<Api>());
        }
    }

    pub(crate) fn window(&self, act: impl FnOnce(&Main)) {
        if let Some(window) = self.window.upgrade() {
            act(&window);
        }
    }
}

/// Follows the connection, and the patient of the last upload, until it is dropped.
pub(crate) async fn follow(
    gateway: Gateway,
    nats: Option<NatsSettings>,
    patient: Option<Mrn>,
    mail: UnboundedSender<Message>,
) {
    // The light needs somebody to follow; one patient costs less than all of them.
    let patient = patient.or_else(|| Mrn::new(0).ok());
    loop {
        if let Some(mrn) = patient
            && matches!(gateway.patient(mrn).await, Err(client::ClientError::Forbidden(_)))
        {
            uploads_only(&gateway, &mail).await;
            continue;
        }
        let settings = FeedSettings { nats: nats.clone(), ..FeedSettings::new(gateway.clone(), patient) };
        let mut feed = Feed::start(settings);
        while let Some(event) = feed.next().await {
            let message = match event {
                FeedEvent::Connection(state) => Message::Standing(ConnectionStatus::of(Some(&state))),
                FeedEvent::Updated(update) => Message::Updated(update),
                FeedEvent::Snapshot(_) | FeedEvent::Damaged(_) => continue,
            };
            if mail.send(message).is_err() {
                return;
            }
        }
    }
}

/// A token that may upload and nothing else is as good a connection as it gets. Returns when that may have changed.
async fn uploads_only(gateway: &Gateway, mail: &UnboundedSender<Message>) {
    let mut told = None;
    loop {
        let light = match gateway.check(PROBE_EVERY).await {
            Ok(()) => ConnectionStatus {
                level: ConnectionLevel::Good,
                text: "connected · uploads only".to_owned(),
                detail: "The access token allows uploads; what the server makes of them cannot be shown."
                    .to_owned(),
            },
            Err(error) => ConnectionStatus::of(Some(&ConnectionState {
                mode: FeedMode::Offline,
                since: Timestamp::now(),
                reason: Some(error.to_string()),
            })),
        };
        let level = light.level;
        if told != Some(level) && mail.send(Message::Standing(light)).is_err() {
            return;
        }
        if told == Some(ConnectionLevel::Bad) && level == ConnectionLevel::Good {
            return;
        }
        told = Some(level);
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

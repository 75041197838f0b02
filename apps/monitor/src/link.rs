//! The way between the thread of the window and the network: what is asked goes out as tasks, what comes back arrives as
//! messages, in order, and wakes the window.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use client::{Feed, FeedEvent, FeedSettings, Gateway};
use proto_json::{Mrn, RecordId};
use tokio::sync::Semaphore;
use ui::trace::Sparkline;
use ui::{BackgroundRuntime, Settings, Task};

use crate::fetch;
use crate::patient::{Answer, Ask, Ticket};
use crate::save::{self, SaveError, What};

/// How long a connection may be silent before it counts as dead. A lost connection must show within 2 s.
const SILENCE: Duration = Duration::from_millis(1800);
/// Small strips fetched at a time: the rest of the screen must not wait for a wall that fills.
const SPARKS_AT_ONCE: usize = 4;

/// What the network has to say.
#[derive(Debug)]
pub(crate) enum Message {
    /// A connection is being made, or cannot be.
    Connected(u64, Result<Gateway, String>),
    /// What the feed of a connection tells.
    Feed(u64, FeedEvent),
    /// A small strip is here; an error if it could not be fetched.
    Spark(Mrn, RecordId, Result<Option<Sparkline>, ()>),
    /// An answer.
    Answer(Ticket, Answer),
    /// A file was saved, or not.
    Saved(PathBuf, Result<(), SaveError>),
    /// How the test of a connection ended: how long the answer took, or why there was none.
    Tested(Result<Duration, String>),
    /// Something could not be kept on disk.
    NotKept(String),
    /// Another place to save was chosen.
    Place(PathBuf),
}

/// Sends messages to the window.
#[derive(Clone)]
pub(crate) struct Outbox {
    send: Sender<Message>,
    is_waiting: Arc<AtomicBool>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outbox(…)")
    }
}

impl Outbox {
    /// Sends one. The window is woken once for all that wait.
    pub(crate) fn post(&self, message: Message) {
        if self.send.send(message).is_ok() && !self.is_waiting.swap(true, Ordering::AcqRel) {
            (self.wake)();
        }
    }
}

/// Takes messages on the thread of the window.
#[derive(Debug)]
pub(crate) struct Inbox {
    receive: Receiver<Message>,
    is_waiting: Arc<AtomicBool>,
}

impl Inbox {
    /// The next one that is here already.
    pub(crate) fn next(&self) -> Option<Message> {
        // Before looking: what is sent after the look wakes the window again.
        self.is_waiting.store(false, Ordering::Release);
        self.receive.try_recv().ok()
    }

    /// The next one, waiting for it.
    pub(crate) fn wait(&self, limit: Duration) -> Option<Message> {
        self.is_waiting.store(false, Ordering::Release);
        self.receive.recv_timeout(limit).ok()
    }
}

/// A way; `wake` is called on any thread when messages wait.
pub(crate) fn channel(wake: impl Fn() + Send + Sync + 'static) -> (Outbox, Inbox) {
    let (send, receive) = mpsc::channel();
    let is_waiting = Arc::new(AtomicBool::new(false));
    let outbox = Outbox { send, is_waiting: is_waiting.clone(), wake: Arc::new(wake) };
    (outbox, Inbox { receive, is_waiting })
}

/// Everything that runs beside the window.
#[derive(Debug)]
pub(crate) struct Link {
    network: BackgroundRuntime,
    outbox: Outbox,
    feed: Task,
    gateway: Option<Gateway>,
    /// Questions of the patient that is looked at: another patient ends them.
    questions: Vec<Task>,
    sparks: Arc<Semaphore>,
}

impl Link {
    /// Starts the network.
    ///
    /// # Errors
    /// When the operating system gives no threads.
    pub(crate) fn start(outbox: Outbox) -> std::io::Result<Self> {
        let network = BackgroundRuntime::start()?;
        let sparks = Arc::new(Semaphore::new(SPARKS_AT_ONCE));
        Ok(Link { network, outbox, feed: Task::default(), gateway: None, questions: Vec::new(), sparks })
    }

    /// Where others may send messages to the window.
    #[must_use]
    pub(crate) fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// Leaves the connection there is and makes another one; its messages carry `number`.
    pub(crate) fn connect(&mut self, number: u64, settings: Settings) {
        self.gateway = None;
        self.questions.clear();
        let outbox = self.outbox.clone();
        self.feed = self.network.spawn(async move {
            // Reads files.
            let made = tokio::task::spawn_blocking(move || {
                let made = settings.clients();
                made.map_err(|error| error.to_string())
            });
            let (gateway, broker) = match made.await {
                Ok(Ok(made)) => made,
                Ok(Err(reason)) => return outbox.post(Message::Connected(number, Err(reason))),
                Err(_) => return,
            };
            outbox.post(Message::Connected(number, Ok(gateway.clone())));
            let mut feed = Feed::start(FeedSettings {
                nats: broker,
                silence: SILENCE,
                ..FeedSettings::new(gateway, None)
            });
            while let Some(event) = feed.next().await {
                outbox.post(Message::Feed(number, event));
            }
        });
    }

    /// The gateway of the connection is known.
    pub(crate) fn use_gateway(&mut self, gateway: Gateway) {
        self.gateway = Some(gateway);
    }

    /// Ends all questions of the patient before.
    pub(crate) fn forget_questions(&mut self) {
        self.questions.clear();
    }

    /// Sends questions of the patient that is looked at.
    pub(crate) fn ask(&mut self, mrn: Mrn, asks: Vec<(Ticket, Ask)>) {
        let Some(gateway) = self.gateway.clone() else { return };
        self.questions.retain(|task| !task.is_finished());
        for (ticket, ask) in asks {
            let (gateway, outbox) = (gateway.clone(), self.outbox.clone());
            self.questions.push(self.network.spawn(async move {
                let answer = fetch::answer(&gateway, mrn, ask).await;
                outbox.post(Message::Answer(ticket, answer));
            }));
        }
    }

    /// Fetches a small strip. Gives whether it will be answered.
    pub(crate) fn spark(&self, mrn: Mrn, id: RecordId) -> bool {
        let Some(gateway) = self.gateway.clone() else { return false };
        let (outbox, places) = (self.outbox.clone(), self.sparks.clone());
        self.network.spawn_detached(async move {
            let _place = places.acquire().await;
            let spark = fetch::spark(&gateway, id).await.map_err(|_| ());
            outbox.post(Message::Spark(mrn, id, spark));
        });
        true
    }

    /// Fetches a file and saves it. Gives whether there is a connection to fetch it over.
    pub(crate) fn save(&self, what: What, path: PathBuf, overwrite: bool) -> bool {
        let Some(gateway) = self.gateway.clone() else { return false };
        let outbox = self.outbox.clone();
        self.network.spawn_detached(async move {
            let saved = save::save(&gateway, what, &path, overwrite).await;
            outbox.post(Message::Saved(path, saved));
        });
        true
    }

    /// Tries settings without using them.
    pub(crate) fn test(&self, settings: Settings) {
        let outbox = self.outbox.clone();
        self.network.spawn_detached(async move {
            let begun = Instant::now();
            let made = tokio::task::spawn_blocking(move || settings.clients().map(|(gateway, _)| gateway));
            let tested = match made.await {
                Ok(Ok(gateway)) => match gateway.patients(None, None, Some(1)).await {
                    Ok(_) => Ok(begun.elapsed()),
                    Err(error) => Err(error.to_string()),
                },
                Ok(Err(error)) => Err(error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            outbox.post(Message::Tested(tested));
        });
    }
}

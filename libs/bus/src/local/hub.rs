//! Live messages of patients in this process, at most once, with bounded memory.
//!
//! A subscriber of one patient has no cost for the messages of others, as with a subject of a broker.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures::StreamExt;
use futures::stream::BoxStream;
use proto_json::Mrn;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

/// Messages that are kept for a slow subscriber of all patients, and of one patient.
const CAPACITY: usize = 8_192;
const CAPACITY_OF_PATIENT: usize = 512;

#[derive(Debug)]
pub(super) struct Hub<T> {
    all: broadcast::Sender<T>,
    of_patient: Mutex<HashMap<Mrn, broadcast::Sender<T>>>,
}

impl<T: Clone> Default for Hub<T> {
    fn default() -> Self {
        Hub { all: broadcast::channel(CAPACITY).0, of_patient: Mutex::default() }
    }
}

impl<T: Clone + Send + 'static> Hub<T> {
    /// Sends a message to the subscribers of the patient and to those of all patients.
    pub(super) fn publish(&self, mrn: Mrn, message: &T) {
        // A send fails only if there are no subscribers.
        let _ = self.all.send(message.clone());
        let mut of_patient = self.of_patient.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = of_patient.get(&mrn)
            && sender.send(message.clone()).is_err()
        {
            of_patient.remove(&mrn);
        }
    }

    /// Subscribes. `None` stands for messages that the subscriber was too slow for.
    pub(super) fn subscribe(&self, of: Option<Mrn>) -> BoxStream<'static, Option<T>> {
        let receiver = match of {
            None => self.all.subscribe(),
            Some(mrn) => {
                let mut of_patient = self.of_patient.lock().unwrap_or_else(PoisonError::into_inner);
                of_patient.retain(|_, sender| sender.receiver_count() > 0);
                let sender =
                    of_patient.entry(mrn).or_insert_with(|| broadcast::channel(CAPACITY_OF_PATIENT).0);
                sender.subscribe()
            }
        };
        BroadcastStream::new(receiver).map(Result::ok).boxed()
    }
}

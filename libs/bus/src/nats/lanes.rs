//! Lanes: in a cluster, every stream on the way of an upload is there several times, each led by another server.
//!
//! A stream that loses its leader takes nothing until another one is elected, 4 to 9 s later, which no setting of the broker
//! changes. So nobody waits for that: what one lane does not confirm goes to the next. The same message may then be taken
//! in two lanes, which does no harm, because everything is worked off by its upload's id.
//!
//! Each upload has a lane of its own, so that its files are found where they usually are, and load is spread over the
//! servers; but anything may lie in any lane.

use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::{HeaderMap, Message, StatusCode};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::link::{ASK_AGAIN, ApiError, ELECTION, LEADERLESS_WAIT};
use super::{Core, names};
use crate::{BusError, EnqueueError};

/// Lanes in a cluster. Two would do while their leaders are on two servers; with a third one they need not be spread anew
/// between the deaths of two servers.
pub(super) const IN_CLUSTER: usize = 3;

/// One that did not answer comes last for this long: others need not find out, too.
const AVOIDED: Duration = Duration::from_secs(3);
/// A read is answered by any replica. If none has in this time, it is asked for anew: who should have may have died.
pub(super) const READ_AGAIN: Duration = Duration::from_secs(1);
/// How long it is asked for anew.
const READ_PATIENCE: Duration = Duration::from_secs(5);

/// The lanes, and which of them do not answer.
#[derive(Debug)]
pub(super) struct Lanes {
    /// Until when each lane comes last.
    avoided: Mutex<Vec<Option<Instant>>>,
    count: usize,
}

/// What became of a message.
pub(super) struct Taken {
    /// The lane that answered.
    pub(super) lane: usize,
    /// No other lane was asked, so that none can have it.
    pub(super) alone: bool,
    pub(super) answer: Result<(), ApiError>,
}

impl Taken {
    /// The message is durable, or not.
    pub(super) fn done(self) -> Result<(), EnqueueError> {
        Ok(self.answer?)
    }
}

/// Why a lane has not taken a message.
enum Declined {
    /// It has no room.
    Full(usize, ApiError),
    /// It has no leader, or does not answer.
    Silent(BusError),
}

impl Lanes {
    pub(super) fn new(count: usize) -> Self {
        let count = count.max(1);
        Lanes { avoided: Mutex::new(vec![None; count]), count }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn all(&self) -> Range<usize> {
        0..self.count
    }

    /// The lanes, the own one of this upload or patient first. The same in every process.
    pub(super) fn of(&self, owner: &impl ToString) -> Vec<usize> {
        let home = owner
            .to_string()
            .bytes()
            .fold(0, |sum: usize, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        self.all().map(|lane| home.wrapping_add(lane) % self.count).collect()
    }

    /// Whether it did not answer a moment ago.
    pub(super) fn is_avoided(&self, lane: usize) -> bool {
        self.with(lane, |until| until.is_some_and(|until| until > Instant::now()))
    }

    pub(super) fn answers(&self, lane: usize, does: bool) {
        self.with(lane, |until| *until = (!does).then(|| Instant::now() + AVOIDED));
    }

    fn with<T>(&self, lane: usize, look: impl FnOnce(&mut Option<Instant>) -> T) -> T {
        look(&mut self.avoided.lock().unwrap_or_else(PoisonError::into_inner)[lane])
    }
}

impl Core {
    /// Publishes into a stream and waits until one lane has the message durably: the first of `order` that confirms. A full
    /// lane is passed over like a silent one, as its room is only a part of all there is.
    pub(super) async fn store(
        &self,
        mut order: Vec<usize>,
        subject: &str,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<Taken, BusError> {
        if let [lane] = order[..] {
            let answer = self.link.store(names::in_lane(lane, subject), headers, payload).await?;
            return Ok(Taken { lane, alone: true, answer });
        }
        let asked = AtomicUsize::new(0);
        let (asked, headers, payload) = (&asked, &headers, &payload);
        let offer = |lane| async move {
            asked.fetch_add(1, Ordering::Relaxed);
            let subject = names::in_lane(lane, subject);
            let answer = self
                .watched(lane, self.link.store_once(subject, headers.clone(), payload.clone(), ASK_AGAIN));
            let answer = match answer.await {
                Ok(answer) => answer,
                Err(error @ BusError::Unavailable(_)) => {
                    return ControlFlow::Continue(Declined::Silent(error));
                }
                Err(error) => return ControlFlow::Break(Err(error)),
            };
            match answer {
                Err(error) if error.is_full() => ControlFlow::Continue(Declined::Full(lane, error)),
                Err(error) if error.is_for_now() => ControlFlow::Continue(Declined::Silent(error.into())),
                answer => ControlFlow::Break(Ok((lane, answer))),
            }
        };
        let storing = async {
            let mut silence = None;
            loop {
                order.sort_by_key(|lane| self.lanes.is_avoided(*lane));
                let declined = match race(&order, self.config.lane_patience, offer).await {
                    ControlFlow::Break(answered) => return answered,
                    ControlFlow::Continue(declined) => declined,
                };
                let mut full = None;
                for declined in declined {
                    match declined {
                        Declined::Full(lane, error) => full = Some((lane, Err(error))),
                        Declined::Silent(error) => silence = Some(error),
                    }
                }
                match (full, silence.take()) {
                    (Some(full), None) => return Ok(full),
                    // Who is told that there is no room takes the message for not sent. A silent lane may have it.
                    (Some(_), Some(error)) => return Err(error),
                    (None, Some(error)) if !self.link.is_cluster => return Err(error),
                    (None, error) => silence = error,
                }
                tokio::time::sleep(LEADERLESS_WAIT).await;
            }
        };
        let (lane, answer) =
            tokio::time::timeout(ELECTION, storing).await.map_err(BusError::unavailable)??;
        Ok(Taken { lane, alone: asked.load(Ordering::Relaxed) == 1, answer })
    }

    /// The last message on a subject of a kind of stream, in whichever lane it is. `None` may also mean that the replica that
    /// answered is behind.
    pub(super) async fn read(
        &self,
        kind: &str,
        order: &[usize],
        subject: &str,
    ) -> Result<Option<Message>, BusError> {
        let look = |lane| async move {
            match self.read_in(kind, lane, subject).await {
                Ok(Some(message)) => ControlFlow::Break(message),
                Ok(None) => ControlFlow::Continue(None),
                Err(error) => ControlFlow::Continue(Some(error)),
            }
        };
        let begun = Instant::now();
        loop {
            let failed = match race(order, self.config.lane_patience, look).await {
                ControlFlow::Break(message) => return Ok(Some(message)),
                ControlFlow::Continue(said) => said.into_iter().flatten().next(),
            };
            match failed {
                None => return Ok(None),
                Some(error) if order.len() == 1 || begun.elapsed() > READ_PATIENCE => return Err(error),
                Some(_) => tokio::time::sleep(LEADERLESS_WAIT).await,
            }
        }
    }

    /// The last message on a subject in one lane.
    pub(super) async fn read_in(
        &self,
        kind: &str,
        lane: usize,
        subject: &str,
    ) -> Result<Option<Message>, BusError> {
        let call =
            format!("$JS.API.DIRECT.GET.{}.{}", names::stream(kind, lane), names::in_lane(lane, subject));
        let message = if self.lanes.count() == 1 {
            self.link.ask(call, None, Bytes::new()).await?
        } else {
            self.link.ask_once(call, None, Bytes::new(), READ_AGAIN).await?
        };
        found(message)
    }

    /// Calls the API of JetStream about one lane.
    pub(super) async fn api_in<T: serde::de::DeserializeOwned>(
        &self,
        lane: usize,
        call: &str,
        arguments: &serde_json::Value,
    ) -> Result<Result<T, ApiError>, BusError> {
        self.of_leader(lane, self.link.api(call, arguments)).await
    }

    /// What only the leader of one lane can answer. With others to turn to, it is not waited for for long.
    pub(super) async fn of_leader<T>(
        &self,
        lane: usize,
        asking: impl Future<Output = Result<T, BusError>>,
    ) -> Result<T, BusError> {
        if self.lanes.count() == 1 {
            return asking.await;
        }
        if self.lanes.is_avoided(lane) {
            return Err(BusError::unavailable("a part of the broker does not answer for now"));
        }
        let limited = async { tokio::time::timeout(ASK_AGAIN, asking).await.map_err(BusError::unavailable)? };
        self.watched(lane, limited).await
    }

    /// Notes whether a lane answers.
    async fn watched<T>(
        &self,
        lane: usize,
        asking: impl Future<Output = Result<T, BusError>>,
    ) -> Result<T, BusError> {
        let mut asking = std::pin::pin!(asking);
        let answer = tokio::select! {
            biased;
            answer = &mut asking => answer,
            () = tokio::time::sleep(self.config.lane_patience) => {
                self.lanes.answers(lane, false);
                asking.await
            }
        };
        self.lanes.answers(lane, !matches!(answer, Err(BusError::Unavailable(_))));
        answer
    }
}

/// What a direct read has found.
pub(super) fn found(message: Message) -> Result<Option<Message>, BusError> {
    match message.status {
        None => Ok(Some(message)),
        Some(StatusCode::NOT_FOUND) => Ok(None),
        Some(status) => Err(BusError::unavailable(message.description.unwrap_or_else(|| status.to_string()))),
    }
}

/// Asks the lanes in this order, each as soon as the one before has nothing to give or has not answered for `patience`. Gives the
/// first answer that ends it, or else what all of them said.
async fn race<T, S, F: Future<Output = ControlFlow<T, S>>>(
    order: &[usize],
    patience: Duration,
    ask: impl Fn(usize) -> F,
) -> ControlFlow<T, Vec<S>> {
    let mut next = order.iter();
    let mut asked = FuturesUnordered::new();
    let mut said = Vec::new();
    loop {
        match next.next() {
            Some(lane) => asked.push(ask(*lane)),
            None if asked.is_empty() => return ControlFlow::Continue(said),
            None => {}
        }
        tokio::select! {
            biased;
            Some(answer) = asked.next() => said.push(answer?),
            () = tokio::time::sleep(patience), if next.len() > 0 => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_lane_is_passed_over_and_an_answer_of_it_still_counts() {
        const PATIENCE: Duration = Duration::from_secs(1);
        let ask = |lane| async move {
            match lane {
                0 => tokio::time::sleep(PATIENCE * 2).await,
                1 => std::future::pending().await,
                _ => return ControlFlow::Continue(lane),
            }
            ControlFlow::Break(lane)
        };
        let begun = Instant::now();
        assert_eq!(race(&[0, 1, 2], PATIENCE, ask).await, ControlFlow::Break(0));
        assert_eq!(begun.elapsed().as_millis(), (PATIENCE * 2).as_millis());
        assert_eq!(race(&[2, 2], PATIENCE, ask).await, ControlFlow::Continue(vec![2, 2]));
    }

    #[test]
    fn each_owner_has_a_lane_and_all_lanes_have_owners() {
        let lanes = Lanes::new(3);
        let mut homes: Vec<usize> = (1_000..1_003).map(|mrn| lanes.of(&mrn)[0]).collect();
        homes.sort_unstable();
        assert_eq!(homes, [0, 1, 2]);
        let mut all = lanes.of(&"x");
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_that_did_not_answer_is_avoided_for_a_while() {
        let lanes = Lanes::new(2);
        lanes.answers(1, false);
        assert_eq!((lanes.is_avoided(0), lanes.is_avoided(1)), (false, true));
        tokio::time::sleep(AVOIDED).await;
        assert!(!lanes.is_avoided(1));
    }
}

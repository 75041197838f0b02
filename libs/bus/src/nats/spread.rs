//! Keeps the leaders of the lanes apart, so that a server that dies takes one lane with it and not all.
//!
//! The broker elects leaders wherever it likes. All streams and consumers of a lane are to be led by one server, and each
//! lane by another. Whoever takes uploads looks after that; several who do see the same and ask for the same, and asking for
//! what is so already changes nothing.

use std::sync::Arc;
use std::time::Duration;

use proto_json::Queue;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use super::{Core, names};
use crate::BusError;

const EVERY: Duration = Duration::from_secs(5);

/// What leads a lane, and who could.
#[derive(Debug, Clone, Default, Deserialize)]
struct Group {
    leader: Option<String>,
    #[serde(default)]
    replicas: Vec<Replica>,
}

#[derive(Debug, Clone, Deserialize)]
struct Replica {
    name: String,
    current: bool,
    #[serde(default)]
    offline: bool,
}

/// Info of a stream or a consumer.
#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    cluster: Group,
}

impl Group {
    /// Servers that could lead it at once.
    fn others(&self) -> impl Iterator<Item = &str> {
        self.replicas
            .iter()
            .filter(|replica| replica.current && !replica.offline)
            .map(|replica| &*replica.name)
    }
}

/// Looks at every period, until dropped.
pub(super) fn keep(core: &Arc<Core>) -> AbortOnDropHandle<()> {
    let core = Arc::clone(core);
    AbortOnDropHandle::new(core.runtime.clone().spawn(async move {
        loop {
            spread(&core).await;
            tokio::time::sleep(EVERY).await;
        }
    }))
}

async fn spread(core: &Core) {
    let mut first = Vec::new();
    for lane in core.lanes.all() {
        first.push(group(core, lane, &names::stream(Queue::Uploads.name(), lane)).await.unwrap_or_default());
    }
    for (lane, home) in homes(&first).into_iter().enumerate() {
        if let Some(home) = home
            && let Err(error) = gather(core, lane, &home).await
        {
            tracing::debug!(lane, %error, "a lane could not be looked at");
        }
    }
}

/// Has one server lead all of a lane.
async fn gather(core: &Core, lane: usize, home: &str) -> Result<(), BusError> {
    for kind in Queue::ALL.map(Queue::name).into_iter().chain([names::BLOBS, names::CLAIMS]) {
        move_to(core, lane, home, &names::stream(kind, lane)).await?;
    }
    for queue in Queue::ALL {
        let consumer = format!("{}.{}", names::stream(queue.name(), lane), names::consumer(queue));
        move_to(core, lane, home, &consumer).await?;
    }
    Ok(())
}

/// The server for each lane: the one that leads its uploads, unless an earlier lane has that one and another is free.
fn homes(groups: &[Group]) -> Vec<Option<String>> {
    let mut homes: Vec<Option<String>> = Vec::new();
    for group in groups {
        let leader = group.leader.clone().filter(|leader| !homes.contains(&Some(leader.clone())));
        homes.push(leader);
    }
    for (lane, group) in groups.iter().enumerate() {
        if homes[lane].is_none() && group.leader.is_some() {
            let is_free = |name: &&str| !homes.iter().flatten().any(|home| home == name);
            homes[lane] = group.others().find(is_free).map(str::to_owned);
        }
    }
    homes
}

/// Asks the leader of a stream, or of a consumer, to make way for `home`.
async fn move_to(core: &Core, lane: usize, home: &str, name: &str) -> Result<(), BusError> {
    let group = group(core, lane, name).await?;
    if group.leader.as_deref().is_none_or(|leader| leader == home)
        || !group.others().any(|other| other == home)
    {
        return Ok(());
    }
    tracing::info!(name, from = group.leader, to = home, "the leader of a lane is asked to make way");
    let call = format!("{}.LEADER.STEPDOWN.{name}", what(name));
    let moved = core.api_in::<Value>(lane, &call, &json!({ "placement": { "preferred": home } })).await?;
    if let Err(error) = moved {
        tracing::debug!(name, %error, "it did not");
    }
    Ok(())
}

async fn group(core: &Core, lane: usize, name: &str) -> Result<Group, BusError> {
    let info = core.api_in::<Info>(lane, &format!("{}.INFO.{name}", what(name)), &json!({})).await??;
    Ok(info.cluster)
}

/// A consumer's name has that of its stream before it.
fn what(name: &str) -> &'static str {
    if name.contains('.') { "CONSUMER" } else { "STREAM" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(leader: Option<&str>, others: &[&str]) -> Group {
        let replicas =
            others.iter().map(|name| Replica { name: (*name).to_owned(), current: true, offline: false });
        Group { leader: leader.map(str::to_owned), replicas: replicas.collect() }
    }

    fn on(names: &[Option<&str>]) -> Vec<Option<String>> {
        names.iter().map(|name| name.map(str::to_owned)).collect()
    }

    #[test]
    fn lanes_that_share_a_server_part_and_others_stay() {
        let shared =
            [group(Some("b"), &["a", "c"]), group(Some("b"), &["a", "c"]), group(Some("a"), &["b", "c"])];
        assert_eq!(homes(&shared), on(&[Some("b"), Some("c"), Some("a")]));
        let apart =
            [group(Some("c"), &["a", "b"]), group(Some("a"), &["b", "c"]), group(Some("b"), &["a", "c"])];
        assert_eq!(homes(&apart), on(&[Some("c"), Some("a"), Some("b")]));
    }

    #[test]
    fn a_lane_stays_where_it_is_while_no_server_is_free_or_nobody_leads_it() {
        let mut dead = group(Some("b"), &["a", "c"]);
        dead.replicas[1].offline = true;
        let two_left = [group(Some("a"), &["b"]), group(Some("b"), &["a"]), dead];
        assert_eq!(homes(&two_left), on(&[Some("a"), Some("b"), None]));
        assert_eq!(homes(&[group(None, &["a"]), group(Some("a"), &[])]), on(&[None, Some("a")]));
    }
}

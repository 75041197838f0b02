//! Which connections a server keeps open, and which one it closes to make room for another.
//!
//! A connection is *unauthenticated* until a request on it presents credentials that a handler accepts. Unauthenticated
//! connections have slots of their own, so they cannot take the slots of authenticated clients. A new connection is never
//! refused: where its network or the server has no slot left, it replaces the oldest unauthenticated connection, which
//! has had the most time to authenticate. So a client with credentials gets in even while somebody at the same address
//! opens connections as fast as possible.
//!
//! Failure mode: an attacker who opens more connections within one round trip of a client than its network has slots
//! can displace the connection of that client; the client connects again.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The addresses that count as one client: an IPv4 address, or the /64 network of an IPv6 address, which one
/// subscriber has to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Network(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::from([a, b, c, d, 0, 0, 0, 0])
            }
            address => address,
        })
    }
}

/// Tells addresses of proxies from those of clients. By default there is no proxy.
#[derive(Clone, Default)]
pub struct Proxies(Option<Arc<dyn Fn(IpAddr) -> bool + Send + Sync>>);

impl Proxies {
    /// Proxies are where `is_proxy` says so.
    pub fn new(is_proxy: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Proxies(Some(Arc::new(is_proxy)))
    }

    pub(super) fn includes(&self, address: IpAddr) -> bool {
        self.0.as_ref().is_some_and(|is_proxy| is_proxy(address))
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxies")
    }
}

/// Limits of connections that have not authenticated.
#[derive(Debug, Clone, Copy)]
pub struct Unauthenticated {
    /// Most of them at the same time; the other slots of the server are for authenticated clients.
    pub connections: usize,
    /// Most of them from one [`Network`] at the same time.
    pub per_network: usize,
    /// A connection that has not authenticated after this time is closed once its response has been sent.
    pub lifetime: Duration,
}

/// There is no slot for another authenticated connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSlot {
    /// All slots for authenticated clients are taken.
    Server,
    /// The slots of this client are.
    Client,
}

/// The slots of one server.
#[derive(Debug)]
pub(super) struct ConnectionQuota {
    limits: Unauthenticated,
    /// Slots for authenticated connections, in all and of one client.
    authenticated: usize,
    per_client: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// Numbers the connections in the order in which they were opened.
    next: u64,
    unauthenticated: usize,
    networks: HashMap<Network, BTreeMap<u64, CancellationToken>>,
    authenticated: usize,
    clients: HashMap<Arc<str>, usize>,
}

impl Open {
    /// Closes the oldest unauthenticated connection of a network.
    fn evict(&mut self, network: Network) {
        let Some(connections) = self.networks.get_mut(&network) else { return };
        if let Some((_, evicted)) = connections.pop_first() {
            self.unauthenticated -= 1;
            evicted.cancel();
        }
        if connections.is_empty() {
            self.networks.remove(&network);
        }
    }

    /// Takes a connection out of the unauthenticated ones; `false` if it is none of them any more.
    fn remove(&mut self, network: Network, number: u64) -> bool {
        let Some(connections) = self.networks.get_mut(&network) else { return false };
        let removed = connections.remove(&number).is_some();
        if removed {
            self.unauthenticated -= 1;
        }
        if connections.is_empty() {
            self.networks.remove(&network);
        }
        removed
    }

    /// The network with the most unauthenticated connections; among equals, the one whose oldest is older.
    fn largest(&self) -> Option<Network> {
        let rank = |connections: &BTreeMap<u64, CancellationToken>| {
            (connections.len(), std::cmp::Reverse(connections.keys().next().copied()))
        };
        self.networks.iter().max_by_key(|(_, connections)| rank(connections)).map(|(network, _)| *network)
    }
}

impl ConnectionQuota {
    /// For `connections` in all, of which one authenticated client gets `per_client` at most.
    pub(super) fn new(connections: usize, per_client: usize, limits: Unauthenticated) -> Self {
        let unauthenticated = limits.connections.min(connections / 2).max(1);
        ConnectionQuota {
            limits: Unauthenticated { connections: unauthenticated, ..limits },
            authenticated: connections.saturating_sub(unauthenticated).max(1),
            per_client: per_client.max(1),
            open: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot for a new connection. Closes another one where there is none; then the second value is `true`.
    fn open(self: &Arc<Self>, address: IpAddr) -> (Slot, bool) {
        let network = Network::from(address);
        let evicted = CancellationToken::new();
        let mut open = self.lock();
        let of_network = open.networks.get(&network).map_or(0, BTreeMap::len);
        let full = if of_network >= self.limits.per_network.max(1) {
            Some(network)
        } else if open.unauthenticated >= self.limits.connections {
            open.largest()
        } else {
            None
        };
        if let Some(full) = full {
            open.evict(full);
        }
        let number = open.next;
        open.next += 1;
        open.unauthenticated += 1;
        open.networks.entry(network).or_default().insert(number, evicted.clone());
        drop(open);
        let slot = Slot { quota: self.clone(), network, number, evicted, client: Mutex::new(None) };
        (slot, full.is_some())
    }
}

/// The slot of one open connection; given back when dropped.
#[derive(Debug)]
struct Slot {
    quota: Arc<ConnectionQuota>,
    network: Network,
    number: u64,
    evicted: CancellationToken,
    /// Set once the connection has authenticated.
    client: Mutex<Option<Arc<str>>>,
}

impl Slot {
    fn client(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let client = self.client().take();
        let mut open = self.quota.lock();
        let Some(client) = client else {
            open.remove(self.network, self.number);
            return;
        };
        open.authenticated -= 1;
        if let Some(connections) = open.clients.get_mut(&client) {
            *connections -= 1;
            if *connections == 0 {
                open.clients.remove(&client);
            }
        }
    }
}

/// The connection of a request; in the extensions of each of its requests.
#[derive(Debug, Clone)]
pub struct Connection(Option<Arc<Slot>>);

impl Connection {
    /// A new connection, and whether another one is closed for it. Without a quota, it has no limits of its own.
    pub(super) fn open(quota: Option<&Arc<ConnectionQuota>>, address: IpAddr) -> (Self, bool) {
        match quota {
            Some(quota) => {
                let (slot, evicts) = quota.open(address);
                (Connection(Some(Arc::new(slot))), evicts)
            }
            None => (Connection(None), false),
        }
    }

    /// Whether the connection belongs to one client. Connections of a proxy, which bring requests of many, do not.
    #[must_use]
    pub fn is_of_one_client(&self) -> bool {
        self.0.is_some()
    }

    /// Moves the connection to the slots of an authenticated client. Later calls change nothing.
    ///
    /// # Errors
    /// When there is no slot; the connection stays unauthenticated.
    pub fn authenticate(&self, client: &Arc<str>) -> Result<(), NoSlot> {
        let Some(slot) = &self.0 else { return Ok(()) };
        let mut of = slot.client();
        if of.is_some() {
            return Ok(());
        }
        let mut open = slot.quota.lock();
        if open.authenticated >= slot.quota.authenticated {
            return Err(NoSlot::Server);
        }
        if open.clients.get(client).is_some_and(|connections| *connections >= slot.quota.per_client) {
            return Err(NoSlot::Client);
        }
        // A connection that is being closed for another one has no slot to move.
        if open.remove(slot.network, slot.number) {
            open.authenticated += 1;
            *open.clients.entry(client.clone()).or_default() += 1;
            *of = Some(client.clone());
        }
        Ok(())
    }

    /// Resolves when the connection must be closed for another one.
    pub(super) async fn evicted(&self) {
        match &self.0 {
            Some(slot) => slot.evicted.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// Resolves when the connection has been unauthenticated for as long as it may.
    pub(super) async fn expired(&self) {
        if let Some(slot) = &self.0 {
            tokio::time::sleep(slot.quota.limits.lifetime).await;
            if slot.client().is_none() {
                return;
            }
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn quota(
        connections: usize,
        per_client: usize,
        unauthenticated: usize,
        per_network: usize,
    ) -> Arc<ConnectionQuota> {
        let limits =
            Unauthenticated { connections: unauthenticated, per_network, lifetime: Duration::from_secs(30) };
        Arc::new(ConnectionQuota::new(connections, per_client, limits))
    }

    fn open(quota: &Arc<ConnectionQuota>, last: u8) -> Connection {
        Connection::open(Some(quota), IpAddr::from([192, 0, 2, last])).0
    }

    fn is_evicted(connection: &Connection) -> bool {
        connection.0.as_ref().unwrap().evicted.is_cancelled()
    }

    #[test]
    fn a_new_connection_replaces_the_oldest_unauthenticated_one_of_its_network() {
        let quota = quota(100, 10, 50, 2);
        let (first, second, other) = (open(&quota, 1), open(&quota, 1), open(&quota, 2));
        first.authenticate(&"ann".into()).unwrap();
        let third = open(&quota, 1);
        assert!(!is_evicted(&second), "the authenticated connection has given its slot back");
        let _fourth = open(&quota, 1);
        assert!(is_evicted(&second));
        assert!(!is_evicted(&first) && !is_evicted(&third) && !is_evicted(&other));
    }

    #[test]
    fn without_a_slot_the_network_with_the_most_connections_gives_one() {
        let quota = quota(100, 10, 4, 10);
        let lonely = open(&quota, 1);
        let crowd = [open(&quota, 2), open(&quota, 2), open(&quota, 2)];
        let _new = open(&quota, 3);
        assert!(is_evicted(&crowd[0]) && !is_evicted(&crowd[1]) && !is_evicted(&lonely));
    }

    #[test]
    fn one_client_gets_its_share_of_the_slots_for_authenticated_connections() {
        let quota = quota(8, 2, 4, 10);
        let (ann, bob): (Arc<str>, Arc<str>) = ("ann".into(), "bob".into());
        let anns = [open(&quota, 1), open(&quota, 1)];
        anns.iter().for_each(|connection| connection.authenticate(&ann).unwrap());
        let third = open(&quota, 1);
        assert_eq!(third.authenticate(&ann), Err(NoSlot::Client));
        assert_eq!(anns[0].authenticate(&ann), Ok(()), "it is authenticated already");
        let bobs = [open(&quota, 1), open(&quota, 1)];
        bobs.iter().for_each(|connection| connection.authenticate(&bob).unwrap());
        assert_eq!(open(&quota, 1).authenticate(&"cyd".into()), Err(NoSlot::Server));
        drop(anns);
        third.authenticate(&ann).unwrap();
        drop((third, bobs));
        let open = quota.lock();
        assert!(open.networks.is_empty() && open.clients.is_empty());
        assert_eq!((open.unauthenticated, open.authenticated), (0, 0));
    }

    #[test]
    fn an_evicted_connection_cannot_authenticate_into_a_slot() {
        let quota = quota(8, 2, 4, 1);
        let first = open(&quota, 1);
        let _second = open(&quota, 1);
        assert!(is_evicted(&first));
        first.authenticate(&"ann".into()).unwrap();
        drop(first);
        assert_eq!(quota.lock().authenticated, 0);
        assert_eq!(quota.lock().unauthenticated, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn only_an_unauthenticated_connection_expires() {
        let quota = quota(8, 2, 4, 4);
        let (stranger, known) = (open(&quota, 1), open(&quota, 1));
        known.authenticate(&"ann".into()).unwrap();
        stranger.expired().await;
        let never = tokio::time::timeout(Duration::from_secs(3600), known.expired()).await;
        assert!(never.is_err());
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one_and_those_of_ipv4_do_not() {
        let of = |text: &str| Network::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), Network::from(IpAddr::from(Ipv4Addr::new(192, 0, 2, 1))));
    }
}

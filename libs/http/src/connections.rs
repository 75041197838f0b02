//! Connection slots: which connections stay open, and which one is closed for a new one.
//!
//! A connection is *unauthenticated* until a handler accepts the credentials of one of its requests.
//! Unauthenticated connections have their own slots, so they cannot use up the slots of authenticated
//! clients. A new connection is never rejected: if its network or the server has no free slot, it replaces
//! the oldest unauthenticated connection, which has had the most time to authenticate. A client with
//! credentials can therefore connect even while another host at the same address opens connections as fast as
//! possible.
//!
//! Failure mode: an attacker that opens more connections than a network has slots, within one round trip of a
//! client, can displace the connection of that client. The client reconnects.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

/// The addresses that are counted as one client: an IPv4 address, or the /64 network of an IPv6 address,
/// because one subscriber usually controls a whole /64.
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

/// Decides which addresses are proxies. The default is none.
#[derive(Clone, Default)]
pub struct Proxies(Option<Arc<dyn Fn(IpAddr) -> bool + Send + Sync>>);

impl Proxies {
    /// Uses a predicate.
    pub fn new(is_proxy: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Proxies(Some(Arc::new(is_proxy)))
    }

    pub(crate) fn includes(&self, address: IpAddr) -> bool {
        self.0.as_ref().is_some_and(|is_proxy| is_proxy(address))
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxies")
    }
}

/// Limits of unauthenticated connections.
#[derive(Debug, Clone, Copy)]
pub struct Unauthenticated {
    /// Maximum number. The remaining slots of the server are reserved for authenticated clients.
    pub connections: usize,
    /// Maximum number from one [`Network`].
    pub per_network: usize,
    /// Time after which a connection that has not authenticated is closed. A response in progress is
    /// completed.
    pub lifetime: Duration,
}

/// No slot is free for an authenticated connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSlot {
    /// All slots for authenticated clients are in use.
    Server,
    /// All slots of this client are in use.
    Client,
}

/// The connection slots of a server.
#[derive(Debug)]
pub(crate) struct ConnectionQuota {
    limits: Unauthenticated,
    /// Maximum number of authenticated connections, in total and per client.
    authenticated: usize,
    per_client: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// Sequence number of the next connection.
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

    /// Removes an unauthenticated connection. Returns `false` if it was not registered any more.
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

    /// Returns the network with the most unauthenticated connections; of several, the one with the oldest
    /// connection.
    fn largest(&self) -> Option<Network> {
        let rank = |connections: &BTreeMap<u64, CancellationToken>| {
            (connections.len(), std::cmp::Reverse(connections.keys().next().copied()))
        };
        self.networks.iter().max_by_key(|(_, connections)| rank(connections)).map(|(network, _)| *network)
    }
}

impl ConnectionQuota {
    /// `connections` in total; at most `per_client` of one authenticated client.
    pub(crate) fn new(connections: usize, per_client: usize, limits: Unauthenticated) -> Self {
        let unauthenticated = limits.connections.min(connections / 2).max(1);
        ConnectionQuota {
            limits: Unauthenticated { connections: unauthenticated, ..limits },
            authenticated: connections.saturating_sub(unauthenticated).max(1),
            per_client: per_client.max(1),
            open: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock()
    }

    /// Takes a slot for a new connection. The second value is `true` if another connection was closed for it.
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

/// The slot of an open connection. Dropping it frees the slot.
#[derive(Debug)]
struct Slot {
    quota: Arc<ConnectionQuota>,
    network: Network,
    number: u64,
    evicted: CancellationToken,
    /// The client, once the connection has authenticated.
    client: Mutex<Option<Arc<str>>>,
}

impl Slot {
    fn client(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        self.client.lock()
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

/// The connection of a request. Stored in the request's extensions.
#[derive(Debug, Clone)]
pub struct Connection(Option<Arc<Slot>>);

impl Connection {
    /// Registers a new connection. The second value is `true` if another connection was closed for it.
    /// Without a quota, the connection is not limited.
    pub(crate) fn open(quota: Option<&Arc<ConnectionQuota>>, address: IpAddr) -> (Self, bool) {
        match quota {
            Some(quota) => {
                let (slot, evicts) = quota.open(address);
                (Connection(Some(Arc::new(slot))), evicts)
            }
            None => (Connection(None), false),
        }
    }

    /// Returns whether the connection belongs to one client. A connection of a proxy carries requests of many
    /// clients.
    #[must_use]
    pub fn is_of_one_client(&self) -> bool {
        self.0.is_some()
    }

    /// Moves the connection to the slots of an authenticated client. Has no effect on an authenticated
    /// connection.
    ///
    /// # Errors
    /// If no slot is free. The connection stays unauthenticated.
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
        // A connection that is being closed for another one has no slot that could be moved.
        if open.remove(slot.network, slot.number) {
            open.authenticated += 1;
            *open.clients.entry(client.clone()).or_default() += 1;
            *of = Some(client.clone());
        }
        Ok(())
    }

    /// Resolves when the connection must be closed for another one.
    pub(crate) async fn evicted(&self) {
        match &self.0 {
            Some(slot) => slot.evicted.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// Resolves when the time to authenticate has passed. Never resolves for an authenticated connection.
    pub(crate) async fn expired(&self) {
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
    fn new_connection_replaces_oldest_unauthenticated_of_its_network() {
        let quota = quota(100, 10, 50, 2);
        let (first, second, other) = (open(&quota, 1), open(&quota, 1), open(&quota, 2));
        first.authenticate(&"ann".into()).unwrap();
        let third = open(&quota, 1);
        assert!(!is_evicted(&second), "the authenticated connection has returned its slot");
        let _fourth = open(&quota, 1);
        assert!(is_evicted(&second));
        assert!(!is_evicted(&first) && !is_evicted(&third) && !is_evicted(&other));
    }

    #[test]
    fn without_free_slot_the_largest_network_loses_a_connection() {
        let quota = quota(100, 10, 4, 10);
        let lonely = open(&quota, 1);
        let crowd = [open(&quota, 2), open(&quota, 2), open(&quota, 2)];
        let _new = open(&quota, 3);
        assert!(is_evicted(&crowd[0]) && !is_evicted(&crowd[1]) && !is_evicted(&lonely));
    }

    #[test]
    fn authenticated_connections_are_limited_per_client_and_in_total() {
        let quota = quota(8, 2, 4, 10);
        let (ann, bob): (Arc<str>, Arc<str>) = ("ann".into(), "bob".into());
        let anns = [open(&quota, 1), open(&quota, 1)];
        anns.iter().for_each(|connection| connection.authenticate(&ann).unwrap());
        let third = open(&quota, 1);
        assert_eq!(third.authenticate(&ann), Err(NoSlot::Client));
        assert_eq!(anns[0].authenticate(&ann), Ok(()), "authenticating again has no effect");
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
    fn evicted_connection_cannot_take_an_authenticated_slot() {
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

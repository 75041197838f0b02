//! An HTTP/1.1 server that limits what a client may take, and drains on shutdown.
//!
//! Limits per connection: the time for the TLS handshake and for each request head (which includes the time between two
//! requests of one connection), and the time in which a client must take at least something of what is sent to it.
//! Limits for all connections: see [`connections`].

mod connections;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::lane::{Lane, in_lane};
use crate::{Acceptors, Shutdown};

use connections::ConnectionQuota;
pub use connections::{Connection, Network, NoSlot, Proxies, Unauthenticated};

/// Requests under way have this long to end once the shutdown has begun.
pub const DRAIN: Duration = Duration::from_secs(10);

/// A response that is under way when its connection expires has this long to be sent.
const LAST_RESPONSE: Duration = Duration::from_secs(10);

/// What a client may take of the server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The service, for metrics.
    pub service: &'static str,
    /// Connections at the same time.
    pub connections: usize,
    /// Of these, most of one authenticated client. Applies where there are limits for unauthenticated connections.
    pub connections_per_client: usize,
    /// Limits for unauthenticated connections. `None` where the server does not tell clients apart: then a connection
    /// beyond `connections` waits until another one is closed.
    pub unauthenticated: Option<Unauthenticated>,
    /// Proxies connect for many clients and limit their connections themselves: theirs do not count.
    pub proxies: Proxies,
    /// Time for a TLS handshake, and for a request head from the end of the request before it.
    pub header_read: Duration,
    /// Most bytes of a request head.
    pub header_bytes: usize,
    /// A client that takes nothing of what is sent to it for this long is disconnected. Linux only.
    pub write_stall: Duration,
}

impl Limits {
    /// 4,096 connections, 10 s and 16 KiB for the head of a request, 30 s without progress of a write.
    #[must_use]
    pub fn of(service: &'static str) -> Self {
        Limits {
            service,
            connections: 4096,
            connections_per_client: 4096,
            unauthenticated: None,
            proxies: Proxies::default(),
            header_read: Duration::from_secs(10),
            header_bytes: 16 * 1024,
            write_stall: Duration::from_secs(30),
        }
    }
}

/// Why the server closed a connection; a label of `bedside_http_connections_closed_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closed {
    /// To make room for a newer one.
    Replaced,
    /// It did not authenticate in time.
    Unauthenticated,
    /// No TLS handshake, or no request head, in time.
    SlowHead,
    /// The client did not take what was sent to it.
    WriteStall,
}

impl Closed {
    const ALL: [Closed; 4] =
        [Closed::Replaced, Closed::Unauthenticated, Closed::SlowHead, Closed::WriteStall];

    fn count(self, service: &'static str, by: u64) {
        let reason = match self {
            Closed::Replaced => "replaced",
            Closed::Unauthenticated => "unauthenticated",
            Closed::SlowHead => "slow_head",
            Closed::WriteStall => "write_stall",
        };
        let labels = [("service", service), ("reason", reason)];
        metrics::counter!("bedside_http_connections_closed_total", &labels).increment(by);
    }
}

/// Describes the metrics of servers.
fn describe(service: &'static str) {
    metrics::describe_counter!(
        "bedside_http_connections_closed_total",
        "Connections that the server closed, by service and reason: replaced by a newer one, not authenticated in time, \
         no request head in time, a client that does not read"
    );
    Closed::ALL.iter().for_each(|reason| reason.count(service, 0));
}

/// Serves until the shutdown begins, then accepts no more and gives the requests under way up to [`DRAIN`].
/// Handlers find the client's address as `ConnectInfo<SocketAddr>`, its [`Connection`], and the [`Lane`] of the connection.
///
/// # Errors
/// Never today: errors of single connections end these, errors of accepting are retried.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: &Shutdown,
) -> io::Result<()> {
    serve_over(listener, None, router, limits, shutdown).await
}

/// As [`serve`], over TLS if there is something to show.
///
/// # Errors
/// As [`serve`].
pub async fn serve_over(
    listener: TcpListener,
    tls: Option<Acceptors>,
    router: Router,
    limits: Limits,
    shutdown: &Shutdown,
) -> io::Result<()> {
    describe(limits.service);
    let slots = Arc::new(Semaphore::new(limits.connections));
    let quota = limits.unauthenticated.map(|unauthenticated| {
        Arc::new(ConnectionQuota::new(limits.connections, limits.connections_per_client, unauthenticated))
    });
    let open = TaskTracker::new();
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read)
        .max_buf_size(limits.header_bytes.max(8 * 1024))
        .keep_alive(true);

    while !shutdown.has_begun() {
        // With a quota a new connection replaces another one, so that none has to wait.
        let slot = match quota {
            Some(_) => None,
            None => match shutdown.unless_begun(slots.clone().acquire_owned()).await {
                Some(Ok(slot)) => Some(slot),
                _ => break,
            },
        };
        let Some(accepted) = shutdown.unless_begun(listener.accept()).await else { break };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: others must end before there is room again.
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let quota = quota.as_ref().filter(|_| !limits.proxies.includes(address.ip()));
        let (connection, replaces) = Connection::open(quota, address.ip());
        if replaces {
            Closed::Replaced.count(limits.service, 1);
        }
        configure(&stream, &limits);
        let task = ConnectionTask {
            server: server.clone(),
            router: router.clone(),
            address,
            connection,
            lane: Lane::default(),
            service: limits.service,
            shutdown: shutdown.clone(),
        };
        let (acceptor, limit) = (tls.as_ref().map(Acceptors::now), limits.header_read);
        let under_way = open.token();
        tokio::spawn(async move {
            let _slot = slot;
            match acceptor {
                None => task.serve(stream).await,
                Some(acceptor) => {
                    // Nothing is under way before the handshake is done: it does not hold up the end.
                    let handshake = tokio::time::timeout(limit, acceptor.accept(stream));
                    let handshake = task.shutdown.unless_begun(handshake);
                    let handshake = tokio::select! {
                        handshake = handshake => handshake,
                        () = task.connection.evicted() => None,
                    };
                    match handshake {
                        Some(Ok(Ok(stream))) => task.serve(stream).await,
                        Some(Ok(Err(error))) => tracing::debug!(%error, "no TLS with a client"),
                        Some(Err(_)) => Closed::SlowHead.count(task.service, 1),
                        None => {}
                    }
                }
            }
            drop(under_way);
        });
        // The new connection gets to read a request that has arrived before the next connection can replace it.
        tokio::task::yield_now().await;
    }

    drop(listener);
    open.close();
    if tokio::time::timeout(DRAIN, open.wait()).await.is_err() {
        tracing::warn!("requests still under way were cut off");
    }
    Ok(())
}

/// Sets the options of a new connection.
fn configure(stream: &TcpStream, limits: &Limits) {
    let _ = stream.set_nodelay(true);
    // The kernel knows what the client has taken, over slow lines too, where a large send buffer hides it from here. It
    // also notices a client that has vanished.
    #[cfg(target_os = "linux")]
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(limits.write_stall)) {
        tracing::debug!(%error, "a client that does not read will not be noticed");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = limits;
}

/// What the task of one connection works with.
struct ConnectionTask {
    server: http1::Builder,
    router: Router,
    address: SocketAddr,
    connection: Connection,
    lane: Lane,
    service: &'static str,
    shutdown: Shutdown,
}

impl ConnectionTask {
    /// Serves the requests of the connection until the client, a limit or the shutdown ends it.
    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let ConnectionTask { server, router, address, connection, lane, service, shutdown } = self;
        let (connection_of_requests, lane_of_requests) = (connection.clone(), lane.clone());
        let router = router.map_request(move |request: hyper::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(address));
            request.extensions_mut().insert(connection_of_requests.clone());
            request.extensions_mut().insert(lane_of_requests.clone());
            request
        });
        let served = in_lane(&lane, async {
            let mut http =
                pin!(server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
            let (mut expired, mut ending) = (pin!(connection.expired()), false);
            let mut last_response = pin!(tokio::time::sleep(Duration::MAX));
            loop {
                tokio::select! {
                    biased;
                    served = http.as_mut() => return served,
                    () = connection.evicted() => return Ok(()),
                    () = shutdown.begun(), if !ending => {
                        ending = true;
                        http.as_mut().graceful_shutdown();
                    }
                    () = expired.as_mut(), if !ending => {
                        ending = true;
                        Closed::Unauthenticated.count(service, 1);
                        last_response.set(tokio::time::sleep(LAST_RESPONSE));
                        http.as_mut().graceful_shutdown();
                    }
                    () = last_response.as_mut() => return Ok(()),
                }
            }
        });
        if let Err(error) = served.await {
            if error.is_timeout() {
                Closed::SlowHead.count(service, 1);
            } else if is_write_stall(&error) {
                Closed::WriteStall.count(service, 1);
            }
            tracing::debug!(%error, "connection ended early");
        }
    }
}

/// Whether the system gave up on a client that does not take what is sent to it.
fn is_write_stall(error: &hyper::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Says on standard output where a service listens; scripts and tests wait for it, and learn the port from it.
///
/// # Errors
/// When the listener has no address.
pub fn say_where(service: &str, listener: &TcpListener) -> Result<(), crate::StartError> {
    say_where_over("http", service, listener)
}

/// The same for `http` or `https`.
///
/// # Errors
/// As [`say_where`].
pub fn say_where_over(scheme: &str, service: &str, listener: &TcpListener) -> Result<(), crate::StartError> {
    let address = listener.local_addr().map_err(crate::StartError::failed)?;
    println!("{service} listens on {scheme}://{address}");
    Ok(())
}

/// Refuses plain HTTP on an address that other machines can reach, unless somebody asked for it with `--insecure`.
///
/// # Errors
/// A sentence that says what to set.
pub fn require_encryption(
    address: SocketAddr,
    has_certificate: bool,
    insecure: bool,
    how_to_encrypt: &str,
) -> Result<(), crate::StartError> {
    if has_certificate || insecure || address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    Err(crate::StartError::config(format!(
        "plain HTTP on {address} would send tokens and patient data unencrypted over the network; {how_to_encrypt}, or set \
         --insecure if a proxy in front of it or the network itself encrypts"
    )))
}

/// Binds a TCP listener.
///
/// # Errors
/// A sentence that names the address.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, crate::StartError> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => crate::StartError::failed(format!(
            "another program listens on {address} already; choose another address with --listen"
        )),
        _ => crate::StartError::failed(format!("cannot listen on {address}: {error}")),
    })
}

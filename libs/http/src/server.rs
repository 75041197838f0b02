//! An HTTP/1.1 server with limits per client and graceful shutdown.
//!
//! Limits of each connection: the time of the TLS handshake and of each request head (including the idle time
//! between two requests), and the time in which the client must read some of a response. Limits of all
//! connections: see [`crate::connections`]. Fairness between clients: see [`crate::scheduler`].
//!
//! `axum::serve` is not used: it accepts connections without a limit, has no timeouts for request heads and
//! stalled clients, and does not bound its graceful shutdown.

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
use runtime::{Shutdown, StartError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::connections::{Connection, ConnectionQuota, Proxies, Unauthenticated};
use crate::scheduler::{SchedulingGroup, run_scheduled};
use crate::tls::Acceptors;

/// Time that requests in progress have to complete after the shutdown begins.
pub const DRAIN: Duration = Duration::from_secs(10);

/// Time that a response in progress has to complete after its connection expires.
const RESPONSE_GRACE: Duration = Duration::from_secs(10);

/// Limits of a server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Service name for metrics.
    pub service: &'static str,
    /// Maximum number of open connections.
    pub connections: usize,
    /// Maximum number of connections of one authenticated client. Applies only if `unauthenticated` is set.
    pub connections_per_client: usize,
    /// Limits of unauthenticated connections. `None` if the server does not distinguish clients: connections
    /// beyond `connections` then wait until another one is closed.
    pub unauthenticated: Option<Unauthenticated>,
    /// Connections of proxies do not count, because a proxy serves many clients and limits their connections
    /// itself.
    pub proxies: Proxies,
    /// Maximum time of a TLS handshake, and of a request head measured from the end of the previous request.
    pub header_read: Duration,
    /// Maximum size of a request head in bytes.
    pub header_bytes: usize,
    /// A client that reads nothing for this long is disconnected. Linux only.
    pub write_stall: Duration,
}

impl Limits {
    /// Defaults: 4,096 connections; 10 s and 16 KiB per request head; 30 s without write progress.
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

/// Reason why the server closed a connection. Label of `bedside_http_connections_closed_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closed {
    /// Replaced by a newer connection.
    Replaced,
    /// Did not authenticate in time.
    Unauthenticated,
    /// No TLS handshake or request head in time.
    SlowHead,
    /// The client did not read the response.
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

/// Describes the metrics.
fn describe(service: &'static str) {
    metrics::describe_counter!(
        "bedside_http_connections_closed_total",
        "Connections closed by the server, by service and reason: replaced by a newer one, not authenticated \
         in time, no request head in time, client does not read"
    );
    Closed::ALL.iter().for_each(|reason| reason.count(service, 0));
}

/// Serves until the shutdown begins, then stops accepting and gives requests in progress up to [`DRAIN`].
///
/// The extensions of each request contain the client's address as `ConnectInfo<SocketAddr>`, the
/// [`Connection`] and the [`SchedulingGroup`] of its connection.
///
/// # Errors
/// Currently none: an error of a connection ends only that connection, and accept errors are retried.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: &Shutdown,
) -> io::Result<()> {
    serve_over(listener, None, router, limits, shutdown).await
}

/// Like [`serve`], with TLS if there is a certificate.
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
        // With a quota, a new connection replaces another one and does not wait for a slot.
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
                // Most likely no file descriptor is free. Wait until connections have been closed.
                tracing::warn!(%error, "a connection cannot be accepted");
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
            group: SchedulingGroup::default(),
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
                    // A handshake is not a request in progress: the shutdown does not wait for it.
                    let handshake = tokio::time::timeout(limit, acceptor.accept(stream));
                    let handshake = task.shutdown.unless_begun(handshake);
                    let handshake = tokio::select! {
                        handshake = handshake => handshake,
                        () = task.connection.evicted() => None,
                    };
                    match handshake {
                        Some(Ok(Ok(stream))) => task.serve(stream).await,
                        Some(Ok(Err(error))) => tracing::debug!(%error, "a TLS handshake failed"),
                        Some(Err(_)) => Closed::SlowHead.count(task.service, 1),
                        None => {}
                    }
                }
            }
            drop(under_way);
        });
        // Let the new connection read a request that has arrived before the next connection can replace it.
        tokio::task::yield_now().await;
    }

    drop(listener);
    open.close();
    if tokio::time::timeout(DRAIN, open.wait()).await.is_err() {
        tracing::warn!("requests in progress were aborted");
    }
    Ok(())
}

/// Sets the socket options of a new connection.
fn configure(stream: &TcpStream, limits: &Limits) {
    let _ = stream.set_nodelay(true);
    // Only the kernel knows what the client has acknowledged: a large send buffer hides it from this process.
    // The option also detects clients that have disappeared.
    #[cfg(target_os = "linux")]
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(limits.write_stall)) {
        tracing::debug!(%error, "clients that do not read cannot be detected");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = limits;
}

/// State of the task of one connection.
struct ConnectionTask {
    server: http1::Builder,
    router: Router,
    address: SocketAddr,
    connection: Connection,
    group: SchedulingGroup,
    service: &'static str,
    shutdown: Shutdown,
}

impl ConnectionTask {
    /// Serves the requests of the connection until the client, a limit or the shutdown ends it.
    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let ConnectionTask { server, router, address, connection, group, service, shutdown } = self;
        let (connection_of_requests, group_of_requests) = (connection.clone(), group.clone());
        let router = router.map_request(move |request: hyper::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(address));
            request.extensions_mut().insert(connection_of_requests.clone());
            request.extensions_mut().insert(group_of_requests.clone());
            request
        });
        let served = run_scheduled(&group, async {
            let mut http = pin!(
                server
                    .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
                    .with_upgrades()
            );
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
                        last_response.set(tokio::time::sleep(RESPONSE_GRACE));
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
            tracing::debug!(%error, "a connection ended with an error");
        }
    }
}

/// Returns whether the kernel gave up on a client that does not read.
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

/// Prints the address of a service to standard output. Scripts and tests read the port from it.
///
/// # Errors
/// If the listener has no address.
pub fn print_address(service: &str, listener: &TcpListener) -> Result<(), StartError> {
    print_address_with_scheme("http", service, listener)
}

/// Like [`print_address`], with the scheme `http` or `https`.
///
/// # Errors
/// As [`print_address`].
pub fn print_address_with_scheme(
    scheme: &str,
    service: &str,
    listener: &TcpListener,
) -> Result<(), StartError> {
    let address = listener.local_addr().map_err(StartError::failed)?;
    println!("{service} listens on {scheme}://{address}");
    Ok(())
}

/// Rejects plain HTTP on a non-loopback address unless `--insecure` is set.
///
/// # Errors
/// The setting to change.
pub fn require_encryption(
    address: SocketAddr,
    has_certificate: bool,
    insecure: bool,
    encryption_hint: &str,
) -> Result<(), StartError> {
    if has_certificate || insecure || address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    Err(StartError::config(format!(
        "plain HTTP on {address} would send tokens and patient data unencrypted over the network; \
         {encryption_hint}, or set --insecure if a proxy in front of it or the network itself encrypts"
    )))
}

/// Binds a TCP listener.
///
/// # Errors
/// If the address cannot be bound. The message contains the address.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => StartError::failed(format!(
            "another program listens on {address} already; choose another address with --listen"
        )),
        _ => StartError::failed(format!("cannot listen on {address}: {error}")),
    })
}

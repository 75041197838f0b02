//! An HTTP/1.1 server that bounds what a client may take, and drains when it is told to end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::ServiceExt;

use crate::lane::{Lane, in_lane};
use crate::{Acceptors, Shutdown};

/// Requests under way have this long to end once the shutdown has begun.
pub const DRAIN: Duration = Duration::from_secs(10);

/// What a client may take of the server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at the same time; further ones wait to be accepted.
    pub connections: usize,
    /// A client that has not sent its whole request head in this time is cut off.
    pub header_read: Duration,
    /// Most bytes of a request head.
    pub header_bytes: usize,
}

impl Default for Limits {
    /// 4,096 connections, 10 s and 16 KiB for the head of a request.
    fn default() -> Self {
        Limits { connections: 4096, header_read: Duration::from_secs(10), header_bytes: 16 * 1024 }
    }
}

/// Serves until the shutdown begins, then accepts no more and gives the requests under way up to [`DRAIN`].
/// Handlers find the client's address as `ConnectInfo<SocketAddr>`, and the [`Lane`] of the connection.
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
    let slots = Arc::new(Semaphore::new(limits.connections));
    let open = GracefulShutdown::new();
    let mut server = hyper::server::conn::http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read)
        .max_buf_size(limits.header_bytes.max(8 * 1024))
        .keep_alive(true);

    while let Some(Ok(slot)) = shutdown.unless_begun(slots.clone().acquire_owned()).await {
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
        let _ = stream.set_nodelay(true);
        let (router, lane) = (router.clone(), Lane::default());
        let lane_of_requests = lane.clone();
        let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            let router = router.clone();
            request.extensions_mut().insert(ConnectInfo(address));
            request.extensions_mut().insert(lane_of_requests.clone());
            async move { Ok::<_, Infallible>(answer(router, request.map(Body::new)).await) }
        });
        let (server, watcher, shutdown) = (server.clone(), open.watcher(), shutdown.clone());
        let (acceptor, limit) = (tls.as_ref().map(Acceptors::now), limits.header_read);
        tokio::spawn(async move {
            match acceptor {
                None => {
                    let connection = server.serve_connection(TokioIo::new(stream), service);
                    end(in_lane(&lane, watcher.watch(connection)).await);
                }
                Some(acceptor) => {
                    // Nothing is under way before the handshake is done: it does not hold up the end.
                    let handshake = tokio::time::timeout(limit, acceptor.accept(stream));
                    match shutdown.unless_begun(handshake).await {
                        Some(Ok(Ok(stream))) => {
                            let connection = server.serve_connection(TokioIo::new(stream), service);
                            end(in_lane(&lane, watcher.watch(connection)).await);
                        }
                        Some(Ok(Err(error))) => tracing::debug!(%error, "no TLS with a client"),
                        Some(Err(_)) | None => {}
                    }
                }
            }
            drop(slot);
        });
    }

    drop(listener);
    if tokio::time::timeout(DRAIN, open.shutdown()).await.is_err() {
        tracing::warn!("requests still under way were cut off");
    }
    Ok(())
}

fn end(ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
}

async fn answer(router: Router, request: hyper::Request<Body>) -> axum::response::Response {
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
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

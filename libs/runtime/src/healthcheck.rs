//! The `healthcheck` subcommand: queries the readiness endpoint of a running service. Container images
//! therefore need neither a shell nor curl.
//!
//! The request is written by hand over a TCP stream: it is a single fixed GET, and an HTTP client would be a
//! dependency of every service.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::exit::StartError;

/// Timeout of the whole query. Longer than the timeout of the checks behind `/readyz`.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Maximum number of bytes of the response that are read.
const MAX_RESPONSE: u64 = 16 * 1024;

/// Subcommands that all services have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Subcommand)]
pub enum Command {
    /// Query whether the service that runs with these settings is ready; exits with 0 if it is, otherwise 1
    Healthcheck,
}

/// Requests `/readyz` from the health endpoint of a service on this machine.
///
/// # Errors
/// If the service is not ready or does not answer. The message names the failed checks.
pub async fn healthcheck(admin: SocketAddr) -> Result<(), StartError> {
    let address = reachable(admin);
    let response = tokio::time::timeout(TIMEOUT, request_readiness(address))
        .await
        .map_err(|_| StartError::failed(format!("{address} does not answer in time")))?
        .map_err(|error| StartError::failed(format!("nothing answers at {address}: {error}")))?;
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "200" {
        return Ok(());
    }
    let parts = body.lines().filter(|line| line.ends_with(": unavailable"));
    let parts = parts.collect::<Vec<_>>().join(", ");
    // While a service starts or shuts down, the first line states it.
    let state = body.lines().next().filter(|line| !line.is_empty() && !line.ends_with(" is not ready"));
    Err(StartError::failed(match (state, parts.is_empty()) {
        (Some(state), true) => format!("not ready: {state}"),
        (Some(state), false) => format!("not ready: {state}; {parts}"),
        (None, true) => format!("not ready: {address} answers {status}"),
        (None, false) => format!("not ready: {parts}"),
    }))
}

/// Replaces an unspecified address, such as 0.0.0.0, with the loopback address.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn request_readiness(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE).read_to_end(&mut response).await?;
    Ok(String::from_utf8_lossy(&response).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unspecified_listen_address_is_queried_on_loopback() {
        for (listen, ask) in [
            ("0.0.0.0:9011", "127.0.0.1:9011"),
            ("[::]:9011", "[::1]:9011"),
            ("10.1.2.3:9011", "10.1.2.3:9011"),
        ] {
            let listen: SocketAddr = listen.parse().unwrap();
            assert_eq!(reachable(listen).to_string(), ask);
        }
    }
}

//! `healthcheck`: a service's own program asks it whether it is ready. Containers need neither a shell nor curl for it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::StartError;

/// A little more than the checks behind `/readyz` may take.
const LIMIT: Duration = Duration::from_secs(4);

/// Longest answer that is looked at.
const LONGEST: u64 = 16 * 1024;

/// What a service's program can do besides serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Subcommand)]
pub enum Command {
    /// Ask the service that runs under these settings whether it is ready; 0 if it is, else 1
    Healthcheck,
}

/// Asks `/readyz` at the address under which a service on this machine serves its health.
///
/// # Errors
/// One sentence on what is not ready, or that nobody answers.
pub async fn healthcheck(admin: SocketAddr) -> Result<(), StartError> {
    let address = reachable(admin);
    let answer = tokio::time::timeout(LIMIT, ask(address))
        .await
        .map_err(|_| StartError::failed(format!("{address} does not answer in time")))?
        .map_err(|error| StartError::failed(format!("nobody answers at {address}: {error}")))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "200" {
        return Ok(());
    }
    let parts = body.lines().filter(|line| line.ends_with(": unavailable"));
    let parts = parts.collect::<Vec<_>>().join(", ");
    Err(StartError::failed(if parts.is_empty() {
        format!("not ready: {address} answers {status}")
    } else {
        format!("not ready: {parts}")
    }))
}

/// Who listens on every address is asked on the loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_everywhere_is_asked_on_the_loopback() {
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

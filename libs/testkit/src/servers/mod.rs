//! Servers that tests start: nats-server, alone and as a cluster, and a server of the MongoDB protocol.

mod cluster;
mod mongo;
mod nats;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

pub use cluster::NatsCluster;
pub use mongo::MongoServer;
pub use nats::NatsServer;

/// Status and body of a page, read by a blocking request.
pub(crate) fn get(address: &str, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    Ok(format!("{status} {body}"))
}

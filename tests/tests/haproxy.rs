//! The shipped HAProxy configuration limits clients that have no token, and spares those that have one.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command};
use std::time::Duration;

use testkit::attacks::{NURSE, system_with};
use testkit::{Mode, System};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Connections of one address.
const PER_ADDRESS: usize = 50;
const PATIENCE: Duration = Duration::from_secs(60);

/// A real HAProxy in front of a gateway; ended when dropped.
struct Proxy {
    process: Child,
    port: u16,
    _system: System,
    _folder: tempfile::TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Proxy {
    async fn start() -> Proxy {
        let folder = tempfile::tempdir().unwrap();
        let system = system_with(folder.path(), Mode::Standalone, &["--trusted-proxies", "loopback"]);
        let gateway = system.url().replace("http://", "");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let shipped = std::fs::read_to_string("../deploy/haproxy.cfg").unwrap();
        // The containers' names and ports are replaced, and a number of connections that not every system allows.
        let mut config = shipped.clone();
        for (from, to) in [
            ("maxconn 8192", "maxconn 500".to_owned()),
            ("bind :5011\n", format!("bind 127.0.0.1:{port}\n")),
            ("server-template gateway 16 gateway:5011", format!("server gateway {gateway}")),
            ("check port 9011 inter 500ms fall 1 rise 1 resolvers docker init-addr none", "check".to_owned()),
            ("bind 127.0.0.1:8404", format!("bind unix@{}/health", folder.path().display())),
        ] {
            assert!(config.contains(from), "{from}");
            config = config.replace(from, &to);
        }
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, config).unwrap();
        let process = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(&file)
            .env("DOOR_TLS", "")
            .env("DOOR_MAX_CONNECTIONS_PER_ADDRESS", PER_ADDRESS.to_string())
            .spawn()
            .expect("haproxy is installed");
        let proxy = Proxy { process, port, _system: system, _folder: folder };
        testkit::within("the proxy answers", || async {
            let reply = proxy.ask(1, "/", None).await?;
            reply.starts_with("HTTP/1.1 200").then_some(())
        })
        .await;
        proxy
    }

    /// A connection from an address of this machine.
    async fn connect(&self, from: u8) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, from), 0)))?;
        socket.connect(SocketAddr::from(([127, 0, 0, 1], self.port))).await
    }

    async fn ask(&self, from: u8, path: &str, token: Option<&str>) -> Option<String> {
        ask(&mut self.connect(from).await.ok()?, path, token).await
    }
}

/// The head of the reply; `None` when the connection ends without one.
async fn ask(connection: &mut TcpStream, path: &str, token: Option<&str>) -> Option<String> {
    let token = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{token}\r\n");
    connection.write_all(head.as_bytes()).await.ok()?;
    let mut reply = vec![0; 4096];
    let read = tokio::time::timeout(PATIENCE, connection.read(&mut reply)).await.expect("an answer").ok()?;
    reply.truncate(read);
    String::from_utf8(reply).ok().filter(|reply| !reply.is_empty())
}

async fn is_closed(connection: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, connection.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn clients_without_a_token_cannot_hold_connections_of_the_proxy() {
    let proxy = Proxy::start().await;
    for (path, token, status) in
        [("/", None, 200), ("/api/v1/patients", Some("guess"), 401), ("/x", None, 404)]
    {
        let mut connection = proxy.connect(2).await.unwrap();
        let reply = ask(&mut connection, path, token).await.unwrap();
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {reply}");
        assert!(is_closed(&mut connection).await, "{path}");
    }
    let mut known = proxy.connect(2).await.unwrap();
    for path in ["/api/v1/patients", "/", "/api/v1/patients"] {
        let reply = ask(&mut known, path, Some(NURSE)).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 200"), "{path}: {reply}");
    }
}

#[tokio::test]
async fn one_address_gets_its_share_of_the_connections_of_the_proxy() {
    let proxy = Proxy::start().await;
    let mut silent = Vec::new();
    for _ in 0..PER_ADDRESS {
        silent.push(proxy.connect(3).await.unwrap());
    }
    // The threads of the proxy accept connections in any order. A request can be counted before a silent connection that
    // was opened earlier; the proxy then closes that silent connection, and a slot stays free until the next one.
    let mut answered = 0;
    while proxy.ask(3, "/api/v1/patients", Some(NURSE)).await.is_some() {
        answered += 1;
        assert!(answered < 100, "the proxy does not limit the connections of an address");
        silent.push(proxy.connect(3).await.unwrap());
    }
    let reply = proxy.ask(4, "/api/v1/patients", Some(NURSE)).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "other addresses go on: {reply}");
    // Silent connections are closed after `timeout http-request`.
    testkit::within("the slots are given back", || async {
        let reply = proxy.ask(3, "/api/v1/patients", Some(NURSE)).await?;
        reply.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
}

#[tokio::test]
async fn requests_without_a_token_have_a_rate_for_each_address_at_the_proxy() {
    let proxy = Proxy::start().await;
    let mut answered = 0;
    loop {
        let reply = proxy.ask(5, "/", None).await.unwrap();
        if reply.starts_with("HTTP/1.1 429") {
            break;
        }
        answered += 1;
        assert!(answered < 5_000);
    }
    assert!(proxy.ask(6, "/", None).await.unwrap().starts_with("HTTP/1.1 200"));
    assert!(proxy.ask(5, "/api/v1/patients", Some(NURSE)).await.unwrap().starts_with("HTTP/1.1 200"));
}

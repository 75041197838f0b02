//! The shipped HAProxy configuration limits clients without a token and does not affect others.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use testkit::attacks::{NURSE, system_with};
use testkit::{Mode, System, free_port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Limit of connections per address.
const PER_ADDRESS: usize = 50;
const PATIENCE: Duration = Duration::from_secs(60);

/// A HAProxy in front of a gateway. Dropping it ends the process.
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
        let port = free_port();
        let shipped = std::fs::read_to_string("../deploy/haproxy.cfg").unwrap();
        // Replaces names and ports of containers, and a number of connections that not every system permits.
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
            .env("INGRESS_TLS", "")
            .env("INGRESS_MAX_CONNECTIONS_PER_ADDRESS", PER_ADDRESS.to_string())
            .spawn()
            .expect("haproxy is installed");
        let proxy = Proxy { process, port, _system: system, _folder: folder };
        testkit::within("the proxy answers", || async {
            let reply = proxy.request(1, "/", None).await?;
            reply.starts_with("HTTP/1.1 200").then_some(())
        })
        .await;
        proxy
    }

    /// Connects from 127.0.0.`from`.
    async fn connect(&self, from: u8) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, from), 0)))?;
        socket.connect(SocketAddr::from(([127, 0, 0, 1], self.port))).await
    }

    async fn request(&self, from: u8, path: &str, token: Option<&str>) -> Option<String> {
        request(&mut self.connect(from).await.ok()?, path, token).await
    }
}

/// The response head; `None` if the connection ends without a response.
async fn request(connection: &mut TcpStream, path: &str, token: Option<&str>) -> Option<String> {
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
async fn connections_without_a_token_are_closed_after_the_first_response() {
    let proxy = Proxy::start().await;
    for (path, token, status) in
        [("/", None, 200), ("/api/v1/patients", Some("guess"), 401), ("/x", None, 404)]
    {
        let mut connection = proxy.connect(2).await.unwrap();
        let reply = request(&mut connection, path, token).await.unwrap();
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {reply}");
        assert!(is_closed(&mut connection).await, "{path}");
    }
    let mut known = proxy.connect(2).await.unwrap();
    for path in ["/api/v1/patients", "/", "/api/v1/patients"] {
        let reply = request(&mut known, path, Some(NURSE)).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 200"), "{path}: {reply}");
    }
}

#[tokio::test]
async fn connections_per_address_are_limited() {
    let proxy = Proxy::start().await;
    let mut silent = Vec::new();
    for _ in 0..PER_ADDRESS {
        silent.push(proxy.connect(3).await.unwrap());
    }
    // The threads of the proxy accept connections in any order. A request can be counted before an idle connection that was
    // opened earlier; the proxy then closes the idle connection, and a slot stays free until the next one.
    let mut answered = 0;
    while proxy.request(3, "/api/v1/patients", Some(NURSE)).await.is_some() {
        answered += 1;
        assert!(answered < 100, "the proxy does not limit the connections of an address");
        silent.push(proxy.connect(3).await.unwrap());
    }
    let reply = proxy.request(4, "/api/v1/patients", Some(NURSE)).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "other addresses are served: {reply}");
    // Idle connections are closed after `timeout http-request`.
    testkit::within("the slots are free again", || async {
        let reply = proxy.request(3, "/api/v1/patients", Some(NURSE)).await?;
        reply.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
}

#[tokio::test]
async fn rate_of_requests_without_a_token_is_limited_per_address() {
    let proxy = Proxy::start().await;
    let mut answered = 0;
    loop {
        let reply = proxy.request(5, "/", None).await.unwrap();
        if reply.starts_with("HTTP/1.1 429") {
            break;
        }
        answered += 1;
        assert!(answered < 5_000);
    }
    assert!(proxy.request(6, "/", None).await.unwrap().starts_with("HTTP/1.1 200"));
    assert!(proxy.request(5, "/api/v1/patients", Some(NURSE)).await.unwrap().starts_with("HTTP/1.1 200"));
}

#[test]
fn former_names_of_settings_are_reported() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/haproxy.cfg");
    let output = Command::new("haproxy")
        .args(["-c", "-f"])
        .arg(config)
        .env("INGRESS_TLS", "")
        .env("INGRESS_MAX_CONNECTIONS_PER_ADDRESS", "10")
        .env("DOOR_TLS", "/tls/door.pem")
        .output()
        .expect("haproxy is installed");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("DOOR_* are now INGRESS_*"), "{text}");
}

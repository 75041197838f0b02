//! Tests with clients that exhaust resources: other clients are served, and the resources are returned.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::Method;
use gateway::{Config, Limits};
use runtime::ByteSize;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::access::tokens_file;
use crate::fixture::{Api, Form, Start, TIMEOUT, base64, png};

const STATION: (&str, &str) = ("authorization", "Bearer station-secret");
const CHIEF: (&str, &str) = ("authorization", "Bearer chief-secret");
const BED: &str = "Bearer bed-secret";

/// Starts a gateway with tokens; also returns the token file.
async fn start(config: Config) -> (Api, tempfile::NamedTempFile) {
    let file = tokens_file();
    let config = Config { tokens: Some(file.path().to_owned()), receipt_wait: TIMEOUT, ..config };
    (Start { config, ..Start::default() }.start().await, file)
}

/// Opens a connection and sends `GET /` on it.
async fn public_connection(address: SocketAddr) -> TcpStream {
    let mut connection = TcpStream::connect(address).await.unwrap();
    ask_for_root(&mut connection).await.unwrap();
    connection
}

async fn ask_for_root(connection: &mut TcpStream) -> std::io::Result<()> {
    connection.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    let mut reply = [0; 4096];
    match connection.read(&mut reply).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Sends one request with a token on a new connection.
async fn ask_on_new_connection(address: SocketAddr, token: (&str, &str)) -> (TcpStream, String) {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let head =
        format!("GET /api/v1/patients HTTP/1.1\r\nHost: localhost\r\n{}: {}\r\n\r\n", token.0, token.1);
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut reply = vec![0; 4096];
    let read = tokio::time::timeout(TIMEOUT, connection.read(&mut reply)).await.expect("an answer").unwrap();
    reply.truncate(read);
    (connection, String::from_utf8(reply).unwrap())
}

/// Reads until the gateway closes the connection.
async fn read_to_end(connection: &mut TcpStream) -> String {
    let mut reply = Vec::new();
    let reading = connection.read_to_end(&mut reply);
    // A reset closes the connection as well.
    let _ = tokio::time::timeout(TIMEOUT, reading).await.expect("the connection is closed");
    String::from_utf8_lossy(&reply).into_owned()
}

#[tokio::test]
async fn unauthenticated_connections_do_not_lock_out_clients_with_tokens() {
    let limits = Limits {
        max_connections: 40,
        max_unauthenticated_connections: 20,
        max_unauthenticated_per_address: 10,
        max_public_requests_per_second: 0,
        ..Limits::default()
    };
    let (api, _file) = start(Config { limits, ..Config::default() }).await;
    let mut strangers = Vec::new();
    for _ in 0..100 {
        strangers.push(public_connection(api.address).await);
    }
    for _ in 0..5 {
        let (_connection, reply) = ask_on_new_connection(api.address, STATION).await;
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    }
    let mut open = 0;
    for connection in &mut strangers {
        open += usize::from(ask_for_root(connection).await.is_ok());
    }
    assert!((1..=10).contains(&open), "{open} connections of one address are open");
}

#[tokio::test]
async fn only_connections_without_a_token_expire() {
    let limits = Limits { unauthenticated_lifetime: Duration::from_millis(300), ..Limits::default() };
    let (api, _file) = start(Config { limits, ..Config::default() }).await;
    let (mut known, reply) = ask_on_new_connection(api.address, STATION).await;
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    let mut stranger = public_connection(api.address).await;
    let closed = async {
        while ask_for_root(&mut stranger).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, closed).await.expect("the connection is closed");
    ask_for_root(&mut known).await.expect("the connection is open");

    let mut guesser = TcpStream::connect(api.address).await.unwrap();
    let head = "GET /api/v1/patients HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer guess\r\n\r\n";
    guesser.write_all(head.as_bytes()).await.unwrap();
    let reply = read_to_end(&mut guesser).await;
    assert!(reply.starts_with("HTTP/1.1 401") && reply.contains("connection: close"), "{reply}");
}

#[tokio::test]
async fn one_token_is_limited_to_its_share_of_connections() {
    // Half of the connections are for unauthenticated ones. The share of a token is a quarter of all.
    let limits = Limits { max_connections: 16, ..Limits::default() };
    let (api, _file) = start(Config { limits, ..Config::default() }).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let (connection, reply) = ask_on_new_connection(api.address, STATION).await;
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
        held.push(connection);
    }
    let (mut rejected, reply) = ask_on_new_connection(api.address, STATION).await;
    assert!(reply.starts_with("HTTP/1.1 429") && reply.contains("retry-after: 1"), "{reply}");
    read_to_end(&mut rejected).await;
    let (_other, reply) = ask_on_new_connection(api.address, CHIEF).await;
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    drop(held);
    let free =
        async { while !ask_on_new_connection(api.address, STATION).await.1.starts_with("HTTP/1.1 200") {} };
    tokio::time::timeout(TIMEOUT, free).await.expect("the slots are returned");
}

#[tokio::test]
async fn public_routes_are_rate_limited_per_address() {
    let limits = Limits { max_public_requests_per_second: 1, ..Limits::default() };
    let config = Config {
        limits,
        trusted_proxies: vec!["loopback".parse().unwrap()],
        admin_for_clients: true,
        ..Config::default()
    };
    let (api, _file) = start(config).await;
    for path in ["/", "/api/openapi.json", "/livez", "/readyz", "/nothing", "/api/v1/nothing"] {
        let from = format!("192.0.2.{}", path.len());
        let ask = async |from: &str| api.send(Method::GET, path, &[("x-forwarded-for", from)], "").await;
        let mut answered = 0;
        let rejected = loop {
            let reply = ask(&from).await;
            if reply.status == 429 {
                break reply;
            }
            answered += 1;
            assert!(answered < 1_000, "{path} is not limited");
        };
        assert!(answered >= 4, "{path}: a burst is allowed");
        assert!(!rejected.header("retry-after").is_empty());
        let other = format!("198.51.100.{}", path.len());
        assert_ne!(ask(&other).await.status, 429, "other clients of the proxy are not limited");
        let token = [("x-forwarded-for", from.as_str()), STATION];
        assert_eq!(api.send(Method::GET, "/api/v1/patients", &token, "").await.status, 200);
    }
}

#[tokio::test]
async fn connections_of_a_trusted_proxy_are_not_limited() {
    let limits = Limits {
        max_unauthenticated_per_address: 1,
        unauthenticated_lifetime: Duration::from_millis(1),
        ..Limits::default()
    };
    let (api, _file) =
        start(Config { limits, trusted_proxies: vec!["loopback".parse().unwrap()], ..Config::default() })
            .await;
    let mut connections = Vec::new();
    for _ in 0..10 {
        connections.push(public_connection(api.address).await);
    }
    for connection in &mut connections {
        ask_for_root(connection).await.expect("the connection is open");
    }
}

/// Returns a legacy body of slightly more than this number of bytes.
fn large_body(mrn: u64, bytes: usize) -> String {
    let image = [png(3, 3, 0), vec![mrn as u8; bytes / 4 * 3]].concat();
    json!({ "medical_record_number": mrn, "medical_image": base64(&image) }).to_string()
}

/// Limits with 9 MB for bodies of at most 8 MB.
fn little_memory() -> Limits {
    Limits { max_legacy_body: ByteSize(8_000_000), upload_memory: ByteSize(8_000_000), ..Limits::default() }
}

#[tokio::test]
async fn slow_large_uploads_of_one_token_do_not_block_other_tokens() {
    let (api, _file) = start(Config { limits: little_memory(), ..Config::default() }).await;
    let mut slow = Vec::new();
    for _ in 0..3 {
        let mut connection = TcpStream::connect(api.address).await.unwrap();
        let head = format!(
            "POST /api/new_patient HTTP/1.1\r\nHost: localhost\r\nAuthorization: {BED}\r\nContent-Length: 7900000\r\n\r\n"
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        connection.write_all(b"{\"medical_image\":\"").await.unwrap();
        connection.write_all(&vec![b'A'; 7_800_000]).await.unwrap();
        slow.push(connection);
    }
    let reply = api.send(Method::POST, "/api/new_patient", &[CHIEF], large_body(7, 7_500_000)).await;
    reply.assert_text(200, "New patient ID 7 is registered");
}

#[tokio::test]
async fn concurrent_large_bodies_queue_for_memory_and_are_all_stored() {
    let (api, _file) = start(Config { limits: little_memory(), ..Config::default() }).await;
    let uploads = (1..=16).map(|mrn| {
        let token = if mrn % 2 == 0 { CHIEF } else { ("authorization", BED) };
        let api = &api;
        async move {
            let reply =
                api.send(Method::POST, "/api/new_patient", &[token], large_body(mrn, 5_000_000)).await;
            reply.assert_text(200, &format!("New patient ID {mrn} is registered"));
        }
    });
    futures::future::join_all(uploads).await;
}

/// Sends the head and `first` bytes of an upload at once, then a few bytes at intervals. Returns the
/// response.
async fn drip(api: &Api, path: &str, first: usize, bytes: usize) -> String {
    let connection = TcpStream::connect(api.address).await.unwrap();
    let (mut read, mut write) = connection.into_split();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {BED}\r\nContent-Length: 7000000\r\n\
         Content-Type: {}\r\n\r\n--XyZ\r\nContent-Disposition: form-data; name=\"ecg\"\r\n\r\n",
        Form::CONTENT_TYPE
    );
    write.write_all(head.as_bytes()).await.unwrap();
    write.write_all(&vec![b'1'; first]).await.unwrap();
    let dripping = async {
        while write.write_all(&vec![b'1'; bytes]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut reply = Vec::new();
    tokio::select! {
        () = dripping => unreachable!(),
        read = tokio::time::timeout(TIMEOUT, read.read_to_end(&mut reply)) => {
            let _ = read.expect("the upload is aborted");
        }
    }
    String::from_utf8(reply).unwrap()
}

#[tokio::test]
async fn upload_below_the_minimum_rate_or_past_its_deadline_is_aborted() {
    let slow = Config {
        body_idle: Duration::from_millis(400),
        limits: Limits { min_upload_rate: ByteSize(100_000), ..Limits::default() },
        ..Config::default()
    };
    let long = Config { transfer_deadline: Duration::from_millis(500), ..Config::default() };
    // 50 bytes every 20 ms are below 100,000 bytes per second; 5,000 bytes are above the default of 4 KB per
    // second.
    for (config, first, bytes) in [(slow, 500_000, 50), (long, 0, 5_000)] {
        let (api, _file) = start(config).await;
        for path in ["/api/v1/patients/7/uploads", "/api/new_patient"] {
            let reply = drip(&api, path, first, bytes).await;
            assert!(reply.starts_with("HTTP/1.1 408 ") && reply.contains("did not arrive"), "{reply}");
        }
        api.nothing_is_stored().await;
    }
}

#[tokio::test]
async fn unread_download_is_aborted_and_returns_its_permit() {
    // The share is a quarter of four permits.
    let limits = Limits { max_reads_in_flight: 4, ..Limits::default() };
    let config = Config { write_stall: Duration::from_millis(500), limits, ..Config::default() };
    let (api, _file) = start(config).await;
    // Larger than the socket buffers.
    let image = [png(3, 3, 0), vec![7; 30_000_000]].concat();
    let headers = [("content-type", Form::CONTENT_TYPE), CHIEF];
    let form = Form::default().file("medical_image", "a.png", &image).finish();
    let reply = api.send(Method::POST, "/api/v1/patients/7/uploads", &headers, form).await;
    let id = reply.json()["files"][0]["id"].as_str().unwrap().to_owned();

    let mut unread = TcpStream::connect(api.address).await.unwrap();
    let head = format!(
        "GET /api/v1/images/{id} HTTP/1.1\r\nHost: localhost\r\n{}: {}\r\n\r\n",
        STATION.0, STATION.1
    );
    unread.write_all(head.as_bytes()).await.unwrap();
    unread.readable().await.unwrap();
    let ask = async || api.send(Method::GET, "/api/v1/patients", &[STATION], "").await.status;
    assert_eq!(ask().await, 429, "the download holds the permit");
    let free = async { while ask().await != 200 {} };
    tokio::time::timeout(TIMEOUT, free).await.expect("the permit is returned");
    let mut rest = Vec::new();
    let read = unread.read_to_end(&mut rest).await;
    assert!(read.is_err() || rest.len() < 30_000_000, "the download was aborted");
}

//! Tests of the HTTP server's limits and shutdown.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http_server::{Limits, admin, serve};
use runtime::Shutdown;
use runtime::health::Check;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn start(
    router: Router,
    limits: Limits,
) -> (std::net::SocketAddr, Shutdown, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let begun = shutdown.clone();
    let server = tokio::spawn(async move { serve(listener, router, limits, &begun).await.unwrap() });
    (address, shutdown, server)
}

async fn ask(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn incomplete_request_head_closes_the_connection() {
    let limits = Limits { header_read: Duration::from_millis(100), ..Limits::of("test") };
    let (address, _shutdown, _server) = start(Router::new(), limits).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HT").await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest))
        .await
        .expect("the connection is closed")
        .unwrap();
}

#[tokio::test]
async fn idle_connection_is_closed_before_and_after_a_request() {
    let limits = Limits { header_read: Duration::from_millis(100), ..Limits::of("test") };
    let (address, _shutdown, _server) = start(Router::new().route("/", get(async || "hello")), limits).await;
    for request in ["", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut rest));
        closed.await.expect("the connection is closed").unwrap();
        assert_eq!(rest.ends_with(b"hello"), !request.is_empty());
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn client_that_does_not_read_is_disconnected() {
    let (dropped, is_dropped) = tokio::sync::oneshot::channel::<()>();
    let dropped = std::sync::Arc::new(std::sync::Mutex::new(Some(dropped)));
    let endless = move || {
        let held = dropped.lock().unwrap().take();
        let body = futures::stream::repeat_with(move || {
            let _held = &held;
            Ok::<_, std::convert::Infallible>(vec![0_u8; 65_536])
        });
        async move { axum::body::Body::from_stream(body) }
    };
    let limits = Limits { write_stall: Duration::from_millis(300), ..Limits::of("test") };
    let (address, _shutdown, _server) = start(Router::new().route("/", get(endless)), limits).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), is_dropped).await;
    ended.expect("the response is ended").unwrap_err();
    let metrics = runtime::Metrics::install().render();
    let line = "bedside_http_connections_closed_total{service=\"test\",reason=\"write_stall\"}";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn request_in_progress_completes_after_shutdown_begins() {
    let entered = std::sync::Arc::new(tokio::sync::Notify::new());
    let leave = std::sync::Arc::new(tokio::sync::Notify::new());
    let (in_handler, may_leave) = (entered.clone(), leave.clone());
    let router = Router::new().route(
        "/slow",
        get(async move || {
            in_handler.notify_one();
            may_leave.notified().await;
            "done"
        }),
    );
    let (address, shutdown, server) = start(router, Limits::of("test")).await;
    let request = tokio::spawn(ask(address, "/slow"));
    entered.notified().await;
    shutdown.begin();
    leave.notify_one();
    assert!(request.await.unwrap().ends_with("done"));
    server.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "no new connection is accepted");
}

#[tokio::test]
async fn readiness_names_the_failed_check_and_not_its_cause() {
    let checks = vec![
        Check::new("store", async || Ok(())),
        Check::new("bus", async || Err("10.0.0.7 refused".to_owned())),
    ];
    let (address, _shutdown, _server) =
        start(admin::router("query", checks, runtime::Metrics::install()), Limits::of("test")).await;
    let answer = ask(address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("store: ok\nbus: unavailable\n"), "{answer}");
    assert!(!answer.contains("10.0.0.7"), "{answer}");
    assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
    let said = runtime::healthcheck(address).await.unwrap_err().to_string();
    assert_eq!(said, "not ready: bus: unavailable");
}

#[tokio::test]
async fn healthcheck_passes_if_ready_and_fails_if_nothing_listens() {
    let checks = vec![Check::new("store", async || Ok(()))];
    let (address, shutdown, server) =
        start(admin::router("query", checks, runtime::Metrics::install()), Limits::of("test")).await;
    runtime::healthcheck(address).await.unwrap();
    shutdown.begin();
    server.await.unwrap();
    let said = runtime::healthcheck(address).await.unwrap_err().to_string();
    assert!(said.starts_with("nobody answers at 127.0.0.1:"), "{said}");
}

//! Tests of the HTTP server's limits and shutdown.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http_server::{Limits, admin, serve};
use runtime::Shutdown;
use runtime::health::{Check, Health};
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
    send(address, "GET", path).await
}

async fn send(address: std::net::SocketAddr, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
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
    let health = Health::of(checks, &Shutdown::new());
    let (address, _shutdown, _server) =
        start(admin::router("query", health, runtime::Metrics::install()), Limits::of("test")).await;
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
    let health = Health::of(checks, &Shutdown::new());
    let (address, shutdown, server) =
        start(admin::router("query", health, runtime::Metrics::install()), Limits::of("test")).await;
    runtime::healthcheck(address).await.unwrap();
    shutdown.begin();
    server.await.unwrap();
    let said = runtime::healthcheck(address).await.unwrap_err().to_string();
    assert!(said.starts_with("nothing answers at 127.0.0.1:"), "{said}");
}

/// The table in docs/OPERATIONS.md.
#[tokio::test]
async fn health_follows_start_checks_and_shutdown() {
    let begun = Shutdown::new();
    let health = Health::starting(&["bus", "store"], &begun);
    // Served beyond the shutdown, as during the drain wait of the gateway.
    let (address, _shutdown, _server) =
        start(admin::router("ingest", health.clone(), runtime::Metrics::install()), Limits::of("test")).await;
    let expect = async |path: &str, status: &str, body: &str| {
        let answer = ask(address, path).await;
        let (head, found) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!((&head[9..12], found), (status, body), "{path}");
        let head_answer = send(address, "HEAD", path).await;
        assert_eq!(&head_answer[9..12], status, "HEAD {path}");
        assert!(head_answer.ends_with("\r\n\r\n"), "HEAD has no body: {head_answer}");
    };
    expect("/livez", "503", "ingest is starting\n").await;
    expect("/readyz", "503", "ingest is starting\nbus: unavailable\nstore: unavailable\n").await;
    let said = runtime::healthcheck(address).await.unwrap_err().to_string();
    assert_eq!(said, "not ready: ingest is starting; bus: unavailable, store: unavailable");
    let metrics = ask(address, "/metrics").await;
    assert!(metrics.contains("bedside_dependency_up{service=\"ingest\",dependency=\"bus\"} 0"), "{metrics}");

    let store_works = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let works = store_works.clone();
    health.begin_service(vec![
        Check::new("bus", async || Ok(())),
        Check::new("store", move || {
            let works = works.load(std::sync::atomic::Ordering::SeqCst);
            async move { if works { Ok(()) } else { Err("10.0.0.7 refused".to_owned()) } }
        }),
        Check::advisory("clock", async || Err("the clock is behind".to_owned())),
    ]);
    expect("/livez", "200", "ingest is alive\n").await;
    expect("/readyz", "200", "ingest is ready\nbus: ok\nstore: ok\nclock: wrong\n").await;
    store_works.store(false, std::sync::atomic::Ordering::SeqCst);
    expect("/readyz", "503", "ingest is not ready\nbus: ok\nstore: unavailable\nclock: wrong\n").await;
    expect("/livez", "200", "ingest is alive\n").await;
    store_works.store(true, std::sync::atomic::Ordering::SeqCst);
    expect("/readyz", "200", "ingest is ready\nbus: ok\nstore: ok\nclock: wrong\n").await;

    begun.begin();
    expect("/readyz", "503", "ingest is shutting down\nbus: ok\nstore: ok\nclock: wrong\n").await;
    expect("/livez", "200", "ingest is alive\n").await;
    let said = runtime::healthcheck(address).await.unwrap_err().to_string();
    assert_eq!(said, "not ready: ingest is shutting down");
    for method in ["POST", "PUT", "DELETE"] {
        let answer = send(address, method, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("allow: GET,HEAD"), "{answer}");
    }
}

#[tokio::test]
async fn endpoints_answer_while_the_work_waits_and_end_with_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let health = Health::starting(&["bus"], &shutdown);
    let (fail, failed) = tokio::sync::oneshot::channel::<()>();
    let (state, begun) = (health.clone(), shutdown.clone());
    let program = tokio::spawn(async move {
        let work = async move {
            let _ = failed.await;
            Err(runtime::StartError::config("the broker rejects the password"))
        };
        admin::serve_during(work, "ingest", listener, state, &begun).await
    });
    assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 503"));
    fail.send(()).unwrap();
    let error = program.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the broker rejects the password");
    assert!(TcpStream::connect(address).await.is_err() && shutdown.has_begun());
}

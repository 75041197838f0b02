//! The fixture: starts the gateway on a free port together with ingest, worker, query, queues and store, and
//! sends requests.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bus::local::LocalBus;
use bus::{BusPorts, PubSub, QueueLimits, RetryPolicy, StagingStore, WorkQueue};
use bytes::Bytes;
use gateway::{AuditTarget, Config, Ports, Reads};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use proto_json::Queue;
use runtime::{Secret, Shutdown};
use store::PatientReader;
use store::sqlite::SqliteStore;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// Timeout of all waits. Long, because other tests may use the processor.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// A running system. Dropping it stops all services.
pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    /// Address and token of query, if the gateway reaches it over HTTP.
    pub(crate) query: Option<(SocketAddr, Secret)>,
    pub(crate) audit_log: PathBuf,
    pub(crate) bus: Arc<LocalBus>,
    pub(crate) store: Arc<SqliteStore>,
    calls_of_alarms: axum::Router,
    config: Config,
    client: Client<HttpConnector, Full<Bytes>>,
    shutdown: Shutdown,
    _data: TempDir,
}

fn start_ingest(bus: &Arc<LocalBus>, store: &Arc<SqliteStore>, shutdown: &Shutdown) {
    let ports = ingest::Ports::of(BusPorts::of(bus), store.clone());
    tokio::spawn(ingest::run(ingest::Config::default(), ports, shutdown.clone()));
}

impl Drop for Api {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

/// A response that was read completely.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts a problem document with this status whose detail contains `about`.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, about: &str) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem: proto_json::Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.status, status);
        let detail = problem.detail.unwrap();
        assert!(detail.contains(about), "{detail:?} should name {about:?}");
    }

    /// Asserts a text response of the legacy API.
    #[track_caller]
    pub(crate) fn assert_text(&self, status: u16, sentence: &str) {
        assert_eq!((self.status.as_u16(), self.text()), (status, sentence));
        assert_eq!(self.header("content-type"), "text/html; charset=utf-8");
    }
}

/// The services to start.
pub(crate) struct Start {
    pub(crate) config: Config,
    pub(crate) ingest: bool,
    pub(crate) limits: QueueLimits,
    pub(crate) query_over_http: bool,
    /// Address of an ingest in another process; by default, it is called in this process.
    pub(crate) records_at: Option<SocketAddr>,
    /// Whether the gateway has query's token.
    pub(crate) gateway_has_token: bool,
}

impl Default for Start {
    fn default() -> Self {
        let config = Config { receipt_wait: TIMEOUT, ..Config::default() };
        Start {
            config,
            ingest: true,
            limits: QueueLimits::default(),
            query_over_http: false,
            records_at: None,
            gateway_has_token: true,
        }
    }
}

impl Start {
    pub(crate) async fn start(self) -> Api {
        let data = tempfile::tempdir().unwrap();
        let bus =
            LocalBus::open(&data.path().join("queues.db"), RetryPolicy::default(), self.limits).unwrap();
        let store = SqliteStore::open(&data.path().join("patients.db")).unwrap();
        let shutdown = Shutdown::new();
        if self.ingest {
            start_ingest(&bus, &store, &shutdown);
            let ports = ecg_worker::Ports { queue: bus.clone(), staging: bus.clone() };
            tokio::spawn(ecg_worker::run(ecg_worker::Config { concurrency: None }, ports, shutdown.clone()));
        }
        let (query_token, mut query_address) = (Secret::generate().unwrap(), None);
        let reads = if self.query_over_http {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            query_address = listener.local_addr().ok();
            tokio::spawn(query::run_on(
                listener,
                Some(query_token.clone()),
                query::Ports::of(store.clone()),
                shutdown.clone(),
            ));
            Reads::Http { address: url, token: self.gateway_has_token.then(|| query_token.clone()) }
        } else {
            Reads::InProcess(query::router(query::Ports::of(store.clone())))
        };
        let mut config = self.config;
        if config.key_file.is_none() {
            let key = data.path().join("key");
            Secret::read_or_create(&key).unwrap();
            config.key_file = Some(key);
        }
        let audit_log = data.path().join("audit.log");
        config.audit_log = Some(AuditTarget::File(audit_log.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let records = ingest::Ports::of(BusPorts::of(&bus), store.clone());
        let records = match self.records_at {
            Some(address) => Reads::Http { address: format!("http://{address}"), token: None },
            None => Reads::InProcess(ingest::router(records)),
        };
        let alarms = alarms::Ports::of(&BusPorts::of(&bus), store.clone());
        let alarms = alarms::Alarms::new(alarms::Config::default(), alarms::Notifications::default(), alarms);
        let calls_of_alarms = alarms.router();
        let evaluating = shutdown.clone();
        tokio::spawn(async move { alarms.run(evaluating).await });
        let ports = Ports {
            bus: BusPorts::of(&bus),
            reads,
            records,
            alarms: Reads::InProcess(calls_of_alarms.clone()),
            checks: Vec::new(),
        };
        tokio::spawn(gateway::run_on(listener, config.clone(), ports, shutdown.clone()));
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        let query = query_address.map(|address| (address, query_token));
        Api { address, query, calls_of_alarms, audit_log, bus, store, config, client, shutdown, _data: data }
    }
}

impl Api {
    pub(crate) async fn open() -> Api {
        Start::default().start().await
    }

    /// Starts another gateway of the same system. It ends with this one.
    pub(crate) async fn second_gateway(&self) -> Api {
        let data = tempfile::tempdir().unwrap();
        let audit_log = data.path().join("audit.log");
        let config = Config { audit_log: Some(AuditTarget::File(audit_log.clone())), ..self.config.clone() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (bus, store) = (self.bus.clone(), self.store.clone());
        let records = ingest::router(ingest::Ports::of(BusPorts::of(&bus), store.clone()));
        let reads = Reads::InProcess(query::router(query::Ports::of(store.clone())));
        let ports = Ports {
            bus: BusPorts::of(&bus),
            reads,
            records: Reads::InProcess(records),
            alarms: Reads::InProcess(self.calls_of_alarms.clone()),
            checks: Vec::new(),
        };
        tokio::spawn(gateway::run_on(listener, config.clone(), ports, self.shutdown.clone()));
        let (client, shutdown) = (self.client.clone(), self.shutdown.clone());
        Api {
            address,
            query: None,
            calls_of_alarms: self.calls_of_alarms.clone(),
            audit_log,
            bus,
            store,
            config,
            client,
            shutdown,
            _data: data,
        }
    }

    /// Starts ingest in a system that was started without it.
    pub(crate) fn start_ingest(&self) {
        start_ingest(&self.bus, &self.store, &self.shutdown);
    }

    pub(crate) fn shut(&self) {
        self.shutdown.begin();
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        self.ask(method, self.url(path), headers, body.into()).await
    }

    /// Sends a request to another address than the gateway's.
    pub(crate) async fn send_to(&self, to: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.ask(Method::GET, format!("http://{to}{path}"), headers, Bytes::new()).await
    }

    async fn ask(&self, method: Method, url: String, headers: &[(&str, &str)], body: Bytes) -> Reply {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.client.request(request.body(Full::new(body)).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply { status: parts.status, headers: parts.headers, body }
    }

    /// Returns only the status; the body is not read.
    pub(crate) async fn status(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> u16 {
        let mut request = Request::builder().method(method).uri(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.client.request(request.body(Full::from(body.into())).unwrap()).await.unwrap();
        response.status().as_u16()
    }

    /// Returns an open response body.
    pub(crate) async fn stream(&self, path: &str) -> hyper::body::Incoming {
        self.stream_as(path, "").await
    }

    /// Like `stream`, with a token.
    pub(crate) async fn stream_as(&self, path: &str, authorization: &str) -> hyper::body::Incoming {
        let request = Request::get(self.url(path)).header(header::AUTHORIZATION, authorization);
        let request = request.body(Full::default()).unwrap();
        let response = self.client.request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        response.into_body()
    }

    /// Returns the response body, to be read at any speed.
    pub(crate) async fn body(&self, path: &str) -> hyper::body::Incoming {
        let request = Request::get(self.url(path)).body(Full::default()).unwrap();
        let response = self.client.request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body()
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    pub(crate) async fn new_patient(&self, body: &str) -> Reply {
        let json = [("content-type", "application/json")];
        self.send(Method::POST, "/api/new_patient", &json, body.to_owned()).await
    }

    pub(crate) async fn upload(&self, mrn: &str, form: Form, headers: &[(&str, &str)]) -> Reply {
        let headers: Vec<(&str, &str)> =
            headers.iter().copied().chain([("content-type", Form::CONTENT_TYPE)]).collect();
        self.send(Method::POST, &format!("/api/v1/patients/{mrn}/uploads"), &headers, form.finish()).await
    }

    /// Asserts that nothing is stored, queued or staged.
    #[track_caller]
    pub(crate) fn nothing_is_stored(&self) -> impl Future<Output = ()> {
        let at = std::panic::Location::caller();
        async move {
            assert_eq!(self.store.mrns().await.unwrap(), [], "{at}");
            assert_eq!(self.bus.list().await.unwrap(), [], "{at}");
            assert_eq!(self.bus.queue_status(Queue::Uploads).await.unwrap().messages, 0, "{at}");
        }
    }

    /// Requests `path` after each update until the response matches.
    pub(crate) async fn eventually(&self, path: &str, passes: impl Fn(&Reply) -> bool) -> Reply {
        use futures::StreamExt;
        let mut changes = self.bus.subscribe(None).await.unwrap();
        tokio::time::timeout(TIMEOUT, async {
            loop {
                let reply = self.get(path).await;
                if passes(&reply) {
                    return reply;
                }
                changes.next().await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{path} never matched"))
    }
}

/// A multipart form.
#[derive(Default)]
pub(crate) struct Form(Vec<u8>);

impl Form {
    pub(crate) const CONTENT_TYPE: &str = "multipart/form-data; boundary=XyZ";

    pub(crate) fn field(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.part(&format!("name=\"{name}\""), value.as_ref())
    }

    pub(crate) fn file(self, name: &str, file_name: &str, content: &[u8]) -> Self {
        self.part(&format!("name=\"{name}\"; filename=\"{file_name}\""), content)
    }

    pub(crate) fn part(mut self, params: &str, content: &[u8]) -> Self {
        self.0.extend(format!("--XyZ\r\nContent-Disposition: form-data; {params}\r\n\r\n").as_bytes());
        self.0.extend(content);
        self.0.extend(b"\r\n");
        self
    }

    pub(crate) fn finish(mut self) -> Bytes {
        self.0.extend(b"--XyZ--\r\n");
        self.0.into()
    }
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A PNG whose pixels depend on `seed`.
pub(crate) fn png(width: u32, height: u32, seed: u8) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    let pixels: Vec<u8> = (0..width as usize * height as usize)
        .map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed))
        .collect();
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    file
}

/// A PNG of a few kilobytes with valid checksums that declares 40,000 x 40,000 pixels.
pub(crate) fn png_bomb() -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 40_000, 40_000);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let writer = encoder.write_header().unwrap();
    drop(writer);
    file.resize(4_000, 0);
    file
}

/// The start of a JPEG up to the frame header, as cameras write it, followed by bytes that depend on `seed`.
pub(crate) fn jpeg(width: u16, height: u16, seed: u8) -> Vec<u8> {
    let mut file = vec![0xff, 0xd8, 0xff, 0xe0, 0, 16];
    file.extend(b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
    file.extend([0xff, 0xc0, 0, 11, 8]);
    file.extend(height.to_be_bytes());
    file.extend(width.to_be_bytes());
    file.extend([1, 1, 0x11, 0, 0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0]);
    file.extend([seed; 100]);
    file.extend([0xff, 0xd9]);
    file
}

/// Thirty seconds of an ECG with this heart rate.
pub(crate) fn ecg_csv(bpm: f64, seed: u64) -> Vec<u8> {
    let settings = ecg::synth::Settings { mean_bpm: bpm, duration_s: 30.0, seed, ..Default::default() };
    ecg::synth::csv(&ecg::synth::generate(&settings).strip)
}

//! Traces of an upload, received by a collector in this test.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use futures::StreamExt;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;
use testkit::{Extras, Mode, System, test_data, within};
use tokio::net::TcpListener;

#[derive(Debug, Clone)]
struct Span {
    service: String,
    name: String,
    trace: String,
    id: String,
    parent: String,
    attributes: String,
}

type Spans = Arc<Mutex<Vec<Span>>>;

/// Starts a collector for OTLP over HTTP.
async fn collector() -> (String, Spans) {
    let spans = Spans::default();
    let router = Router::new().route("/v1/traces", post(receive)).with_state(spans.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, spans)
}

async fn receive(State(spans): State<Spans>, body: Bytes) {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for resource in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
        let attributes = resource.resource.unwrap().attributes;
        let service = attributes.into_iter().find(|attribute| attribute.key == "service.name").unwrap();
        let Some(Value::StringValue(service)) = service.value.unwrap().value else { panic!("no name") };
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.lock().unwrap().push(Span {
                service: service.clone(),
                name: span.name.clone(),
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                attributes: format!("{:?} {:?}", span.attributes, span.events),
            });
        }
    }
}

/// The spans of one raw ECG, as service and name.
const EXPECTED: [(&str, &str); 9] = [
    ("bedside-gateway", "POST /api/v1/patients/{mrn}/uploads"),
    ("bedside-gateway", "send UPLOADS"),
    ("bedside-ingest", "store upload"),
    ("bedside-ingest", "send ECG_JOBS"),
    ("bedside-ecg-worker", "analyse ECG"),
    ("bedside-ecg-worker", "read, analyse and draw"),
    ("bedside-ecg-worker", "send ECG_RESULTS"),
    ("bedside-ingest", "store analysis"),
    ("bedside-ingest", "announce patient.updated"),
];

#[tokio::test]
async fn upload_is_one_trace_from_the_request_to_the_updates() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const CLIENT: &str = "b7ad6b7169203331";
    let (endpoint, spans) = collector().await;
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let mut system = System::start_extra(Mode::Processes, &Extras { env, ..Extras::default() });
    let broker = async_nats::connect(system.nats().unwrap().url()).await.unwrap();
    let mut announcements = broker.subscribe("patient.*.updated").await.unwrap();
    broker.flush().await.unwrap();

    let ecg = reqwest::multipart::Part::bytes(test_data::strip_csv(72.0, 10.0, 1)).file_name("strip.csv");
    let form = reqwest::multipart::Form::new().text("name", "Ann Example").part("ecg", ecg);
    let sent = testkit::http_client()
        .post(format!("{}/api/v1/patients/4242424242/uploads", system.url()))
        .header("traceparent", format!("00-{TRACE}-{CLIENT}-01"))
        .multipart(form)
        .send();
    assert_eq!(sent.await.unwrap().status(), 201);

    // Two updates, after storing and after the analysis. Both belong to the trace.
    for _ in 0..2 {
        let announcement = announcements.next().await.unwrap();
        let parent = announcement.headers.unwrap().get("traceparent").unwrap().to_string();
        assert!(parent.starts_with(&format!("00-{TRACE}-")), "{parent}");
    }
    let trace = within("every span has arrived", || async {
        let trace: Vec<Span> =
            spans.lock().unwrap().iter().filter(|span| span.trace == TRACE).cloned().collect();
        let is_there = |(service, name): &(&str, &str)| {
            trace.iter().any(|span| span.service == *service && span.name == *name)
        };
        let announced = trace.iter().filter(|span| span.name == "announce patient.updated").count();
        (EXPECTED.iter().all(is_there) && announced == 2).then_some(trace)
    })
    .await;

    // The parent of each span is another span of the trace; that of the first is the client's.
    let ids: HashSet<&str> = trace.iter().map(|span| span.id.as_str()).chain([CLIENT]).collect();
    for span in &trace {
        assert!(ids.contains(span.parent.as_str()), "{span:?} has an unknown parent");
        assert!(!span.attributes.contains("4242424242") && !span.attributes.contains("Ann"), "{span:?}");
    }
    let of = |name: &str| trace.iter().find(|span| span.name == name).unwrap();
    assert_eq!(of(EXPECTED[0].1).parent, CLIENT);
    assert_eq!(of("store upload").parent, of("send UPLOADS").id);
    assert_eq!(of("analyse ECG").parent, of("send ECG_JOBS").id);
    assert_eq!(of("store analysis").parent, of("send ECG_RESULTS").id);

    // A read has its own trace, which includes query.
    let read = testkit::http_client().get(format!("{}/api/v1/patients", system.url())).send().await.unwrap();
    assert_eq!(read.status(), 200);
    within("the read is seen in both services", || async {
        let spans = spans.lock().unwrap();
        let mut of_read = spans.iter().filter(|span| span.name == "GET /api/v1/patients");
        let (first, second) = (of_read.next()?, of_read.next()?);
        (first.service != second.service && first.trace == second.trace && first.trace != TRACE).then_some(())
    })
    .await;
}

//! Passes reads on to query: over HTTP where it is a process of its own, directly where it is not. Bodies stream through.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Extension, MatchedPath, Request, State};
use axum::http::uri::{PathAndQuery, Scheme, Uri};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use proto_json::{Mrn, PatientSummary, ServerClock, UploadId, UploadReceipt, UploadStatus};
use runtime::internal::AnswerAbout;
use runtime::problem::{ApiError, PROBLEM, ProblemType};
use runtime::{Backoff, Secret, StartError, trace};
use serde::de::DeserializeOwned;
use tokio::time::Sleep;
use tower::ServiceExt;

use crate::App;
use crate::admission::Permit;
use crate::auth::access::AuditNotes;
use crate::auth::tokens::{Client as Holder, Need};
use crate::http::routes::is_legacy;

/// Where reads go.
#[derive(Debug, Clone)]
pub enum Reads {
    /// To query as a process of its own.
    Http {
        /// Its address, as in `http://query:5012`.
        address: String,
        /// What it accepts this gateway by.
        token: Option<Secret>,
    },
    /// To query's router in this process.
    InProcess(Router),
}

/// Query must begin to answer in this time.
const ANSWER: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(2);
/// While query cannot be reached, a read is tried again for so long: replacing query fails no read.
const RETRY: Duration = Duration::from_secs(3);
/// Most bytes of an upload's receipt.
const MAX_RECEIPT: usize = 1 << 20;

/// The route that tells what became of an upload.
const UPLOAD: &str = "/api/v1/uploads/{id}";

/// Headers of a request that mean something to query. Tokens stay here.
const PASSED_ON: [HeaderName; 4] = [header::ACCEPT, header::IF_NONE_MATCH, header::RANGE, header::IF_RANGE];

/// Headers that concern one connection only, RFC 9110 section 7.6.1.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// [`Reads`], ready to be asked.
#[derive(Debug, Clone)]
pub(crate) enum ReadPath {
    Http { client: Box<Client<HttpConnector, Body>>, base: Uri, authorization: Option<HeaderValue> },
    InProcess(Router),
}

impl ReadPath {
    pub(crate) fn new(reads: Reads) -> Result<Self, StartError> {
        match reads {
            Reads::InProcess(router) => Ok(ReadPath::InProcess(router)),
            Reads::Http { address, token } => {
                let base: Option<Uri> = address.trim_end_matches('/').parse().ok();
                let plain = |uri: &Uri| {
                    uri.scheme() == Some(&Scheme::HTTP) && uri.authority().is_some() && uri.path() == "/"
                };
                let base = base.filter(plain).ok_or_else(|| {
                    StartError::config(format!(
                        "the address of query must be as in http://127.0.0.1:5012, not {address:?}"
                    ))
                })?;
                let mut connector = HttpConnector::new();
                connector.set_connect_timeout(Some(CONNECT));
                connector.set_nodelay(true);
                let client = Client::builder(TokioExecutor::new())
                    .pool_timer(TokioTimer::new())
                    .pool_idle_timeout(Duration::from_secs(60))
                    .build(connector);
                let authorization = token.map(|token| token.bearer()).transpose()?;
                Ok(ReadPath::Http { client: Box::new(client), base, authorization })
            }
        }
    }

    /// Asks query. `headers` are sent as they are, and with them what query accepts this gateway by.
    async fn ask(
        &self,
        method: Method,
        path: PathAndQuery,
        mut headers: HeaderMap,
    ) -> Result<Response, ApiError> {
        match self {
            ReadPath::InProcess(router) => {
                let mut request = Request::new(Body::empty());
                *request.method_mut() = method;
                *request.uri_mut() = Uri::from(path);
                *request.headers_mut() = headers;
                match router.clone().oneshot(request).await {
                    Ok(response) => Ok(response),
                    Err(never) => match never {},
                }
            }
            ReadPath::Http { client, base, authorization } => {
                if let Some(value) = authorization {
                    headers.insert(header::AUTHORIZATION, value.clone());
                }
                let mut parts = base.clone().into_parts();
                parts.path_and_query = Some(path);
                let uri = Uri::from_parts(parts).map_err(ApiError::internal)?;
                let asked = async {
                    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(800));
                    let give_up = tokio::time::Instant::now() + RETRY;
                    loop {
                        let mut request = Request::new(Body::empty());
                        *request.method_mut() = method.clone();
                        *request.uri_mut() = uri.clone();
                        *request.headers_mut() = headers.clone();
                        match client.request(request).await {
                            Ok(response) => return Ok(response),
                            // Reads can be sent again, however far the first one came.
                            Err(error) if tokio::time::Instant::now() >= give_up => return Err(error),
                            Err(_) => backoff.wait().await,
                        }
                    }
                };
                match tokio::time::timeout(ANSWER, asked).await {
                    Ok(Ok(response)) if response.status() == StatusCode::UNAUTHORIZED => {
                        tracing::error!("query refuses this gateway: both need the same --query-token-file");
                        Err(ApiError::new(
                            ProblemType::BAD_GATEWAY,
                            "The service that reads patients does not accept this gateway.",
                        ))
                    }
                    Ok(Ok(response)) => Ok(from_query(response.map(Body::new))),
                    Ok(Err(cause)) => {
                        tracing::warn!(%cause, "query cannot be reached");
                        Err(ApiError::unavailable(
                            "The service that reads patients cannot be reached for now.",
                            2,
                        ))
                    }
                    Err(_) => {
                        tracing::warn!("query does not answer");
                        Err(ApiError::unavailable(
                            "The service that reads patients does not answer for now.",
                            5,
                        ))
                    }
                }
            }
        }
    }

    /// What was stored of an upload, if it is.
    pub(crate) async fn receipt(&self, upload: UploadId) -> Option<UploadReceipt> {
        let path = PathAndQuery::try_from(format!("/api/v1/uploads/{upload}")).ok()?;
        let status: UploadStatus = self.json(path).await?;
        Some(status.receipt)
    }

    /// The stored name of a patient. `None` if the patient is unknown or has no name.
    ///
    /// # Errors
    /// If query cannot answer.
    pub(crate) async fn name(&self, mrn: Mrn) -> Result<Option<String>, ApiError> {
        let path = PathAndQuery::try_from(format!("/api/v1/patients/{mrn}")).map_err(ApiError::internal)?;
        let response = self.ask(Method::GET, path, HeaderMap::new()).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(ApiError::unavailable("The stored name cannot be read for now.", 2)),
        }
        let body = http_body_util::Limited::new(response.into_body(), MAX_RECEIPT).collect().await;
        let body = body.map_err(ApiError::internal)?.to_bytes();
        let patient: PatientSummary = serde_json::from_slice(&body).map_err(ApiError::internal)?;
        Ok(patient.name)
    }

    /// What query knows of the clock; `None` if it cannot be asked.
    pub(crate) async fn clock(&self) -> Option<ServerClock> {
        self.json(PathAndQuery::from_static("/api/v1/clock")).await
    }

    /// A short JSON answer.
    async fn json<T: DeserializeOwned>(&self, path: PathAndQuery) -> Option<T> {
        let response = self.ask(Method::GET, path, HeaderMap::new()).await.ok()?;
        if response.status() != StatusCode::OK {
            return None;
        }
        let body = http_body_util::Limited::new(response.into_body(), MAX_RECEIPT).collect().await.ok()?;
        serde_json::from_slice(&body.to_bytes()).ok()
    }
}

/// A reply of query as it is sent on.
fn from_query(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove(header::DATE);
    *response.version_mut() = Version::HTTP_11;
    response
}

/// The body of a response. Ends with an error when it has not been sent by its deadline: a client that takes a little now and
/// then would hold its permit for hours.
struct LimitedBody {
    body: Body,
    deadline: Pin<Box<Sleep>>,
    /// Held until the last byte has been sent.
    _permit: Permit,
}

impl HttpBody for LimitedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(axum::Error::new("the response was not taken in time"))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn no_upload() -> ApiError {
    ApiError::not_found(
        "No upload of yours with this id is stored; one that was just accepted may take a moment.",
    )
}

/// Handler of every route that query answers. What became of an upload is shown to the client that sent it, and to clients
/// that may read patients.
pub(crate) async fn forward(
    State(app): State<Arc<App>>,
    Extension(notes): Extension<AuditNotes>,
    request: Request,
) -> Response {
    let of_upload = request.extensions().get::<MatchedPath>().is_some_and(|path| path.as_str() == UPLOAD);
    let legacy = is_legacy(request.uri().path());
    let client = request.extensions().get::<Holder>().cloned().unwrap_or_else(Holder::local);
    let permit = match app.admission.read(&client) {
        Ok(permit) => permit,
        Err(error) => return if legacy { error.into_text() } else { error.into_response() },
    };
    let mut headers = HeaderMap::new();
    for name in PASSED_ON {
        for value in request.headers().get_all(&name) {
            headers.append(name.clone(), HeaderValue::clone(value));
        }
    }
    let received = request.headers().get(trace::TRACE_PARENT).and_then(|value| value.to_str().ok());
    if let Some(parent) = trace::parent(received).and_then(|parent| HeaderValue::try_from(parent).ok()) {
        headers.insert(trace::TRACE_PARENT, parent);
    }
    let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    // Until the answer begins: whoever takes a long answer slowly keeps no other request waiting.
    let turn = permit.queue().await;
    let mut answer = app.reads.ask(request.method().clone(), path, headers).await;
    drop(turn);
    if let Ok(response) = &mut answer {
        let about = AnswerAbout::take(response.headers_mut());
        if app.config.no_store {
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        if let Some(mrn) = about.patient {
            notes.patient(mrn);
        }
        let may_read = client.role.may(Need::Read) || about.is_of_upload_by(&client.name);
        let is_there = response.status() != StatusCode::NOT_FOUND;
        // One answer for both cases: whether there is an upload of others shows in nothing.
        if of_upload && !(is_there && (may_read || !response.status().is_success())) {
            return no_upload().into_response();
        }
    }
    match answer {
        // Which record is damaged is for the client to know.
        Ok(mut response) if response.headers().contains_key(PROBLEM) => {
            response.headers_mut().remove(PROBLEM);
            response
        }
        // A server error of query is one of ours: said in our words, except where it is for now.
        Ok(response)
            if response.status().is_server_error()
                && response.status() != StatusCode::SERVICE_UNAVAILABLE =>
        {
            let error = ApiError::new(
                ProblemType::BAD_GATEWAY,
                "The service that reads patients failed at this request.",
            );
            if legacy { error.into_text() } else { error.into_response() }
        }
        // The permit is held until the last byte has been sent.
        Ok(response) => response.map(|body| {
            let deadline = Box::pin(tokio::time::sleep(app.config.transfer_deadline));
            Body::new(LimitedBody { body, deadline, _permit: permit })
        }),
        Err(error) if legacy => error.into_text(),
        Err(error) => error.into_response(),
    }
}

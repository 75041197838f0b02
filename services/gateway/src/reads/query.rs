//! Client of a service behind the gateway, such as the query service: over HTTP, or by calling its router in the same
//! process. Response bodies are streamed.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::uri::{PathAndQuery, Scheme, Uri};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::response::Response;
use backon::Retryable;
use bytes::Bytes;
use http_body_util::BodyExt;
use http_server::problem::{ApiError, ProblemType};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use proto_json::{
    EcgRecord, Mrn, PatientSummary, RecordId, ServerClock, UploadId, UploadReceipt, UploadStatus,
};
use runtime::{Secret, StartError, exponential_backoff};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tower::ServiceExt;

/// How the gateway reaches a service behind it.
#[derive(Debug, Clone)]
pub enum Reads {
    /// Over HTTP, to another process.
    Http {
        /// Base URL, such as `http://query:5012`.
        address: String,
        /// The secret that authenticates this gateway.
        token: Option<Secret>,
    },
    /// By calling the router in this process.
    InProcess(Router),
}

/// Maximum time until the response starts.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for which a failed request is retried. Replacing the query service therefore fails no read.
const RETRY_TIME: Duration = Duration::from_secs(3);
/// Delays between the attempts.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const MAX_RETRY: Duration = Duration::from_millis(800);
/// Maximum size of a JSON response that the gateway itself reads, in bytes.
const MAX_JSON: usize = 1 << 20;

/// Headers of a single connection, RFC 9110 section 7.6.1.
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

/// A client of the query service.
#[derive(Debug, Clone)]
pub(crate) enum QueryService {
    Http { client: Box<Client<HttpConnector, Body>>, base: Uri, authorization: Option<HeaderValue> },
    InProcess(Router),
}

impl QueryService {
    pub(crate) fn new(reads: Reads) -> Result<Self, StartError> {
        match reads {
            Reads::InProcess(router) => Ok(QueryService::InProcess(router)),
            Reads::Http { address, token } => {
                let base: Option<Uri> = address.trim_end_matches('/').parse().ok();
                let plain = |uri: &Uri| {
                    uri.scheme() == Some(&Scheme::HTTP) && uri.authority().is_some() && uri.path() == "/"
                };
                let base = base.filter(plain).ok_or_else(|| {
                    StartError::config(format!(
                        "the URL of the query service must be like http://127.0.0.1:5012, not {address:?}"
                    ))
                })?;
                let mut connector = HttpConnector::new();
                connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
                connector.set_nodelay(true);
                let client = Client::builder(TokioExecutor::new())
                    .pool_timer(TokioTimer::new())
                    .pool_idle_timeout(Duration::from_secs(60))
                    .build(connector);
                let authorization = token.map(|token| token.bearer()).transpose()?;
                Ok(QueryService::Http { client: Box::new(client), base, authorization })
            }
        }
    }

    /// Sends a request with these headers and the gateway's authentication.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: PathAndQuery,
        headers: HeaderMap,
    ) -> Result<Response, ApiError> {
        self.request_with(method, path, headers, Bytes::new()).await
    }

    /// Sends a request with a body. It is repeated when the service cannot be reached, so a call that changes something must be
    /// idempotent.
    pub(crate) async fn request_with(
        &self,
        method: Method,
        path: PathAndQuery,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, ApiError> {
        match self {
            QueryService::InProcess(router) => {
                let mut request = Request::new(Body::from(body));
                *request.method_mut() = method;
                *request.uri_mut() = Uri::from(path);
                *request.headers_mut() = headers;
                match router.clone().oneshot(request).await {
                    Ok(response) => Ok(response),
                    Err(never) => match never {},
                }
            }
            QueryService::Http { client, base, authorization } => {
                if let Some(value) = authorization {
                    headers.insert(header::AUTHORIZATION, value.clone());
                }
                let mut parts = base.clone().into_parts();
                parts.path_and_query = Some(path);
                let uri = Uri::from_parts(parts).map_err(ApiError::internal)?;
                let attempt = || {
                    let mut request = Request::new(Body::from(body.clone()));
                    *request.method_mut() = method.clone();
                    *request.uri_mut() = uri.clone();
                    *request.headers_mut() = headers.clone();
                    client.request(request)
                };
                // A read can be repeated, however far the first attempt got.
                let give_up = Instant::now() + RETRY_TIME;
                let response = attempt
                    .retry(exponential_backoff(FIRST_RETRY, MAX_RETRY))
                    .when(|_| Instant::now() < give_up);
                match tokio::time::timeout(RESPONSE_TIMEOUT, response).await {
                    Ok(Ok(response)) if response.status() == StatusCode::UNAUTHORIZED => {
                        tracing::error!("the query service rejects this gateway; compare the token files");
                        Err(ApiError::new(
                            ProblemType::BAD_GATEWAY,
                            "The service that reads patients does not accept this gateway.",
                        ))
                    }
                    Ok(Ok(response)) => Ok(without_connection_headers(response.map(Body::new))),
                    Ok(Err(cause)) => {
                        tracing::warn!(%cause, "the query service is unreachable");
                        Err(ApiError::unavailable(
                            "The service that reads patients cannot be reached for now.",
                            2,
                        ))
                    }
                    Err(_) => {
                        tracing::warn!("the query service does not respond");
                        Err(ApiError::unavailable(
                            "The service that reads patients does not answer for now.",
                            5,
                        ))
                    }
                }
            }
        }
    }

    /// Returns the receipt of an upload if it is stored.
    pub(crate) async fn receipt(&self, upload: UploadId) -> Option<UploadReceipt> {
        let path = PathAndQuery::try_from(format!("/api/v1/uploads/{upload}")).ok()?;
        let status: UploadStatus = self.json(path).await?;
        Some(status.receipt)
    }

    /// Returns the stored name of a patient, or `None` if the patient is unknown or has no name.
    ///
    /// # Errors
    /// If the query service cannot be reached.
    pub(crate) async fn name(&self, mrn: Mrn) -> Result<Option<String>, ApiError> {
        let path = PathAndQuery::try_from(format!("/api/v1/patients/{mrn}")).map_err(ApiError::internal)?;
        let response = self.request(Method::GET, path, HeaderMap::new()).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(ApiError::unavailable("The stored name cannot be read for now.", 2)),
        }
        let body = http_body_util::Limited::new(response.into_body(), MAX_JSON).collect().await;
        let body = body.map_err(ApiError::internal)?.to_bytes();
        let patient: PatientSummary = serde_json::from_slice(&body).map_err(ApiError::internal)?;
        Ok(patient.name)
    }

    /// Returns an ECG, or `None` if there is none with this id.
    ///
    /// # Errors
    /// If the query service cannot be reached or cannot read the record.
    pub(crate) async fn ecg(&self, id: RecordId) -> Result<Option<EcgRecord>, ApiError> {
        let path = PathAndQuery::try_from(format!("/api/v1/ecgs/{id}")).map_err(ApiError::internal)?;
        let response = self.request(Method::GET, path, HeaderMap::new()).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(ApiError::unavailable("The ECG cannot be read for now.", 2)),
        }
        let body = http_body_util::Limited::new(response.into_body(), MAX_JSON).collect().await;
        let body = body.map_err(ApiError::internal)?.to_bytes();
        serde_json::from_slice(&body).map(Some).map_err(ApiError::internal)
    }

    /// Returns the clock state of the query service, or `None` if it cannot be reached.
    pub(crate) async fn clock(&self) -> Option<ServerClock> {
        self.json(PathAndQuery::from_static("/api/v1/clock")).await
    }

    /// Requests a small JSON document.
    async fn json<T: DeserializeOwned>(&self, path: PathAndQuery) -> Option<T> {
        let response = self.request(Method::GET, path, HeaderMap::new()).await.ok()?;
        if response.status() != StatusCode::OK {
            return None;
        }
        let body = http_body_util::Limited::new(response.into_body(), MAX_JSON).collect().await.ok()?;
        serde_json::from_slice(&body.to_bytes()).ok()
    }
}

/// Removes connection headers from a response of the query service.
fn without_connection_headers(mut response: Response) -> Response {
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

//! Forwards reads to the query service.

pub(crate) mod query;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::extract::{Extension, MatchedPath, Request, State};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use http_server::internal::AuditHeaders;
use http_server::problem::{ApiError, PROBLEM, ProblemType};
use hyper::body::{Frame, SizeHint};
use proto_json::wards::Ward;
use proto_json::{Page, PatientSummary, legacy};
use runtime::trace;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Sleep;

use crate::admission::Permit;
use crate::app::App;
use crate::auth::audit_line::AuditNotes;
use crate::auth::tokens::{Client, Permission};
use crate::auth::wards;
use crate::http::format::error_response;

/// Route of the status of an upload.
const UPLOAD: &str = "/api/v1/uploads/{id}";

/// Routes of lists of patients.
const PATIENTS: &str = "/api/v1/patients";
const NUMBERS: &str = "/api/get_patient";
/// Route of the wards with their beds.
const WARDS: &str = "/api/v1/wards";

const CLOCK: &str = "/api/v1/clock";

/// Other routes that are not limited to wards. Any other route without a patient is denied to clients with wards.
const WITHOUT_PATIENT: [&str; 2] = ["/api/v1/audit", "/api/v1/audit/verification"];

/// Largest list that is filtered, in bytes.
const MAX_LIST: usize = 64 << 20;

/// Request headers that are forwarded. The client's token is not.
const FORWARDED_HEADERS: [HeaderName; 4] =
    [header::ACCEPT, header::IF_NONE_MATCH, header::RANGE, header::IF_RANGE];

/// A response body with a deadline. A client that reads slowly would otherwise hold its permit for hours.
struct LimitedBody {
    body: Body,
    deadline: Pin<Box<Sleep>>,
    /// Held until the last byte is sent.
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
            return Poll::Ready(Some(Err(axum::Error::new("the response was not read before its deadline"))));
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

fn upload_not_found() -> ApiError {
    ApiError::not_found(
        "No upload of yours with this id is stored; one that was just accepted may take a moment.",
    )
}

/// Replaces the JSON of a response.
async fn filtered<T: Serialize + DeserializeOwned>(
    response: Response,
    filter: impl FnOnce(&mut T),
) -> Result<Response, ApiError> {
    let (mut parts, body) = response.into_parts();
    let body = http_body_util::Limited::new(body, MAX_LIST).collect().await;
    let body = body.map_err(ApiError::internal)?.to_bytes();
    let mut page: T = serde_json::from_slice(&body).map_err(ApiError::internal)?;
    filter(&mut page);
    let body = serde_json::to_vec(&page).map_err(ApiError::internal)?;
    parts.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(parts, Body::from(body)))
}

/// Removes what a client with wards may not access from a response. The patient in the path was checked before.
///
/// # Errors
/// 404 for a record of a patient of another ward; 503 if the ward cannot be read.
async fn limit(
    app: &Arc<App>,
    client: &Client,
    route: &str,
    notes: &AuditNotes,
    response: Response,
) -> Result<Response, ApiError> {
    // A redirection is 304 Not Modified, which reveals a record, too.
    let reveals = response.status().is_success() || response.status().is_redirection();
    // A problem with a record names its patient, too.
    if !reveals && notes.patient_of().is_none() {
        return Ok(response);
    }
    match route {
        PATIENTS => filtered(response, |page: &mut Page<PatientSummary>| wards::filter(client, page)).await,
        WARDS => {
            let is_own = |ward: &Ward| client.wards.as_ref().is_none_or(|wards| wards.contains(&ward.id));
            filtered(response, |page: &mut Page<Ward>| page.items.retain(is_own)).await
        }
        NUMBERS => {
            let numbers = wards::visible(app, client).await?;
            let (mut parts, _) = response.into_parts();
            let body = serde_json::to_vec(&legacy::PatientIds { id: numbers }).map_err(ApiError::internal)?;
            parts.headers.remove(header::CONTENT_LENGTH);
            Ok(Response::from_parts(parts, Body::from(body)))
        }
        _ if route.contains("/{mrn}") || route.starts_with("/api/get_patient/") || route == CLOCK => {
            Ok(response)
        }
        _ => match notes.patient_of() {
            Some(mrn) if wards::may_access(app, client, mrn).await? => Ok(response),
            _ if WITHOUT_PATIENT.contains(&route) => Ok(response),
            _ => Err(if route == UPLOAD { upload_not_found() } else { record_not_found(route) }),
        },
    }
}

/// The answer of query for an unknown record.
fn record_not_found(route: &str) -> ApiError {
    let what = if route.starts_with("/api/v1/images/") { "image" } else { "ECG" };
    ApiError::not_found(format!("There is no {what} with this id."))
}

/// Handler of all routes that the query service answers. The status of an upload is visible to its sender and
/// to clients that may read patients.
pub(crate) async fn forward(
    State(app): State<Arc<App>>,
    Extension(notes): Extension<AuditNotes>,
    request: Request,
) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_default();
    let of_upload = route == UPLOAD;
    let route_path = request.uri().path().to_owned();
    let client = request.extensions().get::<Client>().cloned().unwrap_or_else(Client::local);
    let permit = match app.admission.read(&client) {
        Ok(permit) => permit,
        Err(error) => return error_response(&route_path, error),
    };
    let mut headers = HeaderMap::new();
    for name in FORWARDED_HEADERS {
        for value in request.headers().get_all(&name) {
            headers.append(name.clone(), HeaderValue::clone(value));
        }
    }
    let received = request.headers().get(trace::TRACE_PARENT).and_then(|value| value.to_str().ok());
    if let Some(parent) = trace::parent(received).and_then(|parent| HeaderValue::try_from(parent).ok()) {
        headers.insert(trace::TRACE_PARENT, parent);
    }
    if client.wards.is_some()
        && let Some((name, value)) = wards::actor(&client, None).header()
    {
        headers.insert(name, value);
    }
    let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    // Held until the response starts: reading a long response slowly must not delay the client's other
    // requests.
    let position = permit.queue().await;
    let mut response = app.reads.request(request.method().clone(), path, headers).await;
    drop(position);
    if let Ok(response) = &mut response {
        let about = AuditHeaders::take(response.headers_mut());
        if app.config.no_store {
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        if let Some(mrn) = about.patient {
            notes.patient(mrn);
        }
        let may_read = client.role.may(Permission::Read) || about.is_uploaded_by(&client.name);
        let is_there = response.status() != StatusCode::NOT_FOUND;
        // The response is the same whether the upload does not exist or belongs to another client.
        if of_upload && !(is_there && (may_read || !response.status().is_success())) {
            return upload_not_found().into_response();
        }
    }
    let response = match response {
        Ok(response) if client.wards.is_some() => limit(&app, &client, &route, &notes, response).await,
        response => response,
    };
    match response {
        // The client needs to know which record is damaged.
        Ok(mut response) if response.headers().contains_key(PROBLEM) => {
            response.headers_mut().remove(PROBLEM);
            response
        }
        // Replace other server errors of the query service by an error of the gateway.
        Ok(response)
            if response.status().is_server_error()
                && response.status() != StatusCode::SERVICE_UNAVAILABLE =>
        {
            let error = ApiError::new(
                ProblemType::BAD_GATEWAY,
                "The service that reads patients failed at this request.",
            );
            error_response(&route_path, error)
        }
        // The permit is held until the last byte is sent.
        Ok(response) => response.map(|body| {
            let deadline = Box::pin(tokio::time::sleep(app.config.transfer_deadline));
            Body::new(LimitedBody { body, deadline, _permit: permit })
        }),
        Err(error) => error_response(&route_path, error),
    }
}

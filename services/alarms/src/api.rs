//! The routes for the gateway: alarms, actions on them, and limits.
//!
//! Every process answers them. An action is applied to the stored alarm by compare-and-set, so it meets the changes of the
//! evaluating process without a lock. Actions are idempotent: the gateway may repeat a call.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_server::internal::{Actor, patient_header};
use http_server::problem::{ApiError, ProblemType};
use proto_json::alarms::{
    Alarm, AlarmAction, AlarmActionRequest, AlarmPage, AlarmPriority, AlarmRule, AudioPauseRequest,
    LimitScope, LimitsRequest, StoredLimits, UndeliveredAlarms,
};
use proto_json::{Cursor, Mrn, RecordId, Timestamp, WardId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use store::alarms::{AlarmQuery, AlarmWrite, LimitsWrite};
use store::{PageRequest, StoreError};

use crate::rules::limits::AllLimits;
use crate::{Shared, machine, notify, wards};

/// Default and largest number of alarms of a page.
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 500;
/// Longest audio pause that a user can state, in seconds.
const MAX_PAUSE_S: u32 = 600;
/// Attempts to change an alarm that others change at the same time.
const ATTEMPTS: usize = 10;
/// Pages that are read to fill a page whose alarms are filtered by ward.
const MAX_PAGES: usize = 20;

type App = State<Arc<Shared>>;

/// The routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/api/v1/alarms", get(list))
        .route("/api/v1/alarms/undelivered", get(undelivered))
        .route("/api/v1/alarms/{id}/acknowledge", post(acknowledge))
        .route("/api/v1/alarms/{id}/audio-pause", post(pause_audio))
        .route("/api/v1/alarms/{id}/reset", post(reset))
        .route("/api/v1/patients/{mrn}/alarms/acknowledge", post(acknowledge_all))
        .route("/api/v1/patients/{mrn}/emergency", post(emergency))
        .route("/api/v1/limits", get(site_limits).put(put_site_limits))
        .route("/api/v1/wards/{ward}/limits", get(ward_limits).put(put_ward_limits))
        .route("/api/v1/patients/{mrn}/limits", get(patient_limits).put(put_patient_limits))
        .fallback(async || ApiError::not_found("There is nothing at this path."))
        .method_not_allowed_fallback(async || {
            ApiError::new(ProblemType::METHOD_NOT_ALLOWED, "This path does not take this method.")
        })
        .with_state(shared)
}

fn store_error(error: StoreError) -> ApiError {
    match &error {
        StoreError::Unavailable(cause) => {
            tracing::warn!(%cause, "the store cannot be reached");
            ApiError::unavailable("The alarms cannot be read or changed for now; try again in a moment.", 2)
        }
        StoreError::Refused(_) => {
            ApiError::unavailable("The alarm is being changed by others; try again in a moment.", 1)
        }
        StoreError::Damaged(record) => ApiError::damaged(format!("{record}.")),
        StoreError::Corrupt(cause) => ApiError::internal(cause),
        StoreError::WrongCursor => ApiError::invalid(proto_json::CursorError.to_string()),
    }
}

fn conflict(detail: impl Into<String>) -> ApiError {
    ApiError::new(ProblemType::STATE_CONFLICT, detail)
}

fn no_alarm() -> ApiError {
    ApiError::not_found("There is no alarm with this id.")
}

/// An id of an alarm in the path.
struct PathAlarm(RecordId);

impl<S: Send + Sync> FromRequestParts<S> for PathAlarm {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| no_alarm())?;
        let id = text.parse().map_err(|_| ApiError::invalid("The id of an alarm is a UUID."))?;
        Ok(PathAlarm(id))
    }
}

/// A patient in the path.
struct PathMrn(Mrn);

impl<S: Send + Sync> FromRequestParts<S> for PathMrn {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| ApiError::invalid("The path is not valid UTF-8."))?;
        text.parse().map(PathMrn).map_err(|error| ApiError::invalid(format!("In the path, {error}.")))
    }
}

/// A ward in the path.
struct PathWard(WardId);

impl<S: Send + Sync> FromRequestParts<S> for PathWard {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| ApiError::invalid("The path is not valid UTF-8."))?;
        text.parse().map(PathWard).map_err(|_| ApiError::invalid("The id of a ward is a UUID."))
    }
}

/// Parses a JSON body; `None` if it is empty.
fn parse<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<Option<T>, ApiError> {
    let body = body.map_err(|rejection| ApiError::invalid(format!("{}.", rejection.body_text())))?;
    if body.is_empty() {
        return Ok(None);
    }
    http_server::json::read_object(&body)
        .map(Some)
        .map_err(|error| ApiError::invalid(format!("The body is not valid: {error}.")))
}

/// Parameters of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    #[serde(default)]
    state: ListState,
    mrn: Option<Mrn>,
    priority: Option<AlarmPriority>,
    limit: Option<usize>,
    cursor: Option<Cursor>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ListState {
    #[default]
    Open,
    Ended,
    All,
}

async fn list(
    State(shared): App,
    actor: Actor,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|rejection| ApiError::invalid(format!("{}.", rejection.body_text())))?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::invalid(format!("limit must be from 1 to {MAX_LIMIT}.")));
    }
    if let Some(mrn) = query.mrn {
        require_patient(&shared, &actor, mrn).await?;
    }
    let selected = AlarmQuery {
        mrn: query.mrn,
        priority: query.priority,
        is_open: match query.state {
            ListState::Open => Some(true),
            ListState::Ended => Some(false),
            ListState::All => None,
        },
    };
    let mut page = AlarmPage { items: Vec::new(), next: None };
    let mut after = query.cursor;
    // Alarms of wards that the client may not access are omitted, so several pages may be needed.
    for _ in 0..MAX_PAGES {
        let request = PageRequest { after, limit: limit - page.items.len(), include_errors: false };
        let found = shared.ports.store.alarms(selected, request).await.map_err(store_error)?;
        after = found.next;
        for alarm in found.items {
            if may_access(&shared, &actor, alarm.mrn).await? {
                page.items.push(alarm);
            }
        }
        if after.is_none() || page.items.len() >= limit {
            break;
        }
    }
    page.next = after.map(|cursor| cursor.to_string());
    Ok(with_patient(query.mrn, Json(page)))
}

fn no_patient() -> ApiError {
    ApiError::not_found("There is no patient with this number.")
}

/// Adds the patient for the audit.
fn with_patient(mrn: Option<Mrn>, response: impl IntoResponse) -> Response {
    let mut response = response.into_response();
    if let Some(mrn) = mrn {
        let (name, value) = patient_header(mrn);
        response.headers_mut().insert(name, value);
    }
    response
}

async fn undelivered(State(shared): App) -> Result<Json<UndeliveredAlarms>, ApiError> {
    notify::undelivered(&*shared.ports.store).await.map(Json).map_err(store_error)
}

/// Emergency access to a patient, as the gateway states it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Emergency {
    /// When the access was granted.
    at: Timestamp,
}

/// Raises the notice of an emergency access. Not a route for clients.
async fn emergency(
    State(shared): App,
    actor: Actor,
    PathMrn(mrn): PathMrn,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Alarm>, ApiError> {
    let Emergency { at } =
        parse(body)?.ok_or_else(|| ApiError::invalid("The body must be a JSON object with at."))?;
    let text = format!("Emergency access by {}", actor.name);
    let store = &shared.ports.store;
    for _ in 0..ATTEMPTS {
        let query = AlarmQuery { mrn: Some(mrn), is_open: Some(true), priority: Some(AlarmPriority::Low) };
        let request = PageRequest { after: None, limit: MAX_LIMIT, include_errors: false };
        let open = store.alarms(query, request).await.map_err(store_error)?.items;
        let open = open.into_iter().find(|alarm| alarm.rule == AlarmRule::Notice);
        let known = match open {
            Some(open) => Some(open),
            // The call is repeated, and a user has seen the notice meanwhile.
            None => store.alarm(Alarm::id_of(mrn, AlarmRule::Notice, at)).await.map_err(store_error)?,
        };
        let Some(next) = machine::notice(known.as_ref(), mrn, &text, at) else {
            return known.map(Json).ok_or_else(no_alarm);
        };
        match store.put_alarm(&next).await.map_err(store_error)? {
            AlarmWrite::Stored => {
                metrics::counter!("bedside_alarms_raised_total", "rule" => AlarmRule::Notice.name())
                    .increment(1);
                shared.publisher.alarm(&next).await;
                return Ok(Json(next));
            }
            AlarmWrite::Erased => return Err(no_alarm()),
            AlarmWrite::Conflict(_) => {}
        }
    }
    Err(ApiError::unavailable("The alarm is being changed by others; try again in a moment.", 1))
}

async fn acknowledge(
    State(shared): App,
    actor: Actor,
    PathAlarm(id): PathAlarm,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let request = parse::<AlarmActionRequest>(body)?.unwrap_or_default();
    changed(&shared, &actor, id, machine::Action::Acknowledge, request.version).await
}

async fn reset(
    State(shared): App,
    actor: Actor,
    PathAlarm(id): PathAlarm,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let request = parse::<AlarmActionRequest>(body)?.unwrap_or_default();
    changed(&shared, &actor, id, machine::Action::Reset, request.version).await
}

async fn pause_audio(
    State(shared): App,
    actor: Actor,
    PathAlarm(id): PathAlarm,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let request = parse::<AudioPauseRequest>(body)?.unwrap_or_default();
    let default = u32::try_from(shared.config.audio_pause.as_secs()).unwrap_or(MAX_PAUSE_S);
    let seconds = request.seconds.unwrap_or(default);
    if !(1..=MAX_PAUSE_S).contains(&seconds) {
        return Err(ApiError::invalid(format!("An audio pause is from 1 to {MAX_PAUSE_S} seconds.")));
    }
    changed(&shared, &actor, id, machine::Action::AudioPause { seconds }, request.version).await
}

async fn changed(
    shared: &Shared,
    actor: &Actor,
    id: RecordId,
    action: machine::Action,
    version: Option<u64>,
) -> Result<Response, ApiError> {
    let alarm = act(shared, actor, id, action, version).await?;
    Ok(with_patient(Some(alarm.mrn), Json(alarm)))
}

/// Applies an action to an alarm, stores and publishes it.
async fn act(
    shared: &Shared,
    actor: &Actor,
    id: RecordId,
    action: machine::Action,
    version: Option<u64>,
) -> Result<Alarm, ApiError> {
    let at = Timestamp::now();
    for _ in 0..ATTEMPTS {
        let stored = shared.ports.store.alarm(id).await.map_err(store_error)?.ok_or_else(no_alarm)?;
        if !may_access(shared, actor, stored.mrn).await? {
            return Err(no_alarm());
        }
        if version.is_some_and(|version| version != stored.version) {
            return Err(conflict(format!(
                "The alarm has changed since then: its version is {}. Load it again.",
                stored.version
            )));
        }
        let next = machine::act(&stored, action, &actor.name, at)
            .map_err(|machine::HasEnded| conflict("The alarm has ended already."))?;
        let Some(next) = next else { return Ok(stored) };
        if let AlarmWrite::Stored = shared.ports.store.put_alarm(&next).await.map_err(store_error)? {
            shared.publisher.alarm(&next).await;
            return Ok(next);
        }
    }
    Err(ApiError::unavailable("The alarm is being changed by others; try again in a moment.", 1))
}

async fn acknowledge_all(
    State(shared): App,
    actor: Actor,
    PathMrn(mrn): PathMrn,
) -> Result<Response, ApiError> {
    require_patient(&shared, &actor, mrn).await?;
    let open = AlarmQuery { mrn: Some(mrn), is_open: Some(true), priority: None };
    let request = PageRequest { after: None, limit: MAX_LIMIT, include_errors: false };
    let open = shared.ports.store.alarms(open, request).await.map_err(store_error)?.items;
    if open.is_empty() {
        let patient = shared.ports.patients.patient(mrn).await.map_err(store_error)?;
        patient.ok_or_else(no_patient)?;
    }
    let mut items = Vec::new();
    for alarm in open {
        match act(&shared, &actor, alarm.id, machine::Action::Acknowledge, None).await {
            Ok(next) if next.version != alarm.version => items.push(next),
            // It was acknowledged before, or has ended meanwhile.
            Ok(_) => {}
            Err(error) if error.kind == ProblemType::STATE_CONFLICT => {}
            Err(error) => return Err(error),
        }
    }
    Ok(with_patient(Some(mrn), Json(AlarmPage { items, next: None })))
}

/// The ward whose limits apply in a scope, besides those of the scope.
async fn ward_of(shared: &Shared, scope: LimitScope) -> Result<Option<WardId>, ApiError> {
    match scope {
        LimitScope::Patient { mrn } => wards::stored(&*shared.ports.patients, mrn).await.map_err(store_error),
        LimitScope::Site | LimitScope::Ward { .. } => Ok(None),
    }
}

async fn stored_limits(shared: &Shared, scope: LimitScope) -> Result<StoredLimits, ApiError> {
    let all = AllLimits::new(shared.ports.store.limits().await.map_err(store_error)?);
    Ok(describe(&all, scope, ward_of(shared, scope).await?))
}

fn describe(all: &AllLimits, scope: LimitScope, ward: Option<WardId>) -> StoredLimits {
    let stored = all.stored(scope);
    StoredLimits {
        scope,
        limits: stored.map(|stored| stored.limits).unwrap_or_default(),
        effective: all.effective(scope, ward).limits(),
        version: stored.map_or(0, |stored| stored.version),
        changed: stored.map(|stored| stored.changed.clone()),
    }
}

async fn put_limits(
    shared: &Shared,
    actor: &Actor,
    scope: LimitScope,
    body: Result<Bytes, BytesRejection>,
) -> Result<StoredLimits, ApiError> {
    let LimitsRequest { limits, version } = parse(body)?
        .ok_or_else(|| ApiError::invalid("The body must be a JSON object with limits and version."))?;
    let all = AllLimits::new(shared.ports.store.limits().await.map_err(store_error)?);
    let stored = all.stored(scope);
    let is_repeated = stored.is_some_and(|stored| {
        stored.limits == limits
            && version.checked_add(1) == Some(stored.version)
            && stored.changed.by == *actor.name
    });
    let ward = ward_of(shared, scope).await?;
    if is_repeated {
        return Ok(describe(&all, scope, ward));
    }
    let of_patient = |mrn| if scope == (LimitScope::Patient { mrn }) { ward } else { shared.wards.of(mrn) };
    all.check(scope, limits, of_patient)
        .map_err(|error| ApiError::new(ProblemType::LIMITS, sentence(&error.to_string())))?;
    let by = AlarmAction { by: actor.name.to_string(), at: Timestamp::now() };
    match shared.ports.store.put_limits(scope, limits, version, by).await.map_err(store_error)? {
        LimitsWrite::Stored(_) => {
            shared.publisher.limits(scope).await;
            stored_limits(shared, scope).await
        }
        LimitsWrite::Conflict(stored) => Err(conflict(format!(
            "The limits have changed since then: their version is {stored}. Load them again."
        ))),
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", letters.as_str())
}

async fn site_limits(State(shared): App) -> Result<Json<StoredLimits>, ApiError> {
    stored_limits(&shared, LimitScope::Site).await.map(Json)
}

async fn put_site_limits(
    State(shared): App,
    actor: Actor,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<StoredLimits>, ApiError> {
    put_limits(&shared, &actor, LimitScope::Site, body).await.map(Json)
}

fn require_ward(actor: &Actor, ward: WardId) -> Result<(), ApiError> {
    if actor.may_access_ward(ward) {
        Ok(())
    } else {
        Err(ApiError::not_found("There is no ward with this id."))
    }
}

async fn ward_limits(
    State(shared): App,
    actor: Actor,
    PathWard(ward): PathWard,
) -> Result<Json<StoredLimits>, ApiError> {
    require_ward(&actor, ward)?;
    stored_limits(&shared, LimitScope::Ward { ward }).await.map(Json)
}

async fn put_ward_limits(
    State(shared): App,
    actor: Actor,
    PathWard(ward): PathWard,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<StoredLimits>, ApiError> {
    require_ward(&actor, ward)?;
    put_limits(&shared, &actor, LimitScope::Ward { ward }, body).await.map(Json)
}

/// 404 for a patient in a ward that the client may not access. A patient with live waveforms alone is not stored and has
/// alarms, so limits need no stored patient.
async fn require_patient(shared: &Shared, actor: &Actor, mrn: Mrn) -> Result<(), ApiError> {
    if may_access(shared, actor, mrn).await? { Ok(()) } else { Err(no_patient()) }
}

async fn may_access(shared: &Shared, actor: &Actor, mrn: Mrn) -> Result<bool, ApiError> {
    wards::may_access(&*shared.ports.patients, actor, mrn).await.map_err(store_error)
}

async fn patient_limits(
    State(shared): App,
    actor: Actor,
    PathMrn(mrn): PathMrn,
) -> Result<Response, ApiError> {
    require_patient(&shared, &actor, mrn).await?;
    let limits = stored_limits(&shared, LimitScope::Patient { mrn }).await?;
    Ok(with_patient(Some(mrn), Json(limits)))
}

async fn put_patient_limits(
    State(shared): App,
    actor: Actor,
    PathMrn(mrn): PathMrn,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    require_patient(&shared, &actor, mrn).await?;
    let limits = put_limits(&shared, &actor, LimitScope::Patient { mrn }, body).await?;
    Ok(with_patient(Some(mrn), Json(limits)))
}

//! Calls that change wards, beds, admissions and details of patients.
//!
//! A change is published after it is durable. A repeated call changes nothing, and is published again, because the process
//! may have ended before it published the change.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequestParts, RawPathParams, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::{patch, post};
use axum::{Json, Router};
use http_server::internal::Actor;
use http_server::problem::{ApiError, ProblemType};
use proto_json::wards::{
    AdmitRequest, DetailsUpdate, DischargeRequest, NewBed, NewWard, RenamePlace, TransferRequest, Ward,
};
use proto_json::{
    BedId, Change, ChangeKind, Mrn, PatientSummary, PatientUpdated, RecordId, SystemEvent, Timestamp, WardId,
};
use store::StoreError;
use store::wards::{Author, CareChange, ChangedWard, WardChange, WardError, WardRefusal};
use uuid::Uuid;

use crate::Ports;

/// The routes of these calls.
pub(crate) fn routes() -> Router<Arc<Ports>> {
    Router::new()
        .route("/api/v1/wards", post(add_ward))
        .route("/api/v1/wards/{ward}", patch(rename_ward).delete(remove_ward))
        .route("/api/v1/wards/{ward}/beds", post(add_bed))
        .route("/api/v1/wards/{ward}/beds/{bed}", patch(rename_bed).delete(remove_bed))
        .route("/api/v1/patients/{mrn}", patch(change_details))
        .route("/api/v1/patients/{mrn}/admit", post(admit))
        .route("/api/v1/patients/{mrn}/transfer", post(transfer))
        .route("/api/v1/patients/{mrn}/discharge", post(discharge))
}

async fn add_ward(
    State(ports): State<Arc<Ports>>,
    actor: Actor,
    body: Bytes,
) -> Result<(StatusCode, Json<Ward>), ApiError> {
    let NewWard { id, name } = parse(&body)?;
    let ward = id.unwrap_or_else(|| WardId::from_uuid(Uuid::now_v7()));
    let changed = change_ward(&ports, actor, WardChange::AddWard { ward, name }).await?;
    Ok((StatusCode::CREATED, Json(changed.ward)))
}

async fn rename_ward(
    State(ports): State<Arc<Ports>>,
    actor: Actor,
    Path([ward]): Path<1>,
    body: Bytes,
) -> Result<Json<Ward>, ApiError> {
    let (ward, RenamePlace { name, version }) = (WardId::from_uuid(ward), parse(&body)?);
    let changed = change_ward(&ports, actor, WardChange::RenameWard { ward, name, version }).await?;
    Ok(Json(changed.ward))
}

async fn remove_ward(
    State(ports): State<Arc<Ports>>,
    actor: Actor,
    Path([ward]): Path<1>,
) -> Result<StatusCode, ApiError> {
    change_ward(&ports, actor, WardChange::RemoveWard { ward: WardId::from_uuid(ward) }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn add_bed(
    State(ports): State<Arc<Ports>>,
    actor: Actor,
    Path([ward]): Path<1>,
    body: Bytes,
) -> Result<(StatusCode, Json<Ward>), ApiError> {
    let NewBed { id, name } = parse(&body)?;
    let bed = id.unwrap_or_else(|| BedId::from_uuid(Uuid::now_v7()));
    let change = WardChange::AddBed { ward: WardId::from_uuid(ward), bed, name };
    let changed = change_ward(&ports, actor, change).await?;
    Ok((StatusCode::CREATED, Json(changed.ward)))
}

async fn rename_bed(
    State(ports): State<Arc<Ports>>,
    actor: Actor,
    Path([ward, bed]): Path<2>,
    body: Bytes,
) -> Result<Json<Ward>, ApiError> {
    let (ward, bed) = (WardId::from_uuid(ward), BedId::from_uuid(bed));
    let RenamePlace { name, version } = parse(&body)?;
    let changed = change_ward(&ports, actor, WardChange::RenameBed { ward, bed, name, version }).await?;
    Ok(Json(changed.ward))
}

async fn remove_bed(
    State(ports): State<Arc<Ports>>,
    actor: Actor,
    Path([ward, bed]): Path<2>,
) -> Result<StatusCode, ApiError> {
    let (ward, bed) = (WardId::from_uuid(ward), BedId::from_uuid(bed));
    change_ward(&ports, actor, WardChange::RemoveBed { ward, bed }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn admit(
    State(ports): State<Arc<Ports>>,
    actor: Actor,
    PathMrn(mrn): PathMrn,
    body: Bytes,
) -> Result<Json<PatientSummary>, ApiError> {
    let AdmitRequest { bed, id } = parse(&body)?;
    let stay = id.unwrap_or_else(new_stay);
    change_care(&ports, actor, mrn, CareChange::Admit { bed, stay }).await
}

async fn transfer(
    State(ports): State<Arc<Ports>>,
    actor: Actor,
    PathMrn(mrn): PathMrn,
    body: Bytes,
) -> Result<Json<PatientSummary>, ApiError> {
    let TransferRequest { bed, from, id } = parse(&body)?;
    let stay = id.unwrap_or_else(new_stay);
    change_care(&ports, actor, mrn, CareChange::Transfer { bed, from, stay }).await
}

async fn discharge(
    State(ports): State<Arc<Ports>>,
    actor: Actor,
    PathMrn(mrn): PathMrn,
    body: Bytes,
) -> Result<Json<PatientSummary>, ApiError> {
    let body = if body.is_empty() { Bytes::from_static(b"{}") } else { body };
    let DischargeRequest { from } = parse(&body)?;
    change_care(&ports, actor, mrn, CareChange::Discharge { from }).await
}

async fn change_details(
    State(ports): State<Arc<Ports>>,
    actor: Actor,
    PathMrn(mrn): PathMrn,
    body: Bytes,
) -> Result<Json<PatientSummary>, ApiError> {
    let update: DetailsUpdate = parse(&body)?;
    change_care(&ports, actor, mrn, CareChange::Details(update)).await
}

fn new_stay() -> RecordId {
    RecordId::from_uuid(Uuid::now_v7())
}

fn author(actor: Actor) -> Author {
    Author { name: actor.name, wards: actor.wards, granted: actor.granted, at: Timestamp::now() }
}

async fn change_ward(ports: &Ports, actor: Actor, change: WardChange) -> Result<ChangedWard, ApiError> {
    let changed = ports.wards.change_ward(&change, &author(actor)).await.map_err(api_error)?;
    for patient in &changed.patients {
        publish(ports, ChangeKind::Admission, patient).await;
    }
    if let Err(error) = ports.bus.pubsub.publish_event(&SystemEvent::Wards).await {
        tracing::warn!(error = %error, "a change of a ward was not published");
    }
    Ok(changed)
}

async fn change_care(
    ports: &Ports,
    actor: Actor,
    mrn: Mrn,
    change: CareChange,
) -> Result<Json<PatientSummary>, ApiError> {
    let kind = match change {
        CareChange::Details(_) => ChangeKind::Details,
        CareChange::Admit { .. } | CareChange::Transfer { .. } | CareChange::Discharge { .. } => {
            ChangeKind::Admission
        }
    };
    let changed = ports.wards.change_care(mrn, &change, &author(actor)).await.map_err(api_error)?;
    publish(ports, kind, &changed.patient).await;
    Ok(Json(changed.patient))
}

async fn publish(ports: &Ports, kind: ChangeKind, patient: &PatientSummary) {
    let changes = vec![Change { kind, id: None }];
    let update = PatientUpdated { upload_id: None, changes, patient: patient.clone(), sent_at: None };
    crate::publish(&*ports.bus.pubsub, update, None).await;
}

/// Reads a JSON body.
fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    http_server::json::read_object(body)
        .map_err(|error| ApiError::invalid(format!("The body cannot be read: {error}.")))
}

/// The ids in a path. Each id has one spelling, so that logs have one key for it.
struct Path<const IDS: usize>([Uuid; IDS]);

impl<S: Send + Sync, const IDS: usize> FromRequestParts<S> for Path<IDS> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let invalid = || ApiError::invalid("The id in the path is not a UUID.");
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| invalid())?;
        let ids = params
            .iter()
            .map(|(_, text)| Uuid::parse_str(text).ok().filter(|_| text.len() == 36).ok_or_else(invalid));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        ids.try_into().map(Path).map_err(|_| invalid())
    }
}

/// The medical record number in a path.
struct PathMrn(Mrn);

impl<S: Send + Sync> FromRequestParts<S> for PathMrn {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let invalid = |error: &dyn std::fmt::Display| ApiError::invalid(sentence(&error.to_string()));
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| invalid(&proto_json::MrnError::NotAnInteger))?;
        let text = params.iter().next().map_or("", |(_, text)| text);
        text.parse().map(PathMrn).map_err(|error: proto_json::MrnError| invalid(&error))
    }
}

/// A message with a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    let stop = if text.ends_with('.') { "" } else { "." };
    format!("{first}{}{stop}", letters.as_str())
}

fn api_error(error: WardError) -> ApiError {
    let kind = match &error {
        WardError::Store(error) => return store_error(error),
        WardError::Refused(refusal) => match refusal {
            WardRefusal::UnknownWard | WardRefusal::UnknownBed | WardRefusal::UnknownPatient => {
                ProblemType::NOT_FOUND
            }
            WardRefusal::NameTaken(_) => ProblemType::NAME_TAKEN,
            WardRefusal::IdTaken(_) => ProblemType::ID_TAKEN,
            WardRefusal::TooMany(_) => ProblemType::LIMIT_REACHED,
            WardRefusal::VersionConflict { .. } | WardRefusal::OtherStay => ProblemType::VERSION_CONFLICT,
            WardRefusal::InUse { .. } => ProblemType::IN_USE,
            WardRefusal::BedOccupied { .. } => ProblemType::BED_OCCUPIED,
            WardRefusal::AlreadyAdmitted { .. } | WardRefusal::SameBed { .. } => {
                ProblemType::ALREADY_ADMITTED
            }
            WardRefusal::NotAdmitted => ProblemType::NOT_ADMITTED,
            WardRefusal::BirthDateInFuture => ProblemType::TIME_IN_FUTURE,
        },
    };
    ApiError::new(kind, sentence(&error.to_string()))
}

fn store_error(error: &StoreError) -> ApiError {
    match error {
        StoreError::Unavailable(cause) => {
            tracing::warn!(%cause, "the store cannot be reached");
            ApiError::unavailable("The patient store cannot be reached for now; try again in a moment.", 2)
        }
        StoreError::Damaged(record) => {
            tracing::error!("a stored record is damaged; `bedside verify` names it");
            ApiError::damaged(sentence(&record.to_string()))
        }
        error => ApiError::internal(error),
    }
}

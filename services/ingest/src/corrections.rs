//! Corrections on request of the gateway, and the completion of those that are running.
//!
//! A request is answered when its correction is complete, or after [`ANSWER_AFTER`] with 202. Every process also continues all
//! running corrections at its start and every [`CONTINUE_EVERY`], so one that a crash or an outage has interrupted is completed.
//! After a change, the patients are published, and a system event for numbers that screens have to load again or remove.
//!
//! An erasure also removes the copies in the broker: staged files, dead letters and the log of waveforms. Messages in the
//! queues are not removed: the store refuses what they contain, and they are dropped on delivery.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{post, put};
use axum::{Json, Router};
use http_server::internal::Actor;
use http_server::problem::{ApiError, ProblemType};
use proto_json::{
    Change, ChangeKind, Correction, CorrectionAction, CorrectionId, CorrectionState, EraseBody,
    MAX_REASON_CHARS, MergeBody, MoveBody, Mrn, NameBody, PatientSummary, PatientUpdated, ReasonBody,
    RecordId, RetentionBody, RetentionReport, SystemEvent, UploadId,
};
use serde::de::DeserializeOwned;
use store::{CorrectionOutcome, CorrectionStep, NewCorrection, Refusal, StoreError};
use tokio::time::{Instant, MissedTickBehavior};
use uuid::Uuid;

use crate::{Ports, clock, publish};

/// Longest time that a request waits until its correction is complete.
const ANSWER_AFTER: Duration = Duration::from_secs(3);
/// Time between two searches for running corrections.
const CONTINUE_EVERY: Duration = Duration::from_secs(5);
/// Searches for running corrections between two searches for dead letters of erased patients.
const DEAD_LETTERS_EVERY: u32 = 12;
/// Dead letters that are read at a time.
const DEAD_LETTERS: usize = 500;
/// Time after which the files of the broker are cleaned up after a late message of an erased patient: it is acknowledged then.
const CLEAN_UP_AFTER: Duration = Duration::from_secs(2);
/// Largest number of characters of a name, as in uploads.
const MAX_NAME_CHARS: usize = 500;

type Shared = State<Arc<Ports>>;
type Answer = Result<Response, ApiError>;

/// The routes.
pub(crate) fn routes() -> Router<Arc<Ports>> {
    Router::new()
        .route("/api/v1/records/{id}/entered-in-error", post(mark).delete(unmark))
        .route("/api/v1/uploads/{id}/move", post(move_upload))
        .route("/api/v1/patients/{mrn}/name", post(rename))
        .route("/api/v1/patients/{mrn}/merge", post(merge))
        .route("/api/v1/merges/{id}/undo", post(undo_merge))
        .route("/api/v1/patients/{mrn}/erase", post(erase))
        .route("/api/v1/patients/{mrn}/hold", put(hold).delete(release))
        .route("/api/v1/retention", post(retain))
}

async fn mark(
    State(ports): Shared,
    actor: Actor,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let ReasonBody { reason } = parsed(&body)?;
    let record = RecordId::from_uuid(id_of(&id)?);
    make(&ports, &actor, &headers, CorrectionAction::EnteredInError { record }, reason).await
}

/// A reason is optional.
async fn unmark(
    State(ports): Shared,
    actor: Actor,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let reason = reason_or(&body, "The record is correct.")?;
    let record = RecordId::from_uuid(id_of(&id)?);
    make(&ports, &actor, &headers, CorrectionAction::ErrorUndone { record }, reason).await
}

async fn move_upload(
    State(ports): Shared,
    actor: Actor,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let MoveBody { mrn, create, reason } = parsed(&body)?;
    let upload_id = UploadId::from_uuid(id_of(&id)?);
    let action = CorrectionAction::UploadMoved { upload_id, from: None, to: mrn, create };
    make(&ports, &actor, &headers, action, reason).await
}

async fn rename(
    State(ports): Shared,
    actor: Actor,
    Path(mrn): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let NameBody { name, reason } = parsed(&body)?;
    let name = text_of(&name, "name", MAX_NAME_CHARS)?;
    make(&ports, &actor, &headers, CorrectionAction::NameCorrected { mrn: mrn_of(&mrn)?, name }, reason).await
}

async fn merge(
    State(ports): Shared,
    actor: Actor,
    Path(mrn): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let MergeBody { into, reason } = parsed(&body)?;
    make(&ports, &actor, &headers, CorrectionAction::Merged { from: mrn_of(&mrn)?, into }, reason).await
}

async fn undo_merge(
    State(ports): Shared,
    actor: Actor,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let ReasonBody { reason } = parsed(&body)?;
    let merge = CorrectionId::from_uuid(id_of(&id)?);
    make(&ports, &actor, &headers, CorrectionAction::MergeUndone { merge }, reason).await
}

async fn erase(
    State(ports): Shared,
    actor: Actor,
    Path(mrn): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let EraseBody { confirm, reason } = parsed(&body)?;
    let mrn = mrn_of(&mrn)?;
    if confirm != mrn {
        let detail = "`confirm` must be the number of the patient that is erased.";
        return Err(ApiError::new(ProblemType::NOT_CORRECTABLE, detail));
    }
    make(&ports, &actor, &headers, CorrectionAction::Erased { mrn }, reason).await
}

async fn hold(
    State(ports): Shared,
    actor: Actor,
    Path(mrn): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let ReasonBody { reason } = parsed(&body)?;
    make(&ports, &actor, &headers, CorrectionAction::HoldPlaced { mrn: mrn_of(&mrn)? }, reason).await
}

/// A reason is optional.
async fn release(
    State(ports): Shared,
    actor: Actor,
    Path(mrn): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let reason = reason_or(&body, "The hold has ended.")?;
    make(&ports, &actor, &headers, CorrectionAction::HoldReleased { mrn: mrn_of(&mrn)? }, reason).await
}

async fn retain(State(ports): Shared, actor: Actor, body: Bytes) -> Result<Json<RetentionReport>, ApiError> {
    let rule: RetentionBody = parsed(&body)?;
    let now = clock::stored_now();
    if rule.before > now {
        let detail = "`before` must not be in the future.";
        return Err(ApiError::new(ProblemType::TIME_IN_FUTURE, detail));
    }
    let (report, changed) = ports.corrections.retain(rule, now).await.map_err(store_error)?;
    if !rule.dry_run {
        let RetentionReport { records, patients, .. } = report;
        tracing::info!(by = %actor.name, kind = ?rule.kind, records, patients, "old data removed");
    }
    announce(&ports, changed, None).await;
    Ok(Json(report))
}

/// Makes a correction and answers with it: 200 if it is complete, 202 if it is still running.
async fn make(
    ports: &Ports,
    actor: &Actor,
    headers: &HeaderMap,
    action: CorrectionAction,
    reason: String,
) -> Answer {
    let reason = text_of(&reason, "reason", MAX_REASON_CHARS)?;
    let record = match action {
        CorrectionAction::EnteredInError { record } | CorrectionAction::ErrorUndone { record } => {
            Some(record)
        }
        _ => None,
    };
    let new = NewCorrection {
        id: correction_id(actor, headers)?,
        action,
        by: actor.name.to_string(),
        reason,
        at: clock::stored_now(),
        wards: actor.wards.clone(),
        granted: actor.granted.clone(),
    };
    let (mut correction, patients) = match ports.corrections.correct(&new).await.map_err(store_error)? {
        CorrectionOutcome::Refused(refusal) => return Err(refused(refusal)),
        CorrectionOutcome::Accepted { correction, patients, replayed } => {
            tracing::info!(correction = %correction.id, by = %new.by, replayed, "correction accepted");
            (correction, patients)
        }
    };
    announce(ports, patients, record).await;
    announce_numbers(ports, &correction).await;
    if correction.state == CorrectionState::Running {
        announce_wards(ports).await;
    }
    if correction.state == CorrectionState::Running
        && let Ok(true) = drive(ports, correction.id, Some(Instant::now() + ANSWER_AFTER)).await
    {
        correction.state = CorrectionState::Done;
        announce_numbers(ports, &correction).await;
    }
    let status = match correction.state {
        CorrectionState::Done => StatusCode::OK,
        CorrectionState::Running => StatusCode::ACCEPTED,
    };
    Ok((status, Json(correction)).into_response())
}

/// Continues a correction until it is complete, or until a time. Returns whether it is complete.
async fn drive(ports: &Ports, id: CorrectionId, until: Option<Instant>) -> Result<bool, String> {
    loop {
        let step = ports.corrections.continue_correction(id, clock::stored_now()).await;
        match step.map_err(|error| error.to_string())? {
            CorrectionStep::More => {}
            CorrectionStep::Erased(mrn) => {
                erase_copies(ports, mrn).await?;
                ports.corrections.finish_erasure(id).await.map_err(|error| error.to_string())?;
                announce_wards(ports).await;
                tracing::info!(correction = %id, "a patient was erased");
                return Ok(true);
            }
            CorrectionStep::Done(patients) => {
                announce(ports, patients, None).await;
                return Ok(true);
            }
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return Ok(false);
        }
    }
}

/// Continues running corrections periodically, until dropped.
pub(crate) async fn run(ports: &Ports) {
    let mut period = tokio::time::interval(CONTINUE_EVERY);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rounds = 0_u32;
    loop {
        period.tick().await;
        let running = match ports.corrections.running_corrections().await {
            Ok(running) => running,
            Err(error) => {
                tracing::warn!(%error, "running corrections could not be searched");
                continue;
            }
        };
        for id in running {
            match drive(ports, id, None).await {
                Ok(_) => tracing::info!(correction = %id, "an interrupted correction was completed"),
                Err(cause) => {
                    tracing::warn!(correction = %id, cause, "a correction cannot be continued for now")
                }
            }
        }
        if rounds.is_multiple_of(DEAD_LETTERS_EVERY)
            && let Err(cause) = delete_dead_letters(ports, None).await
        {
            tracing::warn!(cause, "dead letters of erased patients could not be searched");
        }
        rounds = rounds.wrapping_add(1);
    }
}

/// Removes what the broker has of an erased patient, except for queued messages, which are dropped on delivery.
async fn erase_copies(ports: &Ports, mrn: Mrn) -> Result<(), String> {
    delete_dead_letters(ports, Some(mrn)).await?;
    for (key, _) in ports.bus.staging.list().await.map_err(|error| error.to_string())? {
        if is_erased(ports, None, key.upload).await? {
            ports.bus.staging.delete(key).await.map_err(|error| error.to_string())?;
        }
    }
    ports.bus.queue.erase(mrn).await.map_err(|error| error.to_string())
}

/// Deletes the dead letters of a patient, and those of erased uploads.
async fn delete_dead_letters(ports: &Ports, of: Option<Mrn>) -> Result<(), String> {
    let mut after = None;
    loop {
        let letters = ports.bus.dead_letters.dead_letters(after, DEAD_LETTERS).await;
        let letters = letters.map_err(|error| error.to_string())?;
        let Some(last) = letters.last() else { return Ok(()) };
        after = Some(last.id);
        for letter in &letters {
            let is_late = match letter.upload_id() {
                Some(upload) => is_erased(ports, Some(letter.mrn), upload).await?,
                None => false,
            };
            if of == Some(letter.mrn) || is_late {
                let deleted = ports.bus.dead_letters.delete_dead_letter(letter.id).await;
                deleted.map_err(|error| error.to_string())?;
            }
        }
    }
}

/// Whether an upload, or the patient that it was sent for, was erased.
pub(crate) async fn is_erased(ports: &Ports, mrn: Option<Mrn>, upload: UploadId) -> Result<bool, String> {
    let erased = ports.corrections.is_erased(*upload.as_uuid()).await;
    if erased.map_err(|error| error.to_string())? {
        return Ok(true);
    }
    let Some(mrn) = mrn else { return Ok(false) };
    let fate = ports.corrections.fate(mrn).await.map_err(|error| error.to_string())?;
    Ok(matches!(fate, Some(proto_json::Fate::Erased { .. })))
}

/// Cleans up the files of the broker after a late message of an erased patient was dropped.
pub(crate) fn clean_up_later(ports: &Ports, mrn: Mrn) {
    let queue = ports.bus.queue.clone();
    tokio::spawn(async move {
        tokio::time::sleep(CLEAN_UP_AFTER).await;
        if let Err(error) = queue.erase(mrn).await {
            tracing::warn!(%error, "the files of the broker could not be cleaned up after an erasure");
        }
    });
}

/// Publishes changed patients.
async fn announce(ports: &Ports, patients: Vec<PatientSummary>, record: Option<RecordId>) {
    for patient in patients {
        let changes = vec![Change { kind: ChangeKind::Corrected, id: record }];
        let update = PatientUpdated { upload_id: None, changes, patient, sent_at: None };
        publish(&*ports.bus.pubsub, update, None).await;
    }
}

/// Publishes that the occupants of beds may have changed.
async fn announce_wards(ports: &Ports) {
    if let Err(error) = ports.bus.pubsub.publish_event(&SystemEvent::Wards).await {
        tracing::warn!(%error, "a change of beds was not published");
    }
}

/// Publishes that patients are to be loaded again: those that come, go or have other records.
async fn announce_numbers(ports: &Ports, correction: &Correction) {
    for mrn in &correction.patients {
        if let Err(error) = ports.bus.pubsub.publish_event(&SystemEvent::Patient { mrn: *mrn }).await {
            tracing::warn!(%error, "a corrected patient was not published");
        }
    }
}

/// The id of a correction: derived from the user and the `Idempotency-Key`.
fn correction_id(actor: &Actor, headers: &HeaderMap) -> Result<CorrectionId, ApiError> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(CorrectionId::from_uuid(Uuid::now_v7()));
    };
    let key = value.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
    let key =
        key.ok_or_else(|| ApiError::invalid("`Idempotency-Key` must be 1 to 255 visible characters."))?;
    Ok(CorrectionId::from_idempotency_key(&actor.name, key))
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    http_server::json::read_object(body)
        .map_err(|error| ApiError::invalid(format!("The body cannot be read: {error}.")))
}

fn reason_or(body: &[u8], default: &str) -> Result<String, ApiError> {
    if body.is_empty() {
        return Ok(default.to_owned());
    }
    parsed(body).map(|ReasonBody { reason }| reason)
}

/// Text without surrounding white space and without control characters.
fn text_of(text: &str, what: &str, most: usize) -> Result<String, ApiError> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > most || text.chars().any(char::is_control) {
        let detail = format!("`{what}` must have 1 to {most} characters and no control characters.");
        return Err(ApiError::invalid(detail));
    }
    Ok(text.to_owned())
}

fn mrn_of(text: &str) -> Result<Mrn, ApiError> {
    text.parse().map_err(|error: proto_json::MrnError| {
        ApiError::invalid(format!("The number in the path is wrong: {error}."))
    })
}

fn id_of(text: &str) -> Result<Uuid, ApiError> {
    let id = Uuid::parse_str(text).ok().filter(|_| text.len() == 36);
    id.ok_or_else(|| ApiError::invalid("The id in the path is not a UUID."))
}

/// The error for a refused correction.
fn refused(refusal: Refusal) -> ApiError {
    let text = refusal.to_string();
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    let detail = format!("{first}{}.", letters.as_str());
    match refusal {
        Refusal::UnknownRecord
        | Refusal::UnknownUpload
        | Refusal::UnknownMerge
        | Refusal::UnknownPatient(_)
        | Refusal::Erased(_) => ApiError::not_found(detail),
        Refusal::Merged { into, .. } => ApiError { merged_into: Some(into), ..ApiError::not_found(detail) },
        Refusal::IdReused => ApiError::new(ProblemType::KEY_REUSED, detail),
        Refusal::Busy(_) => ApiError::unavailable(detail, 1),
        Refusal::SamePatient
        | Refusal::AlreadyMarked
        | Refusal::NotMarked
        | Refusal::AlreadyThere(_)
        | Refusal::SameName
        | Refusal::AlreadyUndone
        | Refusal::NotUndoable(_)
        | Refusal::OnHold(_)
        | Refusal::AlreadyHeld(_)
        | Refusal::NotHeld(_) => ApiError::new(ProblemType::NOT_CORRECTABLE, detail),
    }
}

fn store_error(error: StoreError) -> ApiError {
    match error {
        StoreError::Unavailable(cause) => {
            tracing::warn!(%cause, "a correction could not be stored");
            ApiError::unavailable("The patient store cannot be reached for now.", 2)
        }
        StoreError::Refused(cause) => {
            tracing::warn!(%cause, "a correction was refused by the store");
            ApiError::unavailable("The patient store did not accept this for now.", 2)
        }
        error => ApiError::internal(error),
    }
}

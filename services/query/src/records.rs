//! Single records of `/api/v1`, and their files.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::response::Response;
use proto_json::{
    BlobInfo, EcgRecord, EcgStatus, Mrn, PatientSummary, RecordId, UploadId, UploadState, UploadStatus,
};
use runtime::internal::{about_patient, uploaded_by};
use runtime::problem::ApiError;

use crate::params::{PathId, PathMrn};
use crate::{Store, files, store_error};

pub(crate) async fn patient(
    State(store): State<Store>,
    PathMrn(mrn): PathMrn,
) -> Result<Json<PatientSummary>, ApiError> {
    known_patient(&store, mrn).await.map(Json)
}

/// The patient, or 404.
pub(crate) async fn known_patient(store: &Store, mrn: Mrn) -> Result<PatientSummary, ApiError> {
    let patient = store.patient(mrn).await.map_err(store_error)?;
    patient.ok_or_else(|| ApiError::not_found("There is no patient with this medical record number."))
}

pub(crate) async fn ecg(
    State(store): State<Store>,
    PathId(id): PathId<RecordId>,
) -> Result<([(HeaderName, HeaderValue); 1], Json<EcgRecord>), ApiError> {
    let ecg = known_ecg(&store, id).await?;
    Ok(([about_patient(ecg.mrn)], Json(ecg)))
}

async fn known_ecg(store: &Store, id: RecordId) -> Result<EcgRecord, ApiError> {
    let ecg = store.ecg(id).await.map_err(store_error)?;
    ecg.ok_or_else(|| ApiError::not_found("There is no ECG with this id."))
}

/// One of the files of an ECG.
#[derive(Clone, Copy)]
enum Part {
    Plot,
    Signal,
    Detail,
}

pub(crate) async fn ecg_plot(
    State(store): State<Store>,
    PathId(id): PathId<RecordId>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    ecg_part(store, id, Part::Plot, &method, &headers).await
}

pub(crate) async fn ecg_signal(
    State(store): State<Store>,
    PathId(id): PathId<RecordId>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    ecg_part(store, id, Part::Signal, &method, &headers).await
}

pub(crate) async fn ecg_detail(
    State(store): State<Store>,
    PathId(id): PathId<RecordId>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    ecg_part(store, id, Part::Detail, &method, &headers).await
}

async fn ecg_part(
    store: Store,
    id: RecordId,
    part: Part,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let ecg = known_ecg(&store, id).await?;
    let (name, patient) = about_patient(ecg.mrn);
    let mut served = serve_part(&store, &ecg, part, method, headers).await;
    match &mut served {
        Ok(response) => drop(response.headers_mut().insert(name, patient)),
        Err(error) => error.headers.push((name, patient)),
    }
    served
}

async fn serve_part(
    store: &Store,
    ecg: &EcgRecord,
    part: Part,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let blob = match part {
        Part::Plot => &ecg.plot,
        Part::Signal => &ecg.signal,
        Part::Detail => &ecg.detail,
    };
    let blob: &BlobInfo = blob.as_ref().ok_or_else(|| ApiError::not_found(why_absent(part, ecg.status)))?;
    files::serve(store, blob, &file_stem(part, ecg.id), method, headers).await
}

fn file_stem(part: Part, id: RecordId) -> String {
    match part {
        Part::Plot => format!("ecg-{id}"),
        Part::Signal => format!("ecg-{id}-signal"),
        Part::Detail => format!("ecg-{id}-detail"),
    }
}

fn why_absent(part: Part, status: EcgStatus) -> &'static str {
    match (part, status) {
        (Part::Signal, _) => "This ECG was uploaded as a picture; it has no signal.",
        (Part::Detail, EcgStatus::Picture) => {
            "This ECG was uploaded as a picture; there is no analysis of it."
        }
        (_, EcgStatus::Pending) => "This ECG is still being analysed.",
        (_, EcgStatus::Failed) => "This ECG could not be analysed; the ECG itself says why.",
        _ => "This ECG has no such file.",
    }
}

pub(crate) async fn image(
    State(store): State<Store>,
    PathId(id): PathId<RecordId>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let image = store.image(id).await.map_err(store_error)?;
    let image = image.ok_or_else(|| ApiError::not_found("There is no image with this id."))?;
    let mut response = files::serve(&store, &image.file, &format!("image-{id}"), &method, &headers).await?;
    let (name, patient) = about_patient(image.mrn);
    response.headers_mut().insert(name, patient);
    Ok(response)
}

pub(crate) async fn upload(
    State(store): State<Store>,
    PathId(id): PathId<UploadId>,
) -> Result<(HeaderMap, Json<UploadStatus>), ApiError> {
    let upload = store.upload(id).await.map_err(store_error)?;
    let upload = upload.ok_or_else(|| {
        ApiError::not_found("No upload with this id is stored; one that was just accepted may take a moment.")
    })?;
    let sender = upload.uploaded_by.as_deref().and_then(uploaded_by);
    let about = [about_patient(upload.receipt.mrn)].into_iter().chain(sender).collect();
    Ok((
        about,
        Json(UploadStatus {
            state: UploadState::Stored,
            receipt: upload.receipt,
            fingerprint: upload.fingerprint,
        }),
    ))
}

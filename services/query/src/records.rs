//! Single records of `/api/v1` and their files.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::response::Response;
use http_server::internal::{patient_header, uploaded_by_header};
use http_server::problem::ApiError;
use proto_json::{
    BlobInfo, EcgRecord, EcgStatus, Mrn, PatientSummary, RecordId, UploadId, UploadState, UploadStatus,
};

use crate::corrections;
use crate::drawings::{self, DrawingParams};
use crate::errors::store_error;
use crate::files;
use crate::params::{PathId, PathMrn};
use crate::state::Ports;

pub(crate) async fn patient(
    State(store): State<Ports>,
    PathMrn(mrn): PathMrn,
) -> Result<Json<PatientSummary>, ApiError> {
    known_patient(&store, mrn).await.map(Json)
}

/// Returns the patient, or a 404 error.
pub(crate) async fn known_patient(store: &Ports, mrn: Mrn) -> Result<PatientSummary, ApiError> {
    let patient = store.patients.patient(mrn).await.map_err(store_error)?;
    match patient {
        Some(patient) => Ok(patient),
        None => Err(corrections::missing(store, mrn).await),
    }
}

pub(crate) async fn ecg(
    State(store): State<Ports>,
    PathId(id): PathId<RecordId>,
) -> Result<([(HeaderName, HeaderValue); 1], Json<EcgRecord>), ApiError> {
    let ecg = known_ecg(&store, id).await?;
    Ok(([patient_header(ecg.mrn)], Json(ecg)))
}

async fn known_ecg(store: &Ports, id: RecordId) -> Result<EcgRecord, ApiError> {
    let ecg = store.patients.ecg(id).await.map_err(store_error)?;
    ecg.ok_or_else(|| ApiError::not_found("There is no ECG with this id."))
}

/// A file of an ECG.
#[derive(Clone, Copy)]
enum Part {
    Plot,
    Signal,
    Detail,
}

/// The stored plot, or a drawing of the requested lead or format.
pub(crate) async fn ecg_plot(
    State(store): State<Ports>,
    PathId(id): PathId<RecordId>,
    params: DrawingParams,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if params.is_stored() {
        return ecg_part(store, id, Part::Plot, &method, &headers).await;
    }
    let ecg = known_ecg(&store, id).await?;
    of_patient(ecg.mrn, drawings::lead(&store, &ecg, params, &headers).await)
}

pub(crate) async fn ecg_page(
    State(store): State<Ports>,
    PathId(id): PathId<RecordId>,
    params: DrawingParams,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let ecg = known_ecg(&store, id).await?;
    of_patient(ecg.mrn, drawings::page(&store, &ecg, params, &headers).await)
}

pub(crate) async fn ecg_samples(
    State(store): State<Ports>,
    PathId(id): PathId<RecordId>,
    params: DrawingParams,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let ecg = known_ecg(&store, id).await?;
    of_patient(ecg.mrn, drawings::samples(&store, &ecg, params, &headers).await)
}

pub(crate) async fn ecg_signal(
    State(store): State<Ports>,
    PathId(id): PathId<RecordId>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    ecg_part(store, id, Part::Signal, &method, &headers).await
}

pub(crate) async fn ecg_detail(
    State(store): State<Ports>,
    PathId(id): PathId<RecordId>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    ecg_part(store, id, Part::Detail, &method, &headers).await
}

async fn ecg_part(
    store: Ports,
    id: RecordId,
    part: Part,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let ecg = known_ecg(&store, id).await?;
    of_patient(ecg.mrn, serve_part(&store, &ecg, part, method, headers).await)
}

/// The answer with the patient for the audit log.
fn of_patient(mrn: Mrn, mut served: Result<Response, ApiError>) -> Result<Response, ApiError> {
    let (name, patient) = patient_header(mrn);
    match &mut served {
        Ok(response) => drop(response.headers_mut().insert(name, patient)),
        Err(error) => error.headers.push((name, patient)),
    }
    served
}

async fn serve_part(
    store: &Ports,
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
    let stem = file_stem(part, ecg.id);
    let is_uploaded = matches!(part, Part::Signal) || ecg.status == EcgStatus::Picture;
    let cache = if is_uploaded { files::IMMUTABLE } else { files::REVALIDATE };
    files::serve(store, ecg.upload_id, blob, (&stem, cache), method, headers).await
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
    State(store): State<Ports>,
    PathId(id): PathId<RecordId>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let image = store.patients.image(id).await.map_err(store_error)?;
    let image = image.ok_or_else(|| ApiError::not_found("There is no image with this id."))?;
    let stem = format!("image-{id}");
    let name = (stem.as_str(), files::IMMUTABLE);
    let mut response = files::serve(&store, image.upload_id, &image.file, name, &method, &headers).await?;
    let (name, patient) = patient_header(image.mrn);
    response.headers_mut().insert(name, patient);
    Ok(response)
}

pub(crate) async fn upload(
    State(store): State<Ports>,
    PathId(id): PathId<UploadId>,
) -> Result<(HeaderMap, Json<UploadStatus>), ApiError> {
    let upload = store.patients.upload(id).await.map_err(store_error)?;
    let upload = upload.ok_or_else(|| {
        ApiError::not_found("No upload with this id is stored; one that was just accepted may take a moment.")
    })?;
    let sender = upload.uploaded_by.as_deref().and_then(uploaded_by_header);
    let about = [patient_header(upload.receipt.mrn)].into_iter().chain(sender).collect();
    let status =
        UploadStatus { state: UploadState::Stored, receipt: upload.receipt, fingerprint: upload.fingerprint };
    Ok((about, Json(status)))
}

//! The lists of `/api/v1`, paginated with cursors.

use axum::Json;
use axum::extract::State;
use http_server::problem::ApiError;
use proto_json::{EcgRecord, FormerNames, HeartRateRecord, ImageRecord, Mrn, Page, PatientSummary};

use crate::errors::{report_damaged, store_error};
use crate::params::{ListParams, PathMrn};
use crate::records;
use crate::state::Ports;
use crate::wards::WardFilter;

pub(crate) async fn patients(
    State(store): State<Ports>,
    list: ListParams,
    filter: WardFilter,
) -> Result<Json<Page<PatientSummary>>, ApiError> {
    // No stored name contains control characters, and some stores cannot search for them.
    if list.query.as_deref().is_some_and(|query| query.chars().any(char::is_control)) {
        return Ok(Json(Page { items: Vec::new(), next: None, damaged: Vec::new() }));
    }
    let page = filter.patients(&store, list.query.as_deref(), list.page).await.map_err(store_error)?;
    report_damaged(&page);
    Ok(Json(page))
}

pub(crate) async fn heart_rates(
    State(store): State<Ports>,
    PathMrn(mrn): PathMrn,
    list: ListParams,
) -> Result<Json<Page<HeartRateRecord>>, ApiError> {
    let page = store.patients.heart_rates(mrn, list.page).await.map_err(store_error)?;
    require_patient(&store, mrn, page).await
}

pub(crate) async fn ecgs(
    State(store): State<Ports>,
    PathMrn(mrn): PathMrn,
    list: ListParams,
) -> Result<Json<Page<EcgRecord>>, ApiError> {
    let page = store.patients.ecgs(mrn, list.page).await.map_err(store_error)?;
    require_patient(&store, mrn, page).await
}

pub(crate) async fn images(
    State(store): State<Ports>,
    PathMrn(mrn): PathMrn,
    list: ListParams,
) -> Result<Json<Page<ImageRecord>>, ApiError> {
    let page = store.patients.images(mrn, list.page).await.map_err(store_error)?;
    require_patient(&store, mrn, page).await
}

/// Maximum number of former names in a response.
const FORMER_NAMES: usize = 100;

pub(crate) async fn former_names(
    State(store): State<Ports>,
    PathMrn(mrn): PathMrn,
) -> Result<Json<FormerNames>, ApiError> {
    let items = store.patients.former_names(mrn, FORMER_NAMES).await.map_err(store_error)?;
    if items.is_empty() {
        records::known_patient(&store, mrn).await?;
    }
    Ok(Json(FormerNames { items }))
}

/// An empty page of an unknown patient becomes 404. A patient with records is known, so no further query is
/// needed.
async fn require_patient<T>(store: &Ports, mrn: Mrn, page: Page<T>) -> Result<Json<Page<T>>, ApiError> {
    report_damaged(&page);
    if page.items.is_empty() && page.damaged.is_empty() {
        records::known_patient(store, mrn).await?;
    }
    Ok(Json(page))
}

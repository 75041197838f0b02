//! Wards, the history of admissions, and the filters of the list of patients by ward and admission.

use axum::Json;
use axum::extract::{FromRequestParts, Query, State};
use axum::http::request::Parts;
use http_server::problem::ApiError;
use proto_json::wards::{AdmissionRecord, Ward};
use proto_json::{Cursor, Page, PatientSummary, WardId};
use serde::Deserialize;
use store::wards::admitted_patients;
use store::{PageRequest, StoreError};

use crate::errors::{report_damaged, store_error};
use crate::params::{ListParams, PathMrn};
use crate::records;
use crate::state::Ports;

pub(crate) async fn wards(State(store): State<Ports>) -> Result<Json<Page<Ward>>, ApiError> {
    let page = store.wards.wards().await.map_err(store_error)?;
    report_damaged(&page);
    Ok(Json(page))
}

pub(crate) async fn admissions(
    State(store): State<Ports>,
    PathMrn(mrn): PathMrn,
    list: ListParams,
) -> Result<Json<Page<AdmissionRecord>>, ApiError> {
    let page = store.wards.admissions(mrn, list.page).await.map_err(store_error)?;
    report_damaged(&page);
    if page.items.is_empty() && page.damaged.is_empty() {
        records::known_patient(&store, mrn).await?;
    }
    Ok(Json(page))
}

/// `?ward=&admitted=`
#[derive(Debug, Deserialize)]
struct RawFilter {
    ward: Option<String>,
    admitted: Option<String>,
}

/// Which patients are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WardFilter {
    All,
    /// Admitted patients, of one ward or of all.
    Admitted(Option<WardId>),
    /// Patients who are not admitted.
    Outside,
    /// No patients. A patient in a ward is admitted.
    Empty,
}

impl<S: Send + Sync> FromRequestParts<S> for WardFilter {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(raw): Query<RawFilter> =
            Query::from_request_parts(parts, state).await.map_err(|error| {
                ApiError::invalid(format!("The query string cannot be read: {}.", error.body_text()))
            })?;
        let id = |text: String| text.parse().ok().filter(|_| text.len() == 36);
        let ward = raw.ward.map(|text| id(text).ok_or_else(|| ApiError::invalid("`ward` is not a UUID.")));
        match (ward.transpose()?, raw.admitted.as_deref()) {
            (None, None) => Ok(WardFilter::All),
            (ward, Some("true")) => Ok(WardFilter::Admitted(ward)),
            (Some(ward), None) => Ok(WardFilter::Admitted(Some(ward))),
            (None, Some("false")) => Ok(WardFilter::Outside),
            (Some(_), Some("false")) => Ok(WardFilter::Empty),
            (_, Some(_)) => Err(ApiError::invalid("`admitted` must be `true` or `false`.")),
        }
    }
}

impl WardFilter {
    /// A page of the patients that the filter and the search select.
    pub(crate) async fn patients(
        self,
        store: &Ports,
        query: Option<&str>,
        page: PageRequest,
    ) -> Result<Page<PatientSummary>, StoreError> {
        match self {
            WardFilter::All => store.patients.patients(query, page).await,
            WardFilter::Admitted(ward) => admitted_patients(&*store.wards, ward, query, page).await,
            WardFilter::Outside => outside(store, query, page).await,
            WardFilter::Empty => Ok(Page { items: Vec::new(), next: None, damaged: Vec::new() }),
        }
    }
}

/// Patients who are not admitted. Patients of wards are skipped: there are at most as many as beds.
async fn outside(
    store: &Ports,
    query: Option<&str>,
    PageRequest { mut after, limit, include_errors }: PageRequest,
) -> Result<Page<PatientSummary>, StoreError> {
    let mut found = Page { items: Vec::new(), next: None, damaged: Vec::new() };
    loop {
        let part = store.patients.patients(query, PageRequest { after, limit, include_errors }).await?;
        found.items.extend(part.items.into_iter().filter(|patient| patient.admission.is_none()));
        for record in part.damaged {
            if !found.damaged.contains(&record) {
                found.damaged.push(record);
            }
        }
        found.next = part.next;
        if found.items.len() > limit {
            found.items.truncate(limit);
            found.next = found.items.last().map(|patient| Cursor::Patient(patient.mrn));
        }
        if found.next.is_none() || found.items.len() == limit {
            return Ok(found);
        }
        after = found.next;
    }
}

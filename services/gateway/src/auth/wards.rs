//! Access by ward and by bed.
//!
//! A client with wards may access the patients in these wards, and those who are in no ward. Other patients do not exist for
//! it: 404, not in lists, no events. A client that is bound to a bed writes only to the patient in that bed.
//!
//! Query knows the place of a patient. The gateway remembers it and learns changes from the published updates, so a change
//! applies as soon as its update arrives. While updates may be lost, nothing is remembered, and every request asks query. If
//! query cannot be reached, access is denied with 503.

use std::collections::HashMap;
use std::sync::Arc;

use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use http_server::internal::Actor;
use http_server::problem::{ApiError, ProblemType};
use parking_lot::RwLock;
use proto_json::{BedId, ChangeKind, Mrn, Page, PatientSummary, PatientUpdated, Timestamp, WardId};
use tokio::sync::watch;

use crate::app::App;
use crate::auth::tokens::{Client, Permission};
use crate::reads::query::QueryService;

/// Number of patients above which all places are forgotten. Bounds the memory.
const MAX_KNOWN: usize = 100_000;
/// Largest summary or page of summaries that is read, in bytes.
const MAX_BODY: usize = 16 << 20;
/// Patients of one page when the gateway reads all of them.
const PAGE: usize = 500;

/// Where a patient is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Version of the patient; 0 if the patient is unknown.
    version: u64,
    ward: Option<WardId>,
    bed: Option<BedId>,
}

impl Place {
    /// The place of a patient who is not stored.
    const NOWHERE: Place = Place { version: 0, ward: None, bed: None };

    /// Returns the place in a summary.
    pub(crate) fn of(patient: &PatientSummary) -> Self {
        let admission = patient.admission.as_ref();
        Place {
            version: patient.version,
            ward: admission.map(|admission| admission.ward),
            bed: admission.map(|admission| admission.bed),
        }
    }

    fn is_visible_to(self, wards: Option<&[WardId]>) -> bool {
        match (wards, self.ward) {
            (None, _) | (_, None) => true,
            (Some(wards), Some(ward)) => wards.contains(&ward),
        }
    }
}

#[derive(Debug, Default)]
struct Known {
    places: HashMap<Mrn, Place>,
    /// Counts the times at which updates may have been lost.
    generation: u64,
    /// Updates are lost for now.
    is_disconnected: bool,
}

/// The places of patients, as far as they are known.
#[derive(Debug)]
pub(crate) struct Wards {
    known: RwLock<Known>,
    /// Changes when a patient may have moved.
    moved: watch::Sender<()>,
}

impl Wards {
    /// Nothing is remembered until the first subscription to updates.
    pub(crate) fn new() -> Self {
        let known = Known { is_disconnected: true, ..Known::default() };
        Wards { known: RwLock::new(known), moved: watch::Sender::new(()) }
    }

    /// Learns the place of a patient from a published update. Returns the ward that the patient has left, if the patient has
    /// left one: `Some(None)` if it is not known which.
    pub(crate) fn observe(&self, update: &PatientUpdated) -> Option<Option<WardId>> {
        let (patient, place) = (&update.patient, Place::of(&update.patient));
        let mut known = self.known.write();
        let before = known.places.get(&patient.mrn).copied();
        if before.is_some_and(|before| before.version >= place.version) {
            return None;
        }
        if !known.is_disconnected {
            insert(&mut known.places, patient.mrn, place);
        }
        drop(known);
        let has_moved = match before {
            Some(before) => (before.ward, before.bed) != (place.ward, place.bed),
            None => update.changes.iter().any(|change| change.kind == ChangeKind::Admission),
        };
        if !has_moved {
            return None;
        }
        self.moved.send_replace(());
        match before {
            None => Some(None),
            Some(before) if before.ward != place.ward => before.ward.map(Some),
            Some(_) => None,
        }
    }

    /// Forgets all places, because updates may have been lost. Nothing is remembered while `is_disconnected`.
    pub(crate) fn lost(&self, is_disconnected: bool) {
        let mut known = self.known.write();
        known.places.clear();
        known.generation += 1;
        known.is_disconnected = is_disconnected;
        drop(known);
        self.moved.send_replace(());
    }

    /// Notifies when a patient may have moved.
    pub(crate) fn moves(&self) -> watch::Receiver<()> {
        self.moved.subscribe()
    }

    /// Returns the place of a patient.
    ///
    /// # Errors
    /// 503 if query cannot be reached.
    async fn place(&self, reads: &QueryService, mrn: Mrn) -> Result<Place, ApiError> {
        let generation = {
            let known = self.known.read();
            if let Some(place) = known.places.get(&mrn) {
                return Ok(*place);
            }
            known.generation
        };
        let patient: Option<PatientSummary> = read(reads, &format!("/api/v1/patients/{mrn}")).await?;
        let place = patient.as_ref().map_or(Place::NOWHERE, Place::of);
        let mut known = self.known.write();
        if known.generation == generation && !known.is_disconnected {
            // An update that arrived meanwhile is newer.
            let newer = known.places.get(&mrn).copied().filter(|newer| newer.version > place.version);
            if let Some(newer) = newer {
                return Ok(newer);
            }
            insert(&mut known.places, mrn, place);
        }
        Ok(place)
    }
}

fn insert(places: &mut HashMap<Mrn, Place>, mrn: Mrn, place: Place) {
    if places.len() >= MAX_KNOWN {
        places.clear();
    }
    places.insert(mrn, place);
}

/// Reads JSON from query; `None` for 404.
async fn read<T: serde::de::DeserializeOwned>(
    reads: &QueryService,
    path: &str,
) -> Result<Option<T>, ApiError> {
    let path = PathAndQuery::try_from(path).map_err(ApiError::internal)?;
    let response = reads.request(Method::GET, path, HeaderMap::new()).await?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Ok(None),
        _ => return Err(ApiError::unavailable("The ward of the patient cannot be read for now.", 2)),
    }
    let body = http_body_util::Limited::new(response.into_body(), MAX_BODY).collect().await;
    let body = body.map_err(ApiError::internal)?.to_bytes();
    serde_json::from_slice(&body).map(Some).map_err(ApiError::internal)
}

/// The answer for a patient that does not exist for a client. It is that of query for an unknown patient.
fn no_patient() -> ApiError {
    ApiError::not_found("There is no patient with this medical record number.")
}

/// Returns whether a client may access the patient with this summary.
pub(crate) fn sees(client: &Client, patient: &PatientSummary) -> bool {
    Place::of(patient).is_visible_to(client.wards.as_deref()) || has_emergency(client, patient.mrn)
}

fn has_emergency(client: &Client, mrn: Mrn) -> bool {
    client.session.as_ref().is_some_and(|session| session.may_access(mrn, Timestamp::now()))
}

/// Returns whether a client may access a patient.
///
/// # Errors
/// 503 if the place of the patient cannot be read.
pub(crate) async fn may_access(app: &App, client: &Client, mrn: Mrn) -> Result<bool, ApiError> {
    if client.wards.is_none() || has_emergency(client, mrn) {
        return Ok(true);
    }
    Ok(app.wards.place(&app.reads, mrn).await?.is_visible_to(client.wards.as_deref()))
}

/// Checks that a client may access a patient.
///
/// # Errors
/// 404 if it may not; 503 if the place of the patient cannot be read.
pub(crate) async fn check(app: &App, client: &Client, mrn: Mrn) -> Result<(), ApiError> {
    if may_access(app, client, mrn).await? { Ok(()) } else { Err(no_patient()) }
}

/// Checks that a client may do what needs this permission to a patient.
///
/// # Errors
/// 404 for a patient of another ward; 409 if the client is bound to a bed and the patient is not in it; 503 if the place of
/// the patient cannot be read.
pub(crate) async fn check_for(
    app: &App,
    client: &Client,
    permission: Permission,
    mrn: Mrn,
) -> Result<(), ApiError> {
    check(app, client, mrn).await?;
    let writes = !matches!(permission, Permission::Read | Permission::ReadUpload | Permission::Audit);
    let Some(bed) = client.bed.filter(|_| writes) else { return Ok(()) };
    if app.wards.place(&app.reads, mrn).await?.bed == Some(bed) {
        return Ok(());
    }
    let detail = format!(
        "This token is bound to a bed, and patient {mrn} is not admitted to it. Check the record number, or admit the patient \
         first."
    );
    Err(ApiError::new(ProblemType::CONFLICT, detail))
}

/// Resolves when a client may not do any more what needs this permission to a patient. Failures to read the place are no
/// reason.
pub(crate) async fn lost_access(app: &App, client: &Client, permission: Permission, mrn: Mrn) {
    if !client.is_limited() {
        return std::future::pending().await;
    }
    let mut moves = app.wards.moves();
    loop {
        moves.mark_unchanged();
        if let Err(error) = check_for(app, client, permission, mrn).await
            && error.kind.status != StatusCode::SERVICE_UNAVAILABLE
        {
            return;
        }
        // An emergency access ends without a move.
        let until = client.session.as_ref().and_then(|session| {
            let now = Timestamp::now();
            let grant = session.grants(now).into_iter().find(|grant| grant.mrn == mrn)?;
            u64::try_from(grant.until.millis_since(now)).ok()
        });
        let expiry = async {
            match until {
                Some(millis) => tokio::time::sleep(std::time::Duration::from_millis(millis + 1)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            moved = moves.changed() => if moved.is_err() { return },
            () = expiry => {}
        }
    }
}

/// Returns the actor that services behind the gateway get.
pub(crate) fn actor(client: &Client, address: Option<std::net::IpAddr>) -> Actor {
    let grants = client.session.as_ref().map(|session| session.grants(Timestamp::now()));
    Actor {
        name: client.name.to_string(),
        role: client.role.name().to_owned(),
        wards: client.wards.as_deref().map(<[WardId]>::to_vec),
        granted: grants.into_iter().flatten().map(|grant| grant.mrn).collect(),
        address,
    }
}

/// Removes patients whom a client may not access from a page.
pub(crate) fn filter(client: &Client, page: &mut Page<PatientSummary>) {
    page.items.retain(|patient| sees(client, patient));
}

/// Returns the numbers of all patients whom a client may access, ascending.
///
/// # Errors
/// 503 if query cannot be reached.
pub(crate) async fn visible(app: &Arc<App>, client: &Client) -> Result<Vec<Mrn>, ApiError> {
    let mut numbers = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/api/v1/patients?limit={PAGE}{after}");
        let mut page: Page<PatientSummary> = read(&app.reads, &path).await?.ok_or_else(no_patient)?;
        filter(client, &mut page);
        numbers.extend(page.items.iter().map(|patient| patient.mrn));
        match page.next {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(numbers),
        }
    }
}

#[cfg(test)]
mod tests {
    use proto_json::wards::Admission;

    use super::*;

    fn ward(number: u128) -> WardId {
        WardId::from_uuid(uuid::Uuid::from_u128(number))
    }

    fn patient(number: u64, version: u64, in_ward: Option<u128>) -> PatientSummary {
        let at = Timestamp::from_millis(1_800_000_000_000).unwrap();
        let admission = in_ward.map(|number| Admission {
            id: proto_json::UploadId::generate().record("stay", 0),
            ward: ward(number),
            ward_name: "Ward".parse().unwrap(),
            bed: BedId::from_uuid(uuid::Uuid::from_u128(number)),
            bed_name: "Bed".parse().unwrap(),
            admitted_at: at,
        });
        PatientSummary {
            mrn: Mrn::new(number).unwrap(),
            name: None,
            version,
            created_at: at,
            updated_at: at,
            latest_heart_rate: None,
            latest_ecg: None,
            latest_image: None,
            renamed: None,
            admission,
            details: None,
        }
    }

    #[test]
    fn client_sees_its_wards_and_patients_in_no_ward() {
        let place = |ward: Option<u128>| Place::of(&patient(7, 1, ward));
        let own = [ward(1), ward(2)];
        assert!(place(Some(2)).is_visible_to(Some(&own)) && place(None).is_visible_to(Some(&own)));
        assert!(!place(Some(3)).is_visible_to(Some(&own)));
        assert!(!place(Some(3)).is_visible_to(Some(&[])) && place(None).is_visible_to(Some(&[])));
        assert!(place(Some(3)).is_visible_to(None));
    }

    fn update(version: u64, in_ward: Option<u128>, has_moved: bool) -> PatientUpdated {
        let kind = if has_moved { ChangeKind::Admission } else { ChangeKind::HeartRate };
        let changes = vec![proto_json::Change { kind, id: None }];
        PatientUpdated { upload_id: None, changes, patient: patient(7, version, in_ward), sent_at: None }
    }

    #[test]
    fn older_update_does_not_replace_a_place_and_a_loss_forgets_all() {
        let wards = Wards::new();
        let known = |wards: &Wards| wards.known.read().places.get(&Mrn::new(7).unwrap()).copied();
        assert_eq!(wards.observe(&update(1, Some(1), false)), None);
        assert_eq!(known(&wards), None, "nothing is remembered before the subscription");
        wards.lost(false);
        let mut moves = wards.moves();
        assert_eq!(wards.observe(&update(3, Some(2), true)), Some(None), "from where is not known");
        assert!(moves.has_changed().unwrap());
        moves.mark_unchanged();
        assert_eq!(wards.observe(&update(2, Some(1), true)), None);
        assert_eq!(wards.observe(&update(4, Some(2), false)), None);
        assert!(!moves.has_changed().unwrap(), "the patient has not moved");
        assert_eq!(known(&wards).unwrap().ward, Some(ward(2)));
        assert_eq!(wards.observe(&update(5, None, true)), Some(Some(ward(2))));
        assert_eq!(wards.observe(&update(6, Some(1), true)), None, "the patient was in no ward");
        assert!(moves.has_changed().unwrap());
        wards.lost(true);
        wards.observe(&update(7, Some(1), true));
        assert_eq!(known(&wards), None);
    }
}

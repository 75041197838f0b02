//! Wards, beds, admissions and details of patients.
//!
//! A change can be repeated after a transient error if the request has the ids that the client chooses: the server then makes
//! the change once.

use proto_json::wards::{
    AdmissionRecord, AdmitRequest, DetailsUpdate, DischargeRequest, NewBed, NewWard, RenamePlace,
    TransferRequest, Ward,
};
use proto_json::{BedId, Cursor, Mrn, Page, PatientSummary, RecordId, WardId};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::{ClientError, Gateway};

/// Returns a new id of a ward, which makes a request repeatable.
#[must_use]
pub fn new_ward_id() -> WardId {
    WardId::from_uuid(Uuid::now_v7())
}

/// Returns a new id of a bed, which makes a request repeatable.
#[must_use]
pub fn new_bed_id() -> BedId {
    BedId::from_uuid(Uuid::now_v7())
}

/// Returns a new id of a stay, which makes an admission or transfer repeatable.
#[must_use]
pub fn new_stay_id() -> RecordId {
    RecordId::from_uuid(Uuid::now_v7())
}

impl Gateway {
    /// All wards with their beds, by name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn wards(&self) -> Result<Page<Ward>, ClientError> {
        self.json(self.api(&["wards"])).await
    }

    /// Adds a ward. Requires an admin token.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn add_ward(&self, new: &NewWard) -> Result<Ward, ClientError> {
        self.send_json(Method::POST, self.api(&["wards"]), new).await
    }

    /// Renames a ward. Requires an admin token.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rename_ward(&self, ward: WardId, to: &RenamePlace) -> Result<Ward, ClientError> {
        self.send_json(Method::PATCH, self.api(&["wards", &ward.to_string()]), to).await
    }

    /// Removes a ward with its beds, all of which must be empty. Requires an admin token.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_ward(&self, ward: WardId) -> Result<(), ClientError> {
        self.send_change(Method::DELETE, self.api(&["wards", &ward.to_string()]), None).await.map(drop)
    }

    /// Adds a bed to a ward. Requires an admin token.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn add_bed(&self, ward: WardId, new: &NewBed) -> Result<Ward, ClientError> {
        self.send_json(Method::POST, self.api(&["wards", &ward.to_string(), "beds"]), new).await
    }

    /// Renames a bed. Requires an admin token.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rename_bed(&self, ward: WardId, bed: BedId, to: &RenamePlace) -> Result<Ward, ClientError> {
        let url = self.api(&["wards", &ward.to_string(), "beds", &bed.to_string()]);
        self.send_json(Method::PATCH, url, to).await
    }

    /// Removes an empty bed. Requires an admin token.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_bed(&self, ward: WardId, bed: BedId) -> Result<(), ClientError> {
        let url = self.api(&["wards", &ward.to_string(), "beds", &bed.to_string()]);
        self.send_change(Method::DELETE, url, None).await.map(drop)
    }

    /// Admits a patient to an empty bed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn admit(&self, mrn: Mrn, request: &AdmitRequest) -> Result<PatientSummary, ClientError> {
        self.send_json(Method::POST, self.api(&["patients", &mrn.to_string(), "admit"]), request).await
    }

    /// Moves an admitted patient to an empty bed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn transfer(&self, mrn: Mrn, request: &TransferRequest) -> Result<PatientSummary, ClientError> {
        self.send_json(Method::POST, self.api(&["patients", &mrn.to_string(), "transfer"]), request).await
    }

    /// Discharges an admitted patient.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn discharge(
        &self,
        mrn: Mrn,
        request: &DischargeRequest,
    ) -> Result<PatientSummary, ClientError> {
        self.send_json(Method::POST, self.api(&["patients", &mrn.to_string(), "discharge"]), request).await
    }

    /// Changes the details of a patient.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn change_details(
        &self,
        mrn: Mrn,
        update: &DetailsUpdate,
    ) -> Result<PatientSummary, ClientError> {
        self.send_json(Method::PATCH, self.api(&["patients", &mrn.to_string()]), update).await
    }

    /// Stays of a patient in beds, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn admissions(
        &self,
        mrn: Mrn,
        after: Option<Cursor>,
        limit: Option<u32>,
    ) -> Result<Page<AdmissionRecord>, ClientError> {
        let mut url = self.api(&["patients", &mrn.to_string(), "admissions"]);
        for (name, value) in
            [("after", after.map(|after| after.to_string())), ("limit", limit.map(|limit| limit.to_string()))]
        {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, &value);
            }
        }
        self.json(url).await
    }

    async fn send_json<T: DeserializeOwned>(
        &self,
        method: Method,
        url: Url,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| ClientError::Settings(format!("the request cannot be sent: {error}")))?;
        let response = self.send_change(method, url, Some(body)).await?;
        self.parsed(response).await
    }

    async fn send_change(
        &self,
        method: Method,
        url: Url,
        body: Option<Vec<u8>>,
    ) -> Result<Response, ClientError> {
        let limit = self.timeouts().answer;
        let mut request = self.request(method, url).timeout(limit);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        self.answer(request, limit).await
    }
}

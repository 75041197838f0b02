//! Corrections, erasure and retention: calls of the API.

use std::time::Duration;

use proto_json::{
    Correction, CorrectionId, EraseBody, MergeBody, MoveBody, Mrn, NameBody, ReasonBody, RecordId,
    RetentionBody, RetentionReport, UploadId,
};
use reqwest::Method;
use serde::Serialize;
use uuid::Uuid;

use crate::{ClientError, Gateway};

/// Attempts of a correction while the gateway cannot be reached or is busy. All have the same `Idempotency-Key`.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

impl Gateway {
    /// The newest corrections of a patient; `None` if no patient has or had this number.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn corrections(&self, mrn: Mrn) -> Result<Option<Vec<Correction>>, ClientError> {
        match self.json(self.api(&["patients", &mrn.to_string(), "corrections"])).await {
            Err(ClientError::NotFound(_)) => Ok(None),
            corrections => corrections.map(Some),
        }
    }

    /// Marks a heart rate, an ECG or an image as entered in error.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn mark_error(&self, record: RecordId, reason: &str) -> Result<Correction, ClientError> {
        let path = ["records", &record.to_string(), "entered-in-error"];
        self.correct(Method::POST, &path, &ReasonBody { reason: reason.to_owned() }).await
    }

    /// Removes such a mark.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn unmark_error(&self, record: RecordId, reason: &str) -> Result<Correction, ClientError> {
        let path = ["records", &record.to_string(), "entered-in-error"];
        self.correct(Method::DELETE, &path, &ReasonBody { reason: reason.to_owned() }).await
    }

    /// Moves an upload with its records to another patient. `create`: the patient is created if none has this number.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn move_upload(
        &self,
        upload: UploadId,
        to: Mrn,
        create: bool,
        reason: &str,
    ) -> Result<Correction, ClientError> {
        let body = MoveBody { mrn: to, create, reason: reason.to_owned() };
        self.correct(Method::POST, &["uploads", &upload.to_string(), "move"], &body).await
    }

    /// Corrects the name of a patient.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn correct_name(&self, mrn: Mrn, name: &str, reason: &str) -> Result<Correction, ClientError> {
        let body = NameBody { name: name.to_owned(), reason: reason.to_owned() };
        self.correct(Method::POST, &["patients", &mrn.to_string(), "name"], &body).await
    }

    /// Merges a patient into another one.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn merge(&self, from: Mrn, into: Mrn, reason: &str) -> Result<Correction, ClientError> {
        let body = MergeBody { into, reason: reason.to_owned() };
        self.correct(Method::POST, &["patients", &from.to_string(), "merge"], &body).await
    }

    /// Undoes a merge.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn undo_merge(&self, merge: CorrectionId, reason: &str) -> Result<Correction, ClientError> {
        let body = ReasonBody { reason: reason.to_owned() };
        self.correct(Method::POST, &["merges", &merge.to_string(), "undo"], &body).await
    }

    /// Deletes everything about a patient. Requires the admin role.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn erase(&self, mrn: Mrn, reason: &str) -> Result<Correction, ClientError> {
        let body = EraseBody { confirm: mrn, reason: reason.to_owned() };
        self.correct(Method::POST, &["patients", &mrn.to_string(), "erase"], &body).await
    }

    /// Places or releases a legal hold. Requires the admin role.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn hold(&self, mrn: Mrn, held: bool, reason: &str) -> Result<Correction, ClientError> {
        let method = if held { Method::PUT } else { Method::DELETE };
        let body = ReasonBody { reason: reason.to_owned() };
        self.correct(method, &["patients", &mrn.to_string(), "hold"], &body).await
    }

    /// Applies a retention rule to some of the patients; see [`RetentionReport::next`]. Requires the admin role.
    ///
    /// # Errors
    /// [`ClientError`]. It may be repeated.
    pub async fn retain(&self, rule: &RetentionBody) -> Result<RetentionReport, ClientError> {
        self.sent(Method::POST, &["retention"], rule, &Uuid::now_v7().to_string()).await
    }

    async fn correct<B: Serialize>(
        &self,
        method: Method,
        path: &[&str],
        body: &B,
    ) -> Result<Correction, ClientError> {
        let key = Uuid::now_v7().to_string();
        let mut attempt = 1;
        loop {
            match self.sent(method.clone(), path, body, &key).await {
                Err(
                    ClientError::Busy { .. } | ClientError::TimedOut { .. } | ClientError::Unreachable { .. },
                ) if attempt < ATTEMPTS => {
                    tokio::time::sleep(PAUSE * attempt).await;
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    async fn sent<B: Serialize, T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: &B,
        key: &str,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| ClientError::Settings(format!("the correction cannot be sent: {error}")))?;
        let limit = self.timeouts().answer;
        let request = self.request(method, self.api(path));
        let request = request.header("content-type", "application/json").header("idempotency-key", key);
        self.parsed(self.answer(request.body(body).timeout(limit), limit).await?).await
    }
}

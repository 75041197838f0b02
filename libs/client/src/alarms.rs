//! Calls of the gateway for alarms and their limits.

use proto_json::alarms::{
    Alarm, AlarmActionRequest, AlarmLimits, AlarmPage, AlarmPriority, AudioPauseRequest, LimitScope,
    StoredLimits,
};
use proto_json::{Mrn, RecordId};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{ClientError, Gateway};

/// Alarms per page when all open alarms are read.
const PAGE: u32 = 500;

/// Which alarms are listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AlarmSelection {
    /// Alarms that have not ended.
    #[default]
    Open,
    /// Alarms that have ended.
    Ended,
    /// All alarms.
    All,
}

impl AlarmSelection {
    fn name(self) -> &'static str {
        match self {
            AlarmSelection::Open => "open",
            AlarmSelection::Ended => "ended",
            AlarmSelection::All => "all",
        }
    }
}

/// Filter of a list of alarms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlarmQuery {
    /// Open or ended alarms, or both.
    pub selection: AlarmSelection,
    /// Alarms of one patient only.
    pub mrn: Option<Mrn>,
    /// Alarms of one priority only.
    pub priority: Option<AlarmPriority>,
    /// Maximum number of alarms.
    pub limit: Option<u32>,
    /// [`AlarmPage::next`] of the page before.
    pub cursor: Option<String>,
}

/// Body of a change of limits.
#[derive(Serialize)]
struct LimitsChange<'a> {
    limits: &'a AlarmLimits,
    version: u64,
}

impl Gateway {
    /// One page of alarms, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn alarms(&self, query: &AlarmQuery) -> Result<AlarmPage, ClientError> {
        let mut url = self.api(&["alarms"]);
        {
            let mut pairs = url.query_pairs_mut();
            pairs.append_pair("state", query.selection.name());
            if let Some(mrn) = query.mrn {
                pairs.append_pair("mrn", &mrn.to_string());
            }
            if let Some(priority) = query.priority {
                pairs.append_pair("priority", priority_name(priority));
            }
            if let Some(limit) = query.limit {
                pairs.append_pair("limit", &limit.to_string());
            }
            if let Some(cursor) = &query.cursor {
                pairs.append_pair("cursor", cursor);
            }
        }
        self.json(url).await
    }

    /// All open alarms of one patient or of all patients, read page by page.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn open_alarms(&self, mrn: Option<Mrn>) -> Result<Vec<Alarm>, ClientError> {
        let mut query = AlarmQuery { mrn, limit: Some(PAGE), ..AlarmQuery::default() };
        let mut all = Vec::new();
        loop {
            let page = self.alarms(&query).await?;
            all.extend(page.items);
            match page.next {
                // A cursor that does not advance would loop forever.
                Some(next) if query.cursor.as_ref() != Some(&next) => query.cursor = Some(next),
                _ => return Ok(all),
            }
        }
    }

    /// Acknowledges an alarm. A latched alarm ends.
    ///
    /// # Errors
    /// [`ClientError`]. [`ClientError::Refused`] with status 409 if the alarm has ended, or if it has another priority than in
    /// the version of the request.
    pub async fn acknowledge_alarm(
        &self,
        id: RecordId,
        request: AlarmActionRequest,
    ) -> Result<Alarm, ClientError> {
        self.alarm_action(id, "acknowledge", request).await
    }

    /// Pauses the sound of an alarm. Its state does not change.
    ///
    /// # Errors
    /// As of [`Gateway::acknowledge_alarm`].
    pub async fn pause_alarm_audio(
        &self,
        id: RecordId,
        request: AudioPauseRequest,
    ) -> Result<Alarm, ClientError> {
        self.alarm_action(id, "audio-pause", request).await
    }

    /// Resets an alarm. A latched alarm ends; one whose condition persists is acknowledged.
    ///
    /// # Errors
    /// As of [`Gateway::acknowledge_alarm`].
    pub async fn reset_alarm(&self, id: RecordId, request: AlarmActionRequest) -> Result<Alarm, ClientError> {
        self.alarm_action(id, "reset", request).await
    }

    async fn alarm_action(
        &self,
        id: RecordId,
        action: &str,
        request: impl Serialize,
    ) -> Result<Alarm, ClientError> {
        self.change(Method::POST, self.api(&["alarms", &id.to_string(), action]), &request).await
    }

    /// Acknowledges all alarms of a patient. Returns those that have changed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn acknowledge_alarms_of(&self, mrn: Mrn) -> Result<AlarmPage, ClientError> {
        let url = self.api(&["patients", &mrn.to_string(), "alarms", "acknowledge"]);
        self.change(Method::POST, url, &AlarmActionRequest::default()).await
    }

    /// Limits of a scope, and the limits that apply there.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn alarm_limits(&self, scope: LimitScope) -> Result<StoredLimits, ClientError> {
        self.json(self.limits_url(scope)).await
    }

    /// Replaces the limits of a scope. An absent value is inherited. `version` is the version that the change is based on.
    ///
    /// # Errors
    /// [`ClientError`]. [`ClientError::Refused`] with status 409 if the stored limits have another version, and with status 422
    /// if the limits cross. Nothing is changed then.
    pub async fn set_alarm_limits(
        &self,
        scope: LimitScope,
        limits: &AlarmLimits,
        version: u64,
    ) -> Result<StoredLimits, ClientError> {
        self.change(Method::PUT, self.limits_url(scope), &LimitsChange { limits, version }).await
    }

    fn limits_url(&self, scope: LimitScope) -> Url {
        match scope {
            LimitScope::Site => self.api(&["limits"]),
            LimitScope::Ward { ward } => self.api(&["wards", &ward.to_string(), "limits"]),
            LimitScope::Patient { mrn } => self.api(&["patients", &mrn.to_string(), "limits"]),
        }
    }

    /// Sends a JSON document and parses the answer.
    async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        url: Url,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| ClientError::Settings(format!("the request cannot be sent: {error}")))?;
        let limit = self.timeouts().answer;
        let request = self.request(method, url).header(CONTENT_TYPE, "application/json").body(body);
        self.parsed(self.answer(request.timeout(limit), limit).await?).await
    }
}

/// The name of a priority in requests.
fn priority_name(priority: AlarmPriority) -> &'static str {
    match priority {
        AlarmPriority::Technical => "technical",
        AlarmPriority::Low => "low",
        AlarmPriority::Medium => "medium",
        AlarmPriority::High => "high",
    }
}

//! The public API of a gateway: one method for each route of `/api/v1`.

use std::sync::Arc;
use std::time::Duration;

use proto_json::audit::{AuditHead, AuditPage, AuditVerdict};
use proto_json::{
    CLOCK_PROBLEM_HEADER, Cursor, DeadLetter, DeadLetterPage, EcgDetail, EcgRecord, FormerNames,
    HeartRateRecord, ImageRecord, Mrn, NameCheck, NameMatch, NameQuery, Page, PatientSummary, Problem,
    RecordId, TIME_HEADER, Timestamp, UploadId, UploadStatus,
};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;

use crate::{ClientError, Download, ServerTime, Settings, Timeouts};

/// Longest body of a JSON answer, in bytes: enough for the beats of a recording of several days.
const MAX_JSON_BYTES: usize = 128 << 20;
/// Longest body of a problem document that is read, in bytes.
const MAX_PROBLEM_BYTES: usize = 64 << 10;

/// A client of one gateway. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Gateway(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    base: Url,
    timeouts: Timeouts,
    server_time: ServerTime,
}

impl Gateway {
    /// Creates a client. Sends nothing yet.
    ///
    /// # Errors
    /// [`ClientError::Settings`].
    pub fn new(settings: &Settings) -> Result<Self, ClientError> {
        let base = settings.url()?;
        let wrong = |error: reqwest::Error| ClientError::Settings(format!("HTTPS cannot be set up: {error}"));
        // Fails only if the process has installed a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        if let Some(token) = &settings.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.as_str())).map_err(|_| {
                ClientError::Settings("the access token cannot be sent in an HTTP header".to_owned())
            })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let mut builder = reqwest::Client::builder()
            .http1_only()
            .default_headers(headers)
            .user_agent(concat!("bedside/", env!("CARGO_PKG_VERSION")))
            // A redirect could send patient data to another host.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(15))
            .connect_timeout(settings.timeouts.connect);
        if let Some(pem) = &settings.extra_certificates {
            let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(|_| {
                ClientError::Settings("the file of trusted certificates is not in PEM format".to_owned())
            })?;
            builder = builder.tls_certs_merge(certificates);
        }
        let http = builder.build().map_err(wrong)?;
        let server_time = ServerTime::default();
        Ok(Gateway(Arc::new(Inner { http, base, timeouts: settings.timeouts, server_time })))
    }

    /// Address of the gateway.
    #[must_use]
    pub fn address(&self) -> &str {
        self.0.base.as_str().trim_end_matches('/')
    }

    /// The clock of the server, estimated from its messages.
    #[must_use]
    pub fn server_time(&self) -> &ServerTime {
        &self.0.server_time
    }

    /// Current time by the server's clock, or by the clock of this computer before the server's first message.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.server_time.now().unwrap_or_else(Timestamp::now)
    }

    /// Checks that the gateway answers within `limit`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn check(&self, limit: Duration) -> Result<(), ClientError> {
        let request = self.0.http.get(self.url(&[])).timeout(limit);
        self.answer(request, limit).await.map(drop)
    }

    /// Checks within `limit` that the gateway is ready. Works only with a gateway that serves its health to clients, as
    /// standalone does.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ready(&self, limit: Duration) -> Result<(), ClientError> {
        let request = self.0.http.get(self.url(&["readyz"])).timeout(limit);
        self.answer(request, limit).await.map(drop)
    }

    /// One page of patient summaries in order of their numbers, after the cursor `after`. With `query`, only patients whose
    /// name or number matches.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn patients(
        &self,
        query: Option<&str>,
        after: Option<Cursor>,
        limit: Option<u32>,
    ) -> Result<Page<PatientSummary>, ClientError> {
        let mut url = self.api(&["patients"]);
        if let Some(query) = query {
            url.query_pairs_mut().append_pair("q", query);
        }
        self.json(paged(url, after, limit)).await
    }

    /// Summaries of all patients as one page, read page by page. [`Page::damaged`] lists each damaged record once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn all_patients(&self, query: Option<&str>) -> Result<Page<PatientSummary>, ClientError> {
        let mut all = Page { items: Vec::new(), next: None, damaged: Vec::new() };
        let mut after = None;
        loop {
            let page = self.patients(query, after, Some(PAGE)).await?;
            all.items.extend(page.items);
            for record in page.damaged {
                if !all.damaged.contains(&record) {
                    all.damaged.push(record);
                }
            }
            match page.next {
                // A cursor that does not advance would loop forever.
                Some(next) if Some(next) != after => after = Some(next),
                _ => return Ok(all),
            }
        }
    }

    /// One patient; `None` if no patient has this number.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn patient(&self, mrn: Mrn) -> Result<Option<PatientSummary>, ClientError> {
        found(self.json(self.api(&["patients", &mrn.to_string()])).await)
    }

    /// Former names of a patient, newest first; `None` if no patient has this number.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn former_names(&self, mrn: Mrn) -> Result<Option<FormerNames>, ClientError> {
        found(self.json(self.api(&["patients", &mrn.to_string(), "names"])).await)
    }

    /// Compares a name with the stored name of a patient. Tokens that allow uploads only allow this, too.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn check_name(&self, mrn: Mrn, name: &str) -> Result<NameMatch, ClientError> {
        let limit = self.0.timeouts.answer;
        let body = serde_json::to_vec(&NameQuery { name: name.to_owned() })
            .map_err(|error| ClientError::Settings(format!("the name cannot be sent: {error}")))?;
        let url = self.api(&["patients", &mrn.to_string(), "name-check"]);
        let request = self.post(url).header("content-type", "application/json").body(body).timeout(limit);
        let check: NameCheck = self.parsed(self.answer(request, limit).await?).await?;
        Ok(check.result)
    }

    /// Heart rates of a patient, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn heart_rates(
        &self,
        mrn: Mrn,
        after: Option<Cursor>,
        limit: Option<u32>,
    ) -> Result<Page<HeartRateRecord>, ClientError> {
        self.json(paged(self.api(&["patients", &mrn.to_string(), "heart-rates"]), after, limit)).await
    }

    /// ECGs of a patient, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ecgs(
        &self,
        mrn: Mrn,
        after: Option<Cursor>,
        limit: Option<u32>,
    ) -> Result<Page<EcgRecord>, ClientError> {
        self.json(paged(self.api(&["patients", &mrn.to_string(), "ecgs"]), after, limit)).await
    }

    /// Medical images of a patient, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn images(
        &self,
        mrn: Mrn,
        after: Option<Cursor>,
        limit: Option<u32>,
    ) -> Result<Page<ImageRecord>, ClientError> {
        self.json(paged(self.api(&["patients", &mrn.to_string(), "images"]), after, limit)).await
    }

    /// One ECG; `None` if no ECG has this id.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ecg(&self, id: RecordId) -> Result<Option<EcgRecord>, ClientError> {
        found(self.json(self.api(&["ecgs", &id.to_string()])).await)
    }

    /// Beats and trend of an analysed ECG; `None` if no ECG has this id, or if it is not analysed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ecg_detail(&self, id: RecordId) -> Result<Option<EcgDetail>, ClientError> {
        found(self.json(self.api(&["ecgs", &id.to_string(), "detail"])).await)
    }

    /// Beats and trend as a file. The hash in the ECG's record is the hash of this file.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ecg_detail_file(&self, id: RecordId) -> Result<Download, ClientError> {
        self.download(self.api(&["ecgs", &id.to_string(), "detail"])).await
    }

    /// Plot of an ECG.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn plot(&self, id: RecordId) -> Result<Download, ClientError> {
        self.download(self.api(&["ecgs", &id.to_string(), "plot"])).await
    }

    /// Drawing of a lead of an ECG, by its name or number. `format` is `png`, `svg` or `pdf`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn lead_plot(&self, id: RecordId, lead: &str, format: &str) -> Result<Download, ClientError> {
        let mut url = self.api(&["ecgs", &id.to_string(), "plot"]);
        url.query_pairs_mut().append_pair("lead", lead).append_pair("format", format);
        self.download(url).await
    }

    /// Page of up to twelve leads of an ECG, ten seconds from `from_s`. `format` is `png`, `svg` or `pdf`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn page(&self, id: RecordId, from_s: f64, format: &str) -> Result<Download, ClientError> {
        let mut url = self.api(&["ecgs", &id.to_string(), "page"]);
        url.query_pairs_mut().append_pair("from_s", &from_s.to_string()).append_pair("format", format);
        self.download(url).await
    }

    /// Queues another analysis of an ECG. A result of a later version of the analysis replaces the stored one. Returns
    /// whether the ECG exists. Requires an admin token.
    ///
    /// # Errors
    /// [`ClientError`]. It may be repeated after a transient error.
    pub async fn reanalyse(&self, id: RecordId) -> Result<bool, ClientError> {
        self.done(self.post(self.api(&["ecgs", &id.to_string(), "reanalyse"]))).await
    }

    /// Signal file of an ECG, as it was uploaded.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn signal(&self, id: RecordId) -> Result<Download, ClientError> {
        self.download(self.api(&["ecgs", &id.to_string(), "signal"])).await
    }

    /// A medical image, as it was uploaded.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn image(&self, id: RecordId) -> Result<Download, ClientError> {
        self.download(self.api(&["images", &id.to_string()])).await
    }

    /// Status of an upload; `None` if the gateway does not know the upload.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn upload_status(&self, id: UploadId) -> Result<Option<UploadStatus>, ClientError> {
        found(self.json(self.api(&["uploads", &id.to_string()])).await)
    }

    /// Dead letters, oldest first, after the one with this number. Requires an admin token.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn dead_letters(
        &self,
        after: Option<u64>,
        limit: Option<u32>,
    ) -> Result<DeadLetterPage, ClientError> {
        let mut url = self.api(&["dead-letters"]);
        for (name, value) in [("after", after), ("limit", limit.map(u64::from))] {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, &value.to_string());
            }
        }
        self.json(url).await
    }

    /// Entries of the audit, newest first: of a patient, of a client, and before the entry with this number. Requires an
    /// auditor's or admin token.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit(
        &self,
        mrn: Option<Mrn>,
        client: Option<&str>,
        before: Option<u64>,
        limit: u32,
    ) -> Result<AuditPage, ClientError> {
        let mut url = self.api(&["audit"]);
        let numbers = [("mrn", mrn.map(Mrn::get)), ("before", before), ("limit", Some(u64::from(limit)))];
        for (name, value) in numbers {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, &value.to_string());
            }
        }
        if let Some(client) = client {
            url.query_pairs_mut().append_pair("client", client);
        }
        self.json(url).await
    }

    /// Verifies the chain of the audit, and that it contains this entry. Requires an auditor's or admin token.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn verify_audit(&self, anchor: Option<AuditHead>) -> Result<AuditVerdict, ClientError> {
        let mut url = self.api(&["audit", "verification"]);
        if let Some(anchor) = anchor {
            url.query_pairs_mut().append_pair("anchor", &anchor.to_string());
        }
        self.json(url).await
    }

    /// One dead letter; `None` if none has this number.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn dead_letter(&self, id: u64) -> Result<Option<DeadLetter>, ClientError> {
        found(self.json(self.api(&["dead-letters", &id.to_string()])).await)
    }

    /// Puts a dead letter back into its queue. Returns whether it existed.
    ///
    /// # Errors
    /// [`ClientError`]. After a transient error it may be back in the queue or not.
    pub async fn retry_dead_letter(&self, id: u64) -> Result<bool, ClientError> {
        self.done(self.post(self.api(&["dead-letters", &id.to_string(), "retry"]))).await
    }

    /// Deletes a dead letter. Returns whether it existed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn drop_dead_letter(&self, id: u64) -> Result<bool, ClientError> {
        self.done(self.0.http.delete(self.api(&["dead-letters", &id.to_string()]))).await
    }

    async fn done(&self, request: RequestBuilder) -> Result<bool, ClientError> {
        let limit = self.0.timeouts.answer;
        found(self.answer(request.timeout(limit), limit).await).map(|done| done.is_some())
    }

    /// Opens the event stream of one patient or of all patients. Resolves when the gateway has answered.
    pub(crate) async fn events(&self, of: Option<Mrn>, limit: Duration) -> Result<Response, ClientError> {
        let url = match of {
            Some(mrn) => self.api(&["patients", &mrn.to_string(), "events"]),
            None => self.api(&["events"]),
        };
        let request = self.0.http.get(url).header("accept", "text/event-stream");
        match tokio::time::timeout(limit, self.answer(request, limit)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::TimedOut { gateway: self.address().to_owned(), limit }),
        }
    }

    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.0.timeouts
    }

    pub(crate) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.0.http.request(method, url)
    }

    pub(crate) fn post(&self, url: Url) -> RequestBuilder {
        self.0.http.post(url)
    }

    pub(crate) fn patch(&self, url: Url) -> RequestBuilder {
        self.0.http.patch(url)
    }

    pub(crate) fn delete(&self, url: Url) -> RequestBuilder {
        self.0.http.delete(url)
    }

    pub(crate) fn get(&self, url: Url) -> RequestBuilder {
        self.0.http.get(url)
    }

    pub(crate) fn api(&self, segments: &[&str]) -> Url {
        self.url(&[&["api", "v1"], segments].concat())
    }

    /// Sends a request. An answer with an error status becomes an error.
    pub(crate) async fn answer(
        &self,
        request: RequestBuilder,
        limit: Duration,
    ) -> Result<Response, ClientError> {
        let sent = request.send().await;
        self.accepted(sent, limit).await
    }

    /// Turns an answer with an error status into an error.
    pub(crate) async fn accepted(
        &self,
        sent: Result<Response, reqwest::Error>,
        limit: Duration,
    ) -> Result<Response, ClientError> {
        let response = sent.map_err(|error| ClientError::from_reqwest(&error, self.address(), limit))?;
        let status = response.status();
        self.update_server_time(response.headers());
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        let is_text = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"text/plain"));
        let body = self.body(response, MAX_PROBLEM_BYTES).await.unwrap_or_default();
        let mut problem = match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => problem,
            // A 404 of another server must not mean that the patient does not exist.
            Err(_) if status == StatusCode::NOT_FOUND => {
                return Err(ClientError::BadAnswer {
                    gateway: self.address().to_owned(),
                    reason: "it does not have this route".to_owned(),
                });
            }
            Err(_) => Problem {
                kind: "about:blank".to_owned(),
                title: status.canonical_reason().unwrap_or("an unknown status").to_owned(),
                status: status.as_u16(),
                // `/readyz` lists the failed checks, one per line.
                detail: is_text.then(|| String::from_utf8_lossy(&body).trim().replace('\n', "; ")),
                names: None,
                merged_into: None,
            },
        };
        problem.status = status.as_u16();
        Err(ClientError::from_problem(problem, retry_after))
    }

    fn update_server_time(&self, headers: &HeaderMap) {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(time) = text(TIME_HEADER).and_then(|time| time.parse().ok()) {
            self.0.server_time.received_with_problem(time, text(CLOCK_PROBLEM_HEADER));
        }
    }

    /// Parses the JSON body of an answer.
    pub(crate) async fn parsed<T: DeserializeOwned>(&self, response: Response) -> Result<T, ClientError> {
        let body = self.body(response, MAX_JSON_BYTES).await?;
        serde_json::from_slice(&body).map_err(|error| ClientError::BadAnswer {
            gateway: self.address().to_owned(),
            reason: error.to_string(),
        })
    }

    async fn body(&self, response: Response, limit: usize) -> Result<bytes::Bytes, ClientError> {
        Download::new(response, self.address().to_owned(), self.0.timeouts.answer).bytes(limit).await
    }

    pub(crate) async fn json<T: DeserializeOwned>(&self, url: Url) -> Result<T, ClientError> {
        let limit = self.0.timeouts.answer;
        let response = self.answer(self.0.http.get(url).timeout(limit), limit).await?;
        self.parsed(response).await
    }

    pub(crate) async fn download(&self, url: Url) -> Result<Download, ClientError> {
        let limit = self.0.timeouts.answer;
        match tokio::time::timeout(limit, self.answer(self.0.http.get(url), limit)).await {
            Ok(response) => Ok(Download::new(response?, self.address().to_owned(), self.0.timeouts.stall)),
            Err(_) => Err(ClientError::TimedOut { gateway: self.address().to_owned(), limit }),
        }
    }

    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.0.base.clone();
        // Addresses with http and https always have path segments.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }
}

/// Entries per page when all entries are read.
const PAGE: u32 = 500;

fn paged(mut url: Url, after: Option<Cursor>, limit: Option<u32>) -> Url {
    if let Some(after) = after {
        url.query_pairs_mut().append_pair("after", &after.to_string());
    }
    if let Some(limit) = limit {
        url.query_pairs_mut().append_pair("limit", &limit.to_string());
    }
    url
}

fn found<T>(answer: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(ClientError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

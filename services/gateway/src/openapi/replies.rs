//! Responses and parameters that several routes share.

use proto_json::Mrn;
use serde_json::{Map, Value, json};

/// Responses of a route by status.
pub(super) struct Replies(Map<String, Value>);

impl Replies {
    /// The responses of every route.
    pub(super) fn new() -> Self {
        Replies(Map::new()).problem(403).problem(500)
    }

    pub(super) fn add(mut self, status: u16, reply: Value) -> Self {
        self.0.insert(status.to_string(), reply);
        self
    }

    /// Adds a 200 response with a JSON schema.
    pub(super) fn json(self, description: &str, schema: &Value) -> Self {
        self.add(
            200,
            json!({ "description": description, "content": { "application/json": { "schema": schema } } }),
        )
    }

    /// Adds a problem document with this status.
    pub(super) fn problem(self, status: u16) -> Self {
        self.add(status, json!({ "$ref": format!("#/components/responses/Problem{status}") }))
    }

    /// Adds a plain text response, as the legacy routes return it.
    pub(super) fn text(self, status: u16, description: &str) -> Self {
        let mut reply = json!({
            "description": description,
            "content": { "text/html": { "schema": { "type": "string" } } }
        });
        if let Some(headers) = headers_of(status) {
            reply["headers"] = headers;
        }
        self.add(status, reply)
    }

    /// Adds the responses of routes that need a token.
    pub(super) fn guarded(self) -> Self {
        self.problem(401).problem(429)
    }

    /// Adds the responses of routes that the query service answers.
    pub(super) fn read(self) -> Self {
        self.guarded().problem(502).problem(503)
    }

    pub(super) fn done(self) -> Value {
        Value::Object(self.0)
    }
}

/// Headers of responses with this status.
fn headers_of(status: u16) -> Option<Value> {
    match status {
        401 => Some(json!({ "WWW-Authenticate": { "required": true, "schema": { "type": "string" } } })),
        416 => Some(json!({ "Content-Range": { "required": true, "schema": { "type": "string" } } })),
        429 | 503 => Some(json!({ "Retry-After": {
            "description": "Seconds after which to try again.", "required": true,
            "schema": { "type": "integer", "minimum": 0 }
        } })),
        _ => None,
    }
}

/// The problem responses that [`Replies::problem`] references.
pub(super) fn problems() -> Map<String, Value> {
    let described = [
        (400, "The request is not valid; the sentence names what."),
        (401, "No token, or one that is not known."),
        (403, "The token's role is not enough; or, without tokens, the request is not from this machine."),
        (404, "There is no such thing (yet)."),
        (408, "The body did not arrive in time."),
        (
            409,
            "The upload names the patient differently; `names` holds both names. Or a time is in the future of the server; for a time \
             of recording, the sentence contains the time of the server. Or the ECG to analyse has no result yet, or no signal. Or the \
             alarm has ended, or the limits have another version. Or the change of a ward or an admission does not fit what is \
             stored, or the correction cannot be made; `type` and the sentence say why.",
        ),
        (410, "The patient with this number was erased, and the number cannot be used again."),
        (
            413,
            "The body, a file, a picture's size, the number of parts or a signal to draw is over a limit; the sentence names \
             it.",
        ),
        (415, "The body is no multipart form, or a file is of a kind that is not taken."),
        (416, "The range is outside of the file."),
        (
            422,
            "The Idempotency-Key was used for an upload with other content. Or the limits cannot be used. Or the file of a \
             preview is not a usable ECG, or not without another sampling rate or lead; the type says which.",
        ),
        (429, "Too many requests with this token; or, without one that is known, from this network."),
        (500, "The server failed at this request."),
        (502, "The service behind failed at this request."),
        (503, "Not now: the queue is full, something behind is away, or too much is under way."),
    ];
    let reply = |(status, description): (u16, &str)| {
        let mut reply = json!({
            "description": description,
            "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } }
        });
        if let Some(headers) = headers_of(status) {
            reply["headers"] = headers;
        }
        (format!("Problem{status}"), reply)
    };
    described.into_iter().map(reply).collect()
}

/// Parameters that several routes share.
pub(super) fn parameters() -> Value {
    let text = |place: &str, name: &str, description: &str, schema: Value| json!({ "in": place, "name": name, "description": description, "required": place == "path", "schema": schema });
    json!({
        "Mrn": text("path", "mrn", "Medical record number.", json!({ "$ref": "#/components/schemas/Mrn" })),
        "Id": text("path", "id", "Id of a record or an upload.", json!({ "type": "string", "format": "uuid" })),
        "Letter": text("path", "id", "Number of a dead letter.", json!({ "type": "integer", "minimum": 0, "maximum": i64::MAX })),
        "AfterLetter": text("query", "after", "`next` of the page before.", json!({ "type": "integer", "minimum": 0, "maximum": i64::MAX })),
        "AuditMrn": text("query", "mrn", "Only entries about this patient.",
            json!({ "type": "integer", "minimum": 0, "maximum": Mrn::MAX })),
        "AuditClient": text("query", "client", "Only entries of this client.",
            json!({ "type": "string", "maxLength": 200 })),
        "AuditBefore": text("query", "before", "`next` of the page before.",
            json!({ "type": "integer", "minimum": 0, "maximum": i64::MAX })),
        "AuditFrom": text("query", "from", "Only entries from this time on.",
            json!({ "type": "string", "format": "date-time" })),
        "AuditTo": text("query", "to", "Only entries before this time.",
            json!({ "type": "string", "format": "date-time" })),
        "AuditLimit": text("query", "limit", "Most entries of the page.",
            json!({ "type": "integer", "minimum": 1, "maximum": 1000, "default": 100 })),
        "AuditAnchor": text("query", "anchor", "An earlier head of the chain, as in the log: the number of an entry, a colon, and its hash.",
            json!({ "type": "string", "pattern": "^(0|[1-9][0-9]{0,17}):[0-9a-f]{64}$" })),
        "Limit": text("query", "limit", "Most entries of the page.",
            json!({ "type": "integer", "minimum": 1, "maximum": 500, "default": 50 })),
        "IncludeErrors": text("query", "include_errors", "`true`: the list contains records that were entered in error.",
            json!({ "type": "boolean", "default": false })),
        "AfterPatient": text("query", "after", "`next` of the page before.",
            json!({ "type": "string", "pattern": "^p(0|[1-9][0-9]{0,14}|[1-8][0-9]{15})$" })),
        "AfterRecord": text("query", "after", "`next` of the page before.",
            json!({ "type": "string", "pattern": "^r(0|-?[1-9][0-9]{0,13})\\.[0-9a-f]{32}$" })),
        "Search": text("query", "q", "Beginning of the record number, or part of the name, in whatever case.",
            json!({ "type": "string", "maxLength": 200 })),
        "IdempotencyKey": text("header", "Idempotency-Key",
            "Names this request: sent again with the same content it has its effect once.",
            json!({ "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$" })),
        "Prefer": text("header", "Prefer", "`respond-async`: answer 202 without waiting until the upload is stored.",
            json!({ "type": "string", "examples": ["respond-async"] })),
        "Ward": text("path", "ward", "Id of a ward.", json!({ "type": "string", "format": "uuid" })),
        "Bed": text("path", "bed", "Id of a bed.", json!({ "type": "string", "format": "uuid" })),
        "InWard": text("query", "ward", "Only patients who are admitted to this ward.",
            json!({ "type": "string", "format": "uuid" })),
        "Admitted": text("query", "admitted", "Only patients who are, or are not, admitted.", json!({ "type": "boolean" })),
        "Lead": text("query", "lead", "Name or 1-based number of a lead; also III, aVR, aVL and aVF where the file has I and II.",
            json!({ "type": "string", "maxLength": 100 })),
        "Format": text("query", "format", "Format of the drawing.",
            json!({ "type": "string", "enum": ["png", "svg", "pdf"], "default": "png" })),
        "FromSeconds": text("query", "from_s", "Start of the page in seconds from the start of the recording.",
            json!({ "type": "number", "minimum": 0, "maximum": 10_000_000, "default": 0 })),
        "IfNoneMatch": text("header", "If-None-Match", "Entity tags the client has.", json!({ "type": "string" })),
        "Range": text("header", "Range", "One range of bytes.", json!({ "type": "string" })),
    })
}

//! Generates the document: paths are written by hand, schemas are derived from the types of proto-json.

use proto_json::audit::{AuditPage, AuditVerdict};
use proto_json::{
    DeadLetter, DeadLetterPage, EcgDetail, EcgPreview, EcgRecord, EcgSamples, FormerNames, HeartRateRecord,
    ImageRecord, Mrn, NameCheck, NameQuery, Page, PatientSummary, PatientUpdated, Problem, ReceivedUpload,
    ServerClock, StreamState, SystemEvent, UploadReceipt, UploadStatus, legacy,
};
use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Value, json};

use super::replies::{Replies, parameters, problems};
use super::{alarms, corrections, users, wards, waveforms};

/// Returns the whole document.
pub(super) fn make() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    let mut schemas = Schemas(settings.into_generator());
    let mut paths = paths(&mut schemas);
    for (path, item) in alarms::paths(&mut schemas) {
        paths[path] = item;
    }
    schemas.of::<SystemEvent>();
    wards::add(&mut paths, &mut schemas);
    users::add(&mut schemas, &mut paths);
    if let (Some(paths), Value::Object(corrections)) =
        (paths.as_object_mut(), corrections::paths(&mut schemas))
    {
        paths.extend(corrections);
    }
    schemas.of::<Problem>();
    schemas.of::<Mrn>();
    schemas.of::<PatientUpdated>();
    schemas.of::<StreamState>();
    let mut schemas = schemas.0.take_definitions(true);
    schemas.insert("NewPatient".to_owned(), new_patient_schema());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Bedside",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Patient monitoring: uploads from the bedside, live and past data for the station. \
                            Not a certified medical device.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" }
        },
        "servers": [{ "url": "/" }],
        "tags": [
            { "name": "uploads" }, { "name": "patients" }, { "name": "files" }, { "name": "events" }, { "name": "alarms" },
            { "name": "corrections" },
            { "name": "documented", "description": "The routes that existing clients speak." },
            { "name": "wards" }, { "name": "dead letters", "description": "For admins." }, { "name": "service" },
            { "name": "audit", "description": "For auditors and admins." },
            { "name": "sessions" }, { "name": "users", "description": "For admins." }
        ],
        "security": [{}, { "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": {
                "type": "http", "scheme": "bearer",
                "description": "Needed where the server is configured with tokens. Roles: uploader, viewer, device, admin."
            } },
            "parameters": parameters(),
            "responses": problems(),
            "schemas": schemas
        }
    })
}

/// Pattern of text without control characters.
const PLAIN: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";

pub(super) struct Schemas(SchemaGenerator);

impl Schemas {
    pub(super) fn of<T: JsonSchema>(&mut self) -> Value {
        self.0.subschema_for::<T>().to_value()
    }
}

fn parameter(name: &str) -> Value {
    json!({ "$ref": format!("#/components/parameters/{name}") })
}

pub(super) fn operation(tag: &str, id: &str, summary: &str, names: &[&str], replies: Replies) -> Value {
    let parameters: Vec<Value> = names.iter().map(|name| parameter(name)).collect();
    json!({
        "tags": [tag], "operationId": id, "summary": summary, "parameters": parameters, "responses": replies.done()
    })
}

fn paths(schemas: &mut Schemas) -> Value {
    let page = "A page, and `next` where there is another one.";
    let list = |id: &str, summary: &str, names: &[&str], schema: &Value| {
        operation(
            "patients",
            id,
            summary,
            names,
            Replies::new().json(page, schema).read().problem(400).problem(404),
        )
    };
    let record = |tag: &str, id: &str, summary: &str, name: &str, schema: &Value| {
        let replies = Replies::new().json(summary, schema).read().problem(400).problem(404);
        operation(tag, id, summary, &[name], replies)
    };
    let of_patient = ["Mrn", "AfterRecord", "Limit", "IncludeErrors"];
    let patients = {
        let replies = Replies::new().json(page, &schemas.of::<Page<PatientSummary>>()).read().problem(400);
        operation(
            "patients",
            "listPatients",
            "Patients, ascending by number",
            &["Search", "InWard", "Admitted", "AfterPatient", "Limit"],
            replies,
        )
    };
    let detail = schemas.of::<EcgDetail>();
    json!({
        "/": { "get": without_token(operation("service", "root", "Whether the server is on", &[],
            Replies::new().text(200, "`Server is on`, or the page for browsers: for clients that accept `text/html`"))) },
        "/api/openapi.json": { "get": without_token(operation("service", "openapi", "This document", &[],
            Replies::new().json("The document", &json!({ "type": "object" })))) },
        "/api/asyncapi.json": { "get": without_token(operation("service", "asyncapi",
            "Event streams, WebSockets and subjects of the broker, as an AsyncAPI document", &[],
            Replies::new().json("The document", &json!({ "type": "object" })))) },
        "/api/v1/live": { "get": operation("events", "live",
            "Live waveforms and vitals, as a WebSocket: /api/asyncapi.json describes its messages", &[],
            Replies::new().add(101, json!({ "description": "The WebSocket is open." })).guarded().problem(400).problem(503)) },
        "/api/v1/patients": { "get": patients },
        "/api/v1/patients/{mrn}": { "get": record("patients", "getPatient", "What is known of a patient", "Mrn",
            &schemas.of::<PatientSummary>()) },
        "/api/v1/patients/{mrn}/heart-rates": { "get": list("listHeartRates", "Heart rates, newest first", &of_patient,
            &schemas.of::<Page<HeartRateRecord>>()) },
        "/api/v1/patients/{mrn}/ecgs": { "get": list("listEcgs", "ECGs, newest first", &of_patient,
            &schemas.of::<Page<EcgRecord>>()) },
        "/api/v1/patients/{mrn}/images": { "get": list("listImages", "Medical images, newest first", &of_patient,
            &schemas.of::<Page<ImageRecord>>()) },
        "/api/v1/patients/{mrn}/names": { "get": record("patients", "getFormerNames", "Former names of a patient, newest first",
            "Mrn", &schemas.of::<FormerNames>()) },
        "/api/v1/patients/{mrn}/name-check": { "post": name_check(schemas) },
        "/api/v1/patients/{mrn}/uploads": { "post": upload(schemas) },
        "/api/v1/ecg/preview": { "post": preview(schemas) },
        "/api/v1/patients/{mrn}/events": { "get": events("watchPatient", "Changes of one patient as they happen", &["Mrn"], true) },
        "/api/v1/events": { "get": events("watchPatients", "Changes of all patients as they happen", &[], false) },
        "/api/v1/patients/{mrn}/waveforms": { "get": waveforms::read(schemas) },
        "/api/v1/patients/{mrn}/waveforms/channels": { "get": waveforms::channels(schemas) },
        "/api/v1/patients/{mrn}/waveforms/export": { "get": waveforms::export() },
        "/api/v1/ecgs/{id}": { "get": record("patients", "getEcg", "An ECG and what was found in it", "Id",
            &schemas.of::<EcgRecord>()) },
        "/api/v1/ecgs/{id}/plot": { "get": plot() },
        "/api/v1/ecgs/{id}/page": { "get": page_of_leads() },
        "/api/v1/ecgs/{id}/reanalyse": { "post": operation("patients", "reanalyseEcg",
            "Analyse an ECG again; a result of a later version replaces the stored one", &["Id"],
            Replies::new().add(202, json!({ "description": "The analysis is queued." }))
                .guarded().problem(400).problem(404).problem(409).problem(503)) },
        "/api/v1/ecgs/{id}/samples": { "get": samples(schemas) },
        "/api/v1/ecgs/{id}/signal": { "get": file("getEcgSignal", "The signal of an ECG as it was uploaded",
            &["text/csv", "application/edf"], &binary()) },
        "/api/v1/ecgs/{id}/detail": { "get": file("getEcgDetail", "Every beat of an ECG, and its heart rate over time",
            &["application/json"], &detail) },
        "/api/v1/images/{id}": { "get": file("getImage", "A medical image as it was uploaded",
            &["image/png", "image/jpeg"], &binary()) },
        "/api/v1/uploads/{id}": { "get": record("uploads", "getUpload", "What became of an upload", "Id",
            &schemas.of::<UploadStatus>()) },
        "/api/v1/clock": { "get": operation("service", "getClock", "What the clock of the server shows, and whether it can be trusted",
            &[], Replies::new().json("The clock", &schemas.of::<ServerClock>()).read()) },
        "/api/v1/audit": { "get": operation("audit", "listAudit", "Accesses and changes, newest first",
            &["AuditMrn", "AuditClient", "AuditBefore", "AuditFrom", "AuditTo", "AuditLimit"],
            Replies::new().json("A page of entries", &schemas.of::<AuditPage>()).read().problem(400)) },
        "/api/v1/audit/verification": { "get": operation("audit", "verifyAudit", "Whether the chain of the audit is intact",
            &["AuditAnchor"],
            Replies::new().json("The result", &schemas.of::<AuditVerdict>()).read().problem(400)) },
        "/api/v1/dead-letters": { "get": operation("dead letters", "listDeadLetters", "Messages that were given up, oldest first",
            &["AfterLetter", "Limit"],
            Replies::new().json(page, &schemas.of::<DeadLetterPage>()).guarded().problem(400).problem(503)) },
        "/api/v1/dead-letters/{id}": {
            "get": operation("dead letters", "getDeadLetter", "A message that was given up", &["Letter"],
                letter(Replies::new().json("The dead letter", &schemas.of::<DeadLetter>()))),
            "delete": operation("dead letters", "dropDeadLetter", "Forget a message that was given up", &["Letter"],
                letter(Replies::new().add(204, json!({ "description": "It is gone." })))),
        },
        "/api/v1/dead-letters/{id}/retry": { "post": operation("dead letters", "retryDeadLetter",
            "Put a message that was given up back on its queue", &["Letter"],
            letter(Replies::new().add(204, json!({ "description": "It is on its queue again." })))) },
        "/api/new_patient": { "post": new_patient(schemas) },
        "/api/get_patient": { "get": operation("documented", "legacyPatients", "Every record number, ascending", &[],
            legacy_read().json("The numbers", &schemas.of::<legacy::PatientIds>())) },
        "/api/get_patient/{id}": { "get": {
            "tags": ["documented"], "operationId": "legacyPatient",
            "summary": "Everything of a patient, files as base64",
            "parameters": [{
                "in": "path", "name": "id", "required": true, "description": "Medical record number.",
                "schema": { "$ref": "#/components/schemas/Mrn" }
            }],
            "responses": legacy_read()
                .text(400, "`… cannot be converted into integer`, or `… does not exist in the current database`")
                .json("The patient", &schemas.of::<legacy::PatientData>())
                .done()
        } },
    })
}

/// Adds the responses of a route with one dead letter.
fn letter(replies: Replies) -> Replies {
    replies.guarded().problem(400).problem(404).problem(503)
}

fn without_token(mut operation: Value) -> Value {
    operation["security"] = json!([]);
    operation
}

/// The responses of legacy routes are plain text, including errors.
fn legacy_read() -> Replies {
    legacy_any().text(502, "A sentence")
}

fn legacy_any() -> Replies {
    [401, 403, 429, 503]
        .into_iter()
        .fold(Replies::new(), |replies, status| replies.text(status, "A sentence"))
}

pub(super) fn binary() -> Value {
    json!({ "type": "string", "format": "binary" })
}

fn file(id: &str, summary: &str, media_types: &[&str], schema: &Value) -> Value {
    let content: Value = media_types
        .iter()
        .map(|media_type| ((*media_type).to_owned(), json!({ "schema": schema })))
        .collect();
    let header = |description: &str| json!({ "description": description, "schema": { "type": "string" } });
    let headers = json!({
        "ETag": header("SHA-256 of the bytes, in quotes."),
        "Cache-Control": header("The bytes never change."),
        "Content-Disposition": header("Name of the file."),
        "Accept-Ranges": header("`bytes`"),
    });
    // A part of a JSON document is not valid JSON: it has the media type, but no schema.
    let of_part: Value = media_types.iter().map(|media_type| ((*media_type).to_owned(), json!({}))).collect();
    let mut part =
        json!({ "description": "A part of the file", "content": of_part, "headers": headers.clone() });
    part["headers"]["Content-Range"] = header("Which part.");
    let replies = Replies::new()
        .add(200, json!({ "description": "The file", "content": content, "headers": headers }))
        .add(206, part)
        .add(304, json!({ "description": "The client has it.", "headers": { "ETag": headers["ETag"] } }))
        .read()
        .problem(400)
        .problem(404)
        .problem(416);
    operation("files", id, summary, &["Id", "IfNoneMatch", "Range"], replies)
}

/// The stored plot, or a drawing of a lead.
fn plot() -> Value {
    let media_types = ["image/png", "image/jpeg", "image/svg+xml", "application/pdf"];
    let summary = "The picture of an ECG, uploaded or drawn; with `lead` or `format`, a drawing of a lead";
    let mut operation = file("getEcgPlot", summary, &media_types, &binary());
    if let Some(names) = operation["parameters"].as_array_mut() {
        names.extend([parameter("Lead"), parameter("Format")]);
    }
    operation["responses"] = with_drawing_errors(operation["responses"].take());
    operation
}

fn page_of_leads() -> Value {
    let content: Value = ["image/png", "image/svg+xml", "application/pdf"]
        .iter()
        .map(|media_type| ((*media_type).to_owned(), json!({ "schema": binary() })))
        .collect();
    let replies = Replies::new()
        .add(200, json!({ "description": "The page", "content": content }))
        .add(304, json!({ "description": "The client has it." }))
        .read()
        .problem(400)
        .problem(404);
    let summary = "A page of up to twelve leads with a rhythm strip, ten seconds";
    let names = ["Id", "Format", "FromSeconds", "IfNoneMatch"];
    let mut operation = operation("files", "getEcgPage", summary, &names, replies);
    operation["responses"] = with_drawing_errors(operation["responses"].take());
    operation
}

fn samples(schemas: &mut Schemas) -> Value {
    let replies = Replies::new()
        .json("The samples", &schemas.of::<EcgSamples>())
        .add(304, json!({ "description": "The client has it." }))
        .read()
        .problem(400)
        .problem(404);
    let summary = "The samples of a lead of an ECG, of the one that gives the heart rate without `lead`";
    let mut operation = operation("files", "getEcgSamples", summary, &["Id", "Lead", "IfNoneMatch"], replies);
    operation["responses"] = with_drawing_errors(operation["responses"].take());
    operation
}

fn with_drawing_errors(mut replies: Value) -> Value {
    replies["413"] = json!({ "$ref": "#/components/responses/Problem413" });
    replies
}

fn events(id: &str, summary: &str, names: &[&str], of_patient: bool) -> Value {
    let stream = json!({
        "description": "Server-sent events. `ready`: from now on everything is told; silence lasts no longer than the \
                        `keep_alive_ms` of its data. `updated`: data is a PatientUpdated as JSON, id its version. \
                        `alarm`: data is an AlarmUpdated as JSON, id the id and the version of the alarm. `limits`, `wards`, \
                        `patient`: data is a SystemEvent as JSON that states what to load again. \
                        `cut-off`: the server hears nothing itself until it says `missed`; ask from time to time. \
                        `missed`: something may have been lost, load anew. `keep-alive` breaks every silence. The data of \
                        `ready` and `keep-alive` say what the clock of the server shows.",
        "content": { "text/event-stream": { "schema": {
            "description": "One event.",
            "type": "object",
            "required": ["event", "data"],
            "properties": {
                "event": { "enum": ["ready", "keep-alive", "updated", "alarm", "limits", "wards", "patient", "cut-off", "missed"] },
                "data": { "type": "string", "contentMediaType": "application/json",
                    "description": "Of `updated`: #/components/schemas/PatientUpdated; of `alarm`: \
                                    #/components/schemas/AlarmUpdated; of `limits`, `wards` and `patient`: \
                                    #/components/schemas/SystemEvent; of `ready` and `keep-alive`: \
                                    #/components/schemas/StreamState" },
                "id": { "type": "string" }
            }
        } } }
    });
    let replies = Replies::new().add(200, stream).guarded().problem(503);
    let replies = if of_patient { replies.problem(400) } else { replies };
    operation("events", id, summary, names, replies)
}

fn name_check(schemas: &mut Schemas) -> Value {
    let replies = [400, 413, 502, 503]
        .into_iter()
        .fold(Replies::new().guarded(), Replies::problem)
        .json("The result; it does not contain the stored name.", &schemas.of::<NameCheck>());
    let summary = "Whether a patient has this name";
    let mut operation = operation("uploads", "checkName", summary, &["Mrn"], replies);
    let schema = schemas.of::<NameQuery>();
    operation["requestBody"] =
        json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    operation
}

fn upload(schemas: &mut Schemas) -> Value {
    let file = json!({ "type": "string", "format": "binary", "minLength": 1 });
    let files = |description: &str| json!({ "type": "array", "items": file, "description": description });
    let form = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "name": { "type": "string", "maxLength": 500, "pattern": PLAIN, "description": "Empty: not given." },
            "rename": { "type": "string", "enum": ["true", "false", ""],
                "description": "`true`: the name may replace another name of the patient. Otherwise an upload that names a known \
                                patient differently is rejected with 409." },
            "heart_rate": { "type": "integer", "minimum": 1, "maximum": 400, "description": "Beats per minute." },
            "recorded_at": {
                "description": "When ECGs and heart rate were recorded. A time that is more than 5 s in the future of the server is \
                                rejected with 409. Digits after the milliseconds are ignored. Empty or not given: not known.",
                "anyOf": [{ "type": "string", "format": "date-time", "maxLength": 64 }, { "const": "" }]
            },
            "ecg_sample_rate": { "type": "number", "minimum": 1, "maximum": 100_000,
                "description": "Samples per second of ECG files that hold no times." },
            "ecg_lead": { "type": "string", "maxLength": 100, "pattern": PLAIN,
                "description": "Name or 1-based number of the lead to analyse." },
            "medical_image": files("PNG or JPEG; any number of them. Other content is rejected with 415."),
            "ecg_image": files("PNG or JPEG of an ECG trace; any number of them."),
            "ecg": files("Raw ECG as CSV or EDF; any number of them."),
        }
    });
    let picture = json!({ "contentType": "image/png, image/jpeg" });
    let encoding = json!({
        "medical_image": picture, "ecg_image": picture, "ecg": { "contentType": "text/csv, application/edf" }
    });
    let location = json!({ "description": "The upload.", "required": true, "schema": { "type": "string" } });
    let stored = json!({
        "description": "Everything is stored.",
        "headers": {
            "Location": location,
            "Idempotency-Replayed": { "description": "`true`: an earlier request with the same key had stored it.",
                "schema": { "type": "string", "const": "true" } }
        },
        "content": { "application/json": { "schema": schemas.of::<UploadReceipt>() } }
    });
    let received = json!({
        "description": "Queued durably; it will be stored.",
        "headers": {
            "Location": location,
            "Preference-Applied": { "description": "`respond-async`, where the client asked for it.",
                "schema": { "type": "string" } }
        },
        "content": { "application/json": { "schema": schemas.of::<ReceivedUpload>() } }
    });
    let replies = [400, 408, 409, 410, 413, 415, 422, 503]
        .into_iter()
        .fold(Replies::new().guarded(), Replies::problem)
        .add(201, stored)
        .add(202, received);
    let mut operation = operation(
        "uploads",
        "upload",
        "Everything new of a patient: stored together, or not at all",
        &["Mrn", "IdempotencyKey", "Prefer"],
        replies,
    );
    operation["requestBody"] = json!({ "required": true, "content": { "multipart/form-data": { "schema": form, "encoding": encoding } } });
    operation
}

fn preview(schemas: &mut Schemas) -> Value {
    let form = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["ecg"],
        "properties": {
            "ecg": { "type": "string", "format": "binary", "minLength": 1, "description": "Raw ECG as CSV or EDF." },
            "ecg_sample_rate": { "type": "number", "minimum": 1, "maximum": 100_000,
                "description": "Samples per second of a file that holds no times." },
            "ecg_lead": { "type": "string", "maxLength": 100, "pattern": PLAIN,
                "description": "Name or 1-based number of the lead to analyse." },
        }
    });
    let encoding = json!({ "ecg": { "contentType": "text/csv, application/edf" } });
    let replies = [400, 408, 413, 415, 422, 503]
        .into_iter()
        .fold(Replies::new().guarded(), Replies::problem)
        .json("What was found, and the picture.", &schemas.of::<EcgPreview>());
    let summary = "Analyse and draw an ECG file that is not stored";
    let mut operation = operation("uploads", "previewEcg", summary, &[], replies);
    operation["requestBody"] = json!({ "required": true, "content": { "multipart/form-data": { "schema": form, "encoding": encoding } } });
    operation
}

/// The schema of the legacy body. Its type alone does not express which values count as absent.
fn new_patient_schema() -> Value {
    let base64 = |description: &str| json!({ "type": "string", "contentEncoding": "base64", "description": format!("{description}; empty: not given.") });
    json!({
        "type": "object",
        "required": ["medical_record_number"],
        "properties": {
            "medical_record_number": {
                "description": "An integer, or a string holding one.",
                "oneOf": [
                    { "type": "integer", "minimum": 0, "maximum": Mrn::MAX },
                    { "type": "string", "pattern": "^ *[0-9]{1,15} *$" }
                ]
            },
            "name": { "type": "string", "maxLength": 500, "pattern": PLAIN, "description": "Empty: not given." },
            "hr": {
                "description": "Beats per minute; 0 or empty: not given.",
                "oneOf": [{ "type": "integer", "minimum": 0, "maximum": 400 }, { "const": "" }]
            },
            "medical_image": base64("PNG or JPEG"),
            "ecg_image": base64("PNG or JPEG of an ECG trace"),
            "ecg_csv": base64("Raw ECG as CSV or EDF")
        }
    })
}

fn new_patient(schemas: &mut Schemas) -> Value {
    let replies = legacy_any()
        .text(200, "`New patient ID … is registered`, `No further updates for Patient ID …` or `Patient ID …'s data has been updated`")
        .text(202, "`Patient ID …'s data has been accepted and will be stored shortly`")
        .text(400, "A sentence that names what is wrong")
        .text(408, "The body did not arrive in time")
        .text(410, "The patient with this number was erased")
        .text(413, "The body is over the limit, which the sentence names")
        .text(422, "The Idempotency-Key was used for an upload with other content");
    let mut operation = operation(
        "documented",
        "legacyUpload",
        "Everything new of a patient, files as base64",
        &["IdempotencyKey", "Prefer"],
        replies,
    );
    operation["requestBody"] = json!({
        "required": true,
        "content": { "application/json": { "schema": schemas.of::<legacy::NewPatient>() } }
    });
    operation
}

//! Corrections, erasure and retention.

use proto_json::{
    Correction, EraseBody, MergeBody, MoveBody, NameBody, ReasonBody, RetentionBody, RetentionReport,
};
use serde_json::{Value, json};

use super::document::{Schemas, operation};
use super::replies::Replies;

/// A correction with this body.
fn correction(
    schemas: &mut Schemas,
    (id, summary): (&str, &str),
    parameter: &str,
    body: &Value,
    is_required: bool,
) -> Value {
    let correction = schemas.of::<Correction>();
    let accepted = json!({
        "description": "It is accepted and running: the server completes it.",
        "content": { "application/json": { "schema": correction } }
    });
    let replies = [400, 404, 409, 413, 422, 502, 503]
        .into_iter()
        .fold(Replies::new().guarded(), Replies::problem)
        .json("The correction, complete", &correction)
        .add(202, accepted);
    let mut operation = operation("corrections", id, summary, &[parameter, "IdempotencyKey"], replies);
    operation["requestBody"] =
        json!({ "required": is_required, "content": { "application/json": { "schema": body } } });
    operation
}

/// Paths and operations.
pub(super) fn paths(schemas: &mut Schemas) -> Value {
    let reason = schemas.of::<ReasonBody>();
    let (moved, name) = (schemas.of::<MoveBody>(), schemas.of::<NameBody>());
    let (merge, erase) = (schemas.of::<MergeBody>(), schemas.of::<EraseBody>());
    let list = schemas.of::<Vec<Correction>>();
    let listed = Replies::new().json("The corrections", &list).read().problem(400).problem(404);
    let rule = schemas.of::<RetentionBody>();
    let applied = [400, 409, 413, 502, 503]
        .into_iter()
        .fold(Replies::new().guarded(), Replies::problem)
        .json("What was removed", &schemas.of::<RetentionReport>());
    let mut retention = operation(
        "corrections",
        "applyRetention",
        "Remove or count old data of some patients; continue with `next` of the answer",
        &[],
        applied,
    );
    retention["requestBody"] =
        json!({ "required": true, "content": { "application/json": { "schema": rule } } });
    json!({
        "/api/v1/records/{id}/entered-in-error": {
            "post": correction(schemas, ("markError", "Mark a heart rate, an ECG or an image as entered in error"), "Id",
                &reason, true),
            "delete": correction(schemas, ("unmarkError", "Undo the mark"), "Id", &reason, false),
        },
        "/api/v1/uploads/{id}/move": { "post": correction(schemas,
            ("moveUpload", "Move an upload with its records to the correct patient"), "Id", &moved, true) },
        "/api/v1/patients/{mrn}/name": { "post": correction(schemas,
            ("correctName", "Correct the name of a patient"), "Mrn", &name, true) },
        "/api/v1/patients/{mrn}/merge": { "post": correction(schemas,
            ("mergePatient", "Move all records of a patient to another one; the number is no longer used"), "Mrn", &merge, true) },
        "/api/v1/merges/{id}/undo": { "post": correction(schemas,
            ("undoMerge", "Undo a merge; later uploads stay with the surviving patient"), "Id", &reason, true) },
        "/api/v1/patients/{mrn}/erase": { "post": correction(schemas,
            ("erasePatient", "Delete everything about a patient"), "Mrn", &erase, true) },
        "/api/v1/patients/{mrn}/hold": {
            "put": correction(schemas, ("placeHold", "Protect a patient from erasure and retention"), "Mrn", &reason, true),
            "delete": correction(schemas, ("releaseHold", "End the protection"), "Mrn", &reason, false),
        },
        "/api/v1/patients/{mrn}/corrections": { "get": operation("corrections", "listCorrections",
            "The newest 200 corrections of a patient; also of a number that was merged or erased", &["Mrn"], listed) },
        "/api/v1/retention": { "post": retention },
    })
}

//! The routes of wards, beds, admissions and details.

use proto_json::wards::{
    AdmissionRecord, AdmitRequest, DetailsUpdate, DischargeRequest, NewBed, NewWard, RenamePlace,
    TransferRequest, Ward,
};
use proto_json::{Page, PatientSummary};
use serde_json::{Value, json};

use super::document::{Schemas, operation};
use super::replies::Replies;

/// Adds the routes to `paths`.
pub(super) fn add(paths: &mut Value, schemas: &mut Schemas) {
    let ward = schemas.of::<Ward>();
    let patient = schemas.of::<PatientSummary>();
    let all = Replies::new().json("All wards, by name", &schemas.of::<Page<Ward>>()).read();
    paths["/api/v1/wards"]["get"] =
        operation("wards", "listWards", "Wards with their beds and patients", &[], all);
    let added = json!({
        "description": "The ward",
        "content": { "application/json": { "schema": ward } }
    });
    let new = schemas.of::<NewWard>();
    let replies = changed(Replies::new().add(201, added.clone())).problem(409);
    paths["/api/v1/wards"]["post"] = with_body("addWard", "Add a ward", &[], replies, &new, true);
    let rename = schemas.of::<RenamePlace>();
    let renamed = || changed(Replies::new().json("The ward", &ward)).problem(404).problem(409);
    let removed = || {
        let gone = json!({ "description": "It is removed." });
        changed(Replies::new().add(204, gone)).problem(404).problem(409)
    };
    let path = "/api/v1/wards/{ward}";
    paths[path]["patch"] = with_body("renameWard", "Rename a ward", &["Ward"], renamed(), &rename, true);
    paths[path]["delete"] =
        operation("wards", "removeWard", "Remove a ward whose beds are empty", &["Ward"], removed());
    let new = schemas.of::<NewBed>();
    let replies = changed(Replies::new().add(201, added)).problem(404).problem(409);
    paths["/api/v1/wards/{ward}/beds"]["post"] =
        with_body("addBed", "Add a bed", &["Ward"], replies, &new, true);
    let path = "/api/v1/wards/{ward}/beds/{bed}";
    let bed = ["Ward", "Bed"];
    paths[path]["patch"] = with_body("renameBed", "Rename a bed", &bed, renamed(), &rename, true);
    paths[path]["delete"] = operation("wards", "removeBed", "Remove an empty bed", &bed, removed());

    let care = |id: &str, summary: &str, body: &Value, is_required: bool| {
        let replies = changed(Replies::new().json("The patient", &patient)).problem(404).problem(409);
        with_body(id, summary, &["Mrn"], replies, body, is_required)
    };
    let body = schemas.of::<AdmitRequest>();
    paths["/api/v1/patients/{mrn}/admit"]["post"] =
        care("admitPatient", "Admit a patient to an empty bed", &body, true);
    let body = schemas.of::<TransferRequest>();
    paths["/api/v1/patients/{mrn}/transfer"]["post"] =
        care("transferPatient", "Move a patient to an empty bed", &body, true);
    let body = schemas.of::<DischargeRequest>();
    paths["/api/v1/patients/{mrn}/discharge"]["post"] =
        care("dischargePatient", "Discharge a patient; the history stays", &body, false);
    let body = schemas.of::<DetailsUpdate>();
    paths["/api/v1/patients/{mrn}"]["patch"] =
        care("changeDetails", "Change the details of a patient", &body, true);
    let page = "A page, and `next` where there is another one.";
    let replies = Replies::new().json(page, &schemas.of::<Page<AdmissionRecord>>()).read();
    paths["/api/v1/patients/{mrn}/admissions"]["get"] = operation(
        "wards",
        "listAdmissions",
        "Stays of a patient in beds, newest first",
        &["Mrn", "AfterRecord", "Limit"],
        replies.problem(400).problem(404),
    );
}

/// The responses of every route that changes something.
fn changed(replies: Replies) -> Replies {
    replies.read().problem(400).problem(413)
}

fn with_body(
    id: &str,
    summary: &str,
    names: &[&str],
    replies: Replies,
    schema: &Value,
    is_required: bool,
) -> Value {
    let mut operation = operation("wards", id, summary, names, replies);
    operation["requestBody"] =
        json!({ "required": is_required, "content": { "application/json": { "schema": schema } } });
    operation
}

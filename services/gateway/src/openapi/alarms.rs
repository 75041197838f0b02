//! Alarms, actions on them, and limits.

use proto_json::alarms::{
    Alarm, AlarmActionRequest, AlarmPage, AlarmPriority, AudioPauseRequest, LimitsRequest, StoredLimits,
    UndeliveredAlarms,
};
use serde_json::{Value, json};

use super::document::{Schemas, operation};
use super::replies::Replies;

fn parameter(place: &str, name: &str, description: &str, schema: Value) -> Value {
    json!({
        "in": place, "name": name, "required": place == "path", "description": description, "schema": schema
    })
}

fn with_parameters(mut operation: Value, parameters: Vec<Value>) -> Value {
    if let Some(all) = operation["parameters"].as_array_mut() {
        all.extend(parameters);
    }
    operation
}

fn with_body(mut operation: Value, schema: &Value, is_required: bool) -> Value {
    operation["requestBody"] =
        json!({ "required": is_required, "content": { "application/json": { "schema": schema } } });
    operation
}

/// The paths of alarms and limits.
pub(super) fn paths(schemas: &mut Schemas) -> Vec<(&'static str, Value)> {
    let page = schemas.of::<AlarmPage>();
    let list =
        Replies::new().json("The alarms, and `next` where there is another page.", &page).read().problem(400);
    let list = with_parameters(
        operation("alarms", "listAlarms", "Alarms, newest first", &["Limit"], list.problem(404)),
        vec![
            parameter(
                "query",
                "state",
                "Which alarms; open ones by default.",
                json!({ "enum": ["open", "ended", "all"], "default": "open" }),
            ),
            parameter(
                "query",
                "mrn",
                "Only alarms of this patient.",
                json!({ "$ref": "#/components/schemas/Mrn" }),
            ),
            parameter("query", "priority", "Only alarms with this priority.", schemas.of::<AlarmPriority>()),
            parameter(
                "query",
                "cursor",
                "`next` of the page before.",
                json!({ "type": "string", "pattern": "^r(0|-?[1-9][0-9]{0,13})\\.[0-9a-f]{32}$" }),
            ),
        ],
    );
    let undelivered = Replies::new()
        .json("Notifications that receivers did not take", &schemas.of::<UndeliveredAlarms>())
        .read();
    let undelivered = operation(
        "alarms",
        "listUndelivered",
        "Notifications that were given up, newest first",
        &[],
        undelivered,
    );
    let alarm = schemas.of::<Alarm>();
    let request = schemas.of::<AlarmActionRequest>();
    let pause = schemas.of::<AudioPauseRequest>();
    let action = |id: &str, summary: &str, request: &Value| {
        let replies = [400, 404, 409, 413]
            .into_iter()
            .fold(Replies::new().json("The alarm after the action", &alarm).read(), Replies::problem);
        with_body(operation("alarms", id, summary, &["Id"], replies), request, false)
    };
    let all = [400, 404, 413]
        .into_iter()
        .fold(Replies::new().json("The alarms that have changed", &page).read(), Replies::problem);
    let limits = schemas.of::<StoredLimits>();
    let change = schemas.of::<LimitsRequest>();
    let ward =
        || vec![parameter("path", "ward", "Id of a ward.", json!({ "type": "string", "format": "uuid" }))];
    let limits = |name: &str, of: &str, names: &[&str], parameters: Vec<Value>| {
        let read = Replies::new().json("The limits", &limits).read().problem(400).problem(404);
        let written = [400, 404, 409, 413, 422]
            .into_iter()
            .fold(Replies::new().json("The limits after the change", &limits).read(), Replies::problem);
        let get = operation("alarms", &format!("get{name}Limits"), &format!("Limits of {of}"), names, read);
        let put = operation(
            "alarms",
            &format!("put{name}Limits"),
            &format!("Changes the limits of {of}"),
            names,
            written,
        );
        json!({
            "get": with_parameters(get, parameters.clone()),
            "put": with_body(with_parameters(put, parameters), &change, true)
        })
    };
    vec![
        ("/api/v1/alarms", json!({ "get": list })),
        ("/api/v1/alarms/undelivered", json!({ "get": undelivered })),
        (
            "/api/v1/alarms/{id}/acknowledge",
            json!({ "post": action("acknowledgeAlarm", "A user has seen an alarm", &request) }),
        ),
        (
            "/api/v1/alarms/{id}/audio-pause",
            json!({ "post": action("pauseAlarmAudio", "Silences an alarm for some time", &pause) }),
        ),
        (
            "/api/v1/alarms/{id}/reset",
            json!({ "post": action("resetAlarm", "Ends a latched or technical alarm", &request) }),
        ),
        (
            "/api/v1/patients/{mrn}/alarms/acknowledge",
            json!({ "post": operation("alarms", "acknowledgeAlarms",
            "A user has seen all alarms of a patient", &["Mrn"], all) }),
        ),
        ("/api/v1/limits", limits("Site", "the site", &[], Vec::new())),
        ("/api/v1/wards/{ward}/limits", limits("Ward", "a ward", &[], ward())),
        ("/api/v1/patients/{mrn}/limits", limits("Patient", "a patient", &["Mrn"], Vec::new())),
    ]
}

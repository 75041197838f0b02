//! Generates the document: channels are written by hand, schemas are derived from the types of proto-json.

use proto_json::alarms::AlarmUpdated;
use proto_json::waveform::{
    DeviceMessage, DeviceReply, LiveMessage, LiveRequest, Numerics, PARTITIONS, StreamDescription, Vitals,
    close,
};
use proto_json::{Mrn, PatientUpdated, StreamState, SystemEvent};
use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::layout;

/// Returns the whole document.
pub(super) fn make() -> Value {
    let mut settings = SchemaSettings::draft07();
    settings.definitions_path = "/components/schemas".into();
    let mut generator = settings.into_generator();
    let messages = messages(&mut generator);
    generator.subschema_for::<Mrn>();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Bedside",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Event streams, WebSockets and subjects of the broker. The HTTP routes are in the OpenAPI document at \
                            /api/openapi.json. `x-layout` describes binary messages: fields in the order of the bytes; `repeat` \
                            names the field that contains the number of repetitions; with `align`, zeros follow each repetition \
                            up to a multiple of this number of bytes. Not a certified medical device.",
            "license": { "name": "MIT OR Apache-2.0" }
        },
        "defaultContentType": "application/json",
        "servers": {
            "gateway": {
                "host": "127.0.0.1:5011", "protocol": "ws",
                "description": "The gateway; `wss` with a certificate.",
                "security": [{ "$ref": "#/components/securitySchemes/token" }]
            },
            "events": {
                "host": "127.0.0.1:5011", "protocol": "http",
                "description": "The gateway; `https` with a certificate.",
                "security": [{ "$ref": "#/components/securitySchemes/token" }]
            },
            "broker": {
                "host": "127.0.0.1:4222", "protocol": "nats",
                "description": "The broker of the full stack.",
                "security": [{ "$ref": "#/components/securitySchemes/user" }]
            }
        },
        "channels": channels(),
        "operations": operations(),
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http", "scheme": "bearer",
                    "description": "Needed where the server is configured with tokens: role `device` to stream waveforms, \
                                    `viewer` to read, `admin` for both."
                },
                "user": { "type": "userPassword", "description": "A user of the broker." }
            },
            "messages": messages,
            "schemas": generator.take_definitions(true)
        }
    })
}

fn messages(generator: &mut SchemaGenerator) -> Value {
    fn payload<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
        generator.subschema_for::<T>().to_value()
    }
    let text = |summary: &str, payload: Value| json!({ "summary": summary, "contentType": "application/json", "payload": payload });
    let binary = |summary: &str, layout: Value| {
        json!({
            "summary": summary, "contentType": "application/octet-stream",
            "payload": { "type": "string", "format": "binary" }, "x-layout": layout
        })
    };
    let event = |name: &str, summary: &str, payload: Value| json!({ "name": name, "summary": summary, "contentType": "application/json", "payload": payload });
    let of_log = |kind: &str, mut message: Value| {
        let number = |description: &str| json!({ "type": "string", "pattern": "^-?[0-9]+$", "description": description });
        message["headers"] = json!({
            "type": "object",
            "required": ["Bedside-Kind", "Bedside-Sequence", "Bedside-Time"],
            "properties": {
                "Bedside-Kind": { "const": kind },
                "Bedside-Sequence": number("Sequence number in the stream; of `open` and `end`: the next one."),
                "Bedside-Time": number(
                    "Server time in microseconds since 1970: of the first sample of a frame, otherwise of the event."
                )
            }
        });
        message
    };
    let nothing = || json!({ "type": "object", "maxProperties": 0 });
    let state = payload::<StreamState>(generator);
    let updated = payload::<PatientUpdated>(generator);
    let (alarm, system) = (payload::<AlarmUpdated>(generator), payload::<SystemEvent>(generator));
    let description = payload::<StreamDescription>(generator);
    let frame = || binary("Samples of 100 to 500 ms", layout::frame());
    json!({
        "deviceMessage": text("A stream is opened or ends, or numerics", payload::<DeviceMessage>(generator)),
        "deviceReply": text("The stream is open, an acknowledgement or a notice", payload::<DeviceReply>(generator)),
        "frame": frame(),
        "liveRequest": text("A patient is subscribed or unsubscribed", payload::<LiveRequest>(generator)),
        "liveMessage": text("Streams, vitals and losses", payload::<LiveMessage>(generator)),
        "liveFrame": binary("A frame at full rate", layout::live_frame()),
        "liveColumns": binary("Overview columns of a frame, 60 per second", layout::live_columns()),
        "waveOpen": of_log("open", text("The description of the stream; repeated every 10 s", description)),
        "waveFrame": of_log("frame", frame()),
        "waveNumerics": of_log("numerics", text("Measured values", payload::<Numerics>(generator))),
        "waveEnd": of_log("end", json!({ "summary": "The stream has ended", "payload": { "type": "string", "maxLength": 0 } })),
        "vitals": text("State of a patient, once per second", payload::<Vitals>(generator)),
        "patientUpdated": text("A patient has changed", updated.clone()),
        "eventReady": event("ready", "The stream is open", state.clone()),
        "eventKeepAlive": event("keep-alive", "The stream is idle", state),
        "eventUpdated": event("updated", "A patient has changed", updated),
        "eventCutOff": event("cut-off", "The server is cut off from the broker until `missed`", nothing()),
        "eventAlarm": event("alarm", "An alarm has changed; the id is its id and version", alarm.clone()),
        "eventLimits": event("limits", "Limits have changed: load them again", system.clone()),
        "eventWards": event("wards", "Wards or beds have changed: load them again", system.clone()),
        "eventPatient": event("patient", "A patient was merged, erased or corrected: load it again", system.clone()),
        "alarmEvent": text("An alarm has changed", system.clone()),
        "systemEvent": text("Limits, wards or a patient have changed", system),
        "eventMissed": event("missed", "Events may be lost; load the patients again", nothing()),
    })
}

/// Name, address, server, description and messages of each channel.
const CHANNELS: [(&str, &str, &str, &str, &[&str]); 9] = [
    (
        "device",
        "/api/v1/patients/{mrn}/waveforms",
        "gateway",
        "WebSocket of a device that streams waveforms. docs/DEVICES.md explains the protocol.",
        &["deviceMessage", "frame", "deviceReply"],
    ),
    (
        "live",
        "/api/v1/live",
        "gateway",
        "WebSocket of a screen that displays waveforms. A screen that reads slowly loses waveforms and is notified.",
        &["liveRequest", "liveMessage", "liveFrame", "liveColumns"],
    ),
    ("events", "/api/v1/events", "events", "Server-sent events: changes of all patients.", &EVENTS),
    (
        "patientEvents",
        "/api/v1/patients/{mrn}/events",
        "events",
        "Server-sent events: changes of one patient.",
        &EVENTS,
    ),
    (
        "waves",
        "wave.{partition}.{mrn}.{stream}",
        "broker",
        "All messages of a waveform stream. The JetStream stream WAVES keeps them for 15 minutes.",
        &["waveOpen", "waveFrame", "waveNumerics", "waveEnd"],
    ),
    ("vitals", "vitals.{mrn}", "broker", "State of a patient, at most once.", &["vitals"]),
    (
        "updates",
        "patient.{mrn}.updated",
        "broker",
        "Changes of a patient, at most once.",
        &["patientUpdated"],
    ),
    ("alarms", "alarm.{mrn}", "broker", "Changes of alarms, at most once.", &["alarmEvent"]),
    (
        "system",
        "system.{what}",
        "broker",
        "Changes of limits, wards and patients, at most once.",
        &["systemEvent"],
    ),
];

const EVENTS: [&str; 9] = [
    "eventReady",
    "eventKeepAlive",
    "eventUpdated",
    "eventAlarm",
    "eventLimits",
    "eventWards",
    "eventPatient",
    "eventCutOff",
    "eventMissed",
];

fn channels() -> Value {
    let partition = format!(
        "32-bit FNV-1a hash of the decimal text of the record number, modulo {PARTITIONS}: hash = 2166136261; for each \
         byte: hash = (hash xor byte) * 16777619 modulo 2^32."
    );
    let parameters = [
        ("mrn", "Medical record number."),
        ("stream", "Id of the waveform stream."),
        ("partition", partition.as_str()),
        ("what", "`limits`, `wards` or `patient`."),
    ];
    let mut channels = Map::new();
    for (name, address, server, description, messages) in CHANNELS {
        let used = parameters.iter().filter(|(name, _)| address.contains(&format!("{{{name}}}")));
        let used: Map<String, Value> = used
            .map(|(name, description)| ((*name).to_owned(), json!({ "description": description })))
            .collect();
        let messages: Map<String, Value> = messages
            .iter()
            .map(|name| ((*name).to_owned(), json!({ "$ref": format!("#/components/messages/{name}") })))
            .collect();
        let mut channel = json!({
            "address": address, "description": description,
            "servers": [{ "$ref": format!("#/servers/{server}") }],
            "messages": messages
        });
        if !used.is_empty() {
            channel["parameters"] = used.into();
        }
        if server == "gateway" {
            channel["bindings"] = json!({ "ws": { "method": "GET" } });
            channel["x-close-codes"] = close_codes();
        }
        channels.insert(name.to_owned(), channel);
    }
    channels.into()
}

fn close_codes() -> Value {
    let code = |code: &proto_json::waveform::CloseCode| json!({ "code": code.code, "name": code.name, "description": code.reason, "retry": code.retry });
    close::ALL.iter().map(code).collect()
}

fn operations() -> Value {
    let operation = |channel: &str, action: &str, summary: &str, messages: &[&str]| {
        let messages: Vec<Value> = messages
            .iter()
            .map(|name| json!({ "$ref": format!("#/channels/{channel}/messages/{name}") }))
            .collect();
        json!({
            "action": action, "summary": summary,
            "channel": { "$ref": format!("#/channels/{channel}") }, "messages": messages
        })
    };
    json!({
        "receiveFromDevice": operation("device", "receive", "What a device sends", &["deviceMessage", "frame"]),
        "sendToDevice": operation("device", "send", "What a device receives", &["deviceReply"]),
        "receiveFromScreen": operation("live", "receive", "What a screen sends", &["liveRequest"]),
        "sendToScreen": operation("live", "send", "What a screen receives", &["liveMessage", "liveFrame", "liveColumns"]),
        "sendEvents": operation("events", "send", "Changes of all patients", &EVENTS),
        "sendPatientEvents": operation("patientEvents", "send", "Changes of one patient", &EVENTS),
        "publishWaves": operation("waves", "send", "Messages of waveform streams",
            &["waveOpen", "waveFrame", "waveNumerics", "waveEnd"]),
        "publishVitals": operation("vitals", "send", "Vitals", &["vitals"]),
        "publishAlarms": operation("alarms", "send", "Changes of alarms", &["alarmEvent"]),
        "publishSystemEvents": operation("system", "send", "Changes of limits, wards and patients", &["systemEvent"]),
        "publishUpdates": operation("updates", "send", "Changes of patients", &["patientUpdated"]),
    })
}

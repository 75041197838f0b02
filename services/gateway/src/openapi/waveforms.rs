//! The reads of stored waveforms.

use proto_json::waveform_reads::{MAX_POINTS, StoredWaveform, StoredWaveforms, WaveformFormat};
use serde_json::{Value, json};

use super::document::{Schemas, binary, operation};
use super::replies::Replies;

fn parameter(name: &str, is_required: bool, description: &str, schema: Value) -> Value {
    json!({ "in": "query", "name": name, "required": is_required, "description": description, "schema": schema })
}

fn time(name: &str, is_required: bool, description: &str) -> Value {
    parameter(
        name,
        is_required,
        description,
        json!({ "type": "string", "format": "date-time", "maxLength": 64 }),
    )
}

fn range() -> Vec<Value> {
    vec![
        time("from", true, "Start of the range."),
        time("to", true, "End of the range, at most 31 days later."),
    ]
}

fn with_parameters(mut operation: Value, parameters: Vec<Value>) -> Value {
    if let Some(all) = operation["parameters"].as_array_mut() {
        all.extend(parameters);
    }
    operation
}

pub(super) fn channels(schemas: &mut Schemas) -> Value {
    let channels = Replies::new().json("The channels", &schemas.of::<StoredWaveforms>()).read().problem(400);
    let summary = "Stored channels with their intervals and gaps";
    let parameters = vec![
        time("from", false, "Start of the range; by default a day before its end."),
        time("to", false, "End of the range, at most 31 days later; by default now."),
    ];
    with_parameters(operation("patients", "listWaveforms", summary, &["Mrn"], channels), parameters)
}

pub(super) fn read(schemas: &mut Schemas) -> Value {
    let replies = Replies::new()
        .json("Samples, or an overview if `points` is given", &schemas.of::<StoredWaveform>())
        .read()
        .problem(400)
        .problem(404);
    let summary = "Stored samples of a channel, or their smallest and largest values in columns";
    let mut parameters = vec![parameter(
        "channel",
        true,
        "Label of the channel, such as `II`.",
        json!({ "type": "string", "minLength": 1, "maxLength": 32 }),
    )];
    parameters.extend(range());
    parameters.push(parameter(
        "points",
        false,
        "Number of columns of an overview. Without it, at most 500,000 samples are returned.",
        json!({ "type": "integer", "minimum": 1, "maximum": MAX_POINTS }),
    ));
    with_parameters(operation("patients", "getWaveform", summary, &["Mrn"], replies), parameters)
}

pub(super) fn export() -> Value {
    let names: Vec<&str> = WaveformFormat::ALL.iter().map(|format| format.name()).collect();
    let content: serde_json::Map<String, Value> = WaveformFormat::ALL
        .iter()
        .map(|format| (format.media_type().to_owned(), json!({ "schema": binary() })))
        .collect();
    let file = json!({
        "description": "The file. Its samples are the stored ones.",
        "content": content,
        "headers": { "Content-Disposition": { "description": "Name of the file.", "schema": { "type": "string" } } }
    });
    let replies = Replies::new().add(200, file).read().problem(400).problem(404);
    let summary = "Stored waveforms of one stream and sample rate as a file";
    let mut parameters = range();
    parameters.push(parameter(
        "format",
        true,
        "Format of the file. A WFDB record has two files.",
        json!({ "enum": names }),
    ));
    parameters.push(parameter(
        "stream",
        false,
        "The stream; required if the range has several.",
        json!({ "type": "string", "format": "uuid" }),
    ));
    parameters.push(parameter(
        "rate",
        false,
        "Sample rate of the channels in Hz, a whole number or a fraction; required if the stream has several.",
        json!({ "type": "string", "pattern": "^[1-9][0-9]{0,9}(/[1-9][0-9]{0,9})?$" }),
    ));
    with_parameters(operation("files", "exportWaveforms", summary, &["Mrn"], replies), parameters)
}

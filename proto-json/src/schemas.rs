//! Generates the JSON Schemas in `schemas/` from the types.

use schemars::{JsonSchema, schema_for};

use crate::waveform::{
    DeviceMessage, DeviceReply, LiveMessage, LiveRequest, Numerics, StreamDescription, Vitals,
};
use crate::{
    AnalyzeEcg, DeadLetter, DeadLetterPage, EcgAnalyzed, EcgDetail, EcgRecord, HeartRateRecord, ImageRecord,
    Page, PatientSummary, PatientUpdated, Problem, Receipt, ReceivedUpload, ServerClock, StreamState,
    UploadReceipt, UploadReceived, UploadStatus, legacy,
};

/// Pattern of a text with a visible character and without control characters.
pub(crate) const TEXT: &str =
    r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$";
/// Pattern of such a text that may have tabs and several lines.
pub(crate) const LINES: &str = r"^(?:[^\u0000-\u0008\u000b-\u001f\u007f-\u009f]|\r\n)*[^\s\u0000-\u001f\u007f-\u009f](?:[^\u0000-\u0008\u000b-\u001f\u007f-\u009f]|\r\n)*$";

/// Returns file name and formatted JSON Schema of each message and HTTP body.
#[must_use]
pub fn all() -> Vec<(&'static str, String)> {
    fn one<T: JsonSchema>(name: &'static str) -> (&'static str, String) {
        (name, format!("{:#}\n", schema_for!(T).as_value()))
    }
    vec![
        one::<UploadReceived>("upload_received.json"),
        one::<Receipt>("receipt.json"),
        one::<AnalyzeEcg>("analyze_ecg.json"),
        one::<EcgAnalyzed>("ecg_analyzed.json"),
        one::<PatientUpdated>("patient_updated.json"),
        one::<PatientSummary>("patient_summary.json"),
        one::<Page<PatientSummary>>("patient_page.json"),
        one::<Page<HeartRateRecord>>("heart_rate_page.json"),
        one::<Page<EcgRecord>>("ecg_page.json"),
        one::<Page<ImageRecord>>("image_page.json"),
        one::<EcgDetail>("ecg_detail.json"),
        one::<UploadReceipt>("upload_receipt.json"),
        one::<ReceivedUpload>("received_upload.json"),
        one::<UploadStatus>("upload_status.json"),
        one::<DeadLetterPage>("dead_letter_page.json"),
        one::<DeadLetter>("dead_letter.json"),
        one::<ServerClock>("server_clock.json"),
        one::<StreamState>("stream_state.json"),
        one::<DeviceMessage>("device_message.json"),
        one::<DeviceReply>("device_reply.json"),
        one::<StreamDescription>("stream_description.json"),
        one::<Numerics>("numerics.json"),
        one::<Vitals>("vitals.json"),
        one::<LiveRequest>("live_request.json"),
        one::<LiveMessage>("live_message.json"),
        one::<Problem>("problem.json"),
        one::<legacy::NewPatient>("legacy_new_patient.json"),
        one::<legacy::PatientIds>("legacy_patient_ids.json"),
        one::<legacy::PatientData>("legacy_patient_data.json"),
    ]
}

//! Messages and response bodies: parsed values survive a round trip.
#![no_main]

use proto_json::{
    AnalyzeEcg, DeadLetterPage, EcgAnalyzed, EcgDetail, EcgRecord, Page, PatientSummary, PatientUpdated,
    Problem, Receipt, UploadReceived, UploadStatus, legacy,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn round_trip<T: DeserializeOwned + Serialize>(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(bytes) {
        let written = serde_json::to_vec(&value).expect("a parsed value can be serialised");
        if let Err(error) = serde_json::from_slice::<T>(&written) {
            panic!("{error}: {}", String::from_utf8_lossy(&written));
        }
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    round_trip::<UploadReceived>(bytes);
    round_trip::<AnalyzeEcg>(bytes);
    round_trip::<EcgAnalyzed>(bytes);
    round_trip::<PatientUpdated>(bytes);
    round_trip::<Receipt>(bytes);
    round_trip::<EcgDetail>(bytes);
    round_trip::<Page<EcgRecord>>(bytes);
    round_trip::<Page<PatientSummary>>(bytes);
    round_trip::<DeadLetterPage>(bytes);
    round_trip::<UploadStatus>(bytes);
    round_trip::<Problem>(bytes);
    round_trip::<legacy::PatientData>(bytes);
    round_trip::<legacy::NewPatient>(bytes);
});

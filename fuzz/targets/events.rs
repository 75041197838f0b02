//! Messages of the bus and bodies of replies: what can be read can be written and read again.
#![no_main]

use proto_json::{
    AnalyzeEcg, DeadLetterPage, EcgAnalyzed, EcgDetail, EcgRecord, Page, PatientSummary, PatientUpdated,
    Problem, Receipt, UploadReceived, UploadStatus, legacy,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn same_again<T: DeserializeOwned + Serialize>(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(bytes) {
        let written = serde_json::to_vec(&value).expect("what was read can be written");
        if let Err(error) = serde_json::from_slice::<T>(&written) {
            panic!("{error}: {}", String::from_utf8_lossy(&written));
        }
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    same_again::<UploadReceived>(bytes);
    same_again::<AnalyzeEcg>(bytes);
    same_again::<EcgAnalyzed>(bytes);
    same_again::<PatientUpdated>(bytes);
    same_again::<Receipt>(bytes);
    same_again::<EcgDetail>(bytes);
    same_again::<Page<EcgRecord>>(bytes);
    same_again::<Page<PatientSummary>>(bytes);
    same_again::<DeadLetterPage>(bytes);
    same_again::<UploadStatus>(bytes);
    same_again::<Problem>(bytes);
    same_again::<legacy::PatientData>(bytes);
    same_again::<legacy::NewPatient>(bytes);
});

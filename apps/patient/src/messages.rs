//! The sentences that the app shows for typed results.

use client::{ClientError, UploadAnswer};
use proto_json::{FileKind, Mrn, MrnError, UploadReceipt};
use ui::{format, tr};

use crate::model::Comparison;

/// The error as a sentence.
pub(crate) fn error(error: &(impl std::fmt::Display + ?Sized)) -> String {
    format::sentence(&error.to_string())
}

/// Why an entered record number is not accepted.
pub(crate) fn mrn_error(error: &MrnError) -> String {
    match error {
        MrnError::NotAnInteger => tr!("The medical record number must be an integer.").to_owned(),
        MrnError::OutOfRange => tr!("The medical record number must be from 0 to {}.", Mrn::MAX),
    }
}

fn rate(bpm: Option<f64>) -> String {
    bpm.map_or_else(|| tr!("no heart rate").to_owned(), |bpm| tr!("{} bpm", format::bpm(Some(bpm))))
}

/// How the server's analysis of the ECG `name` compares with the preview.
pub(crate) fn comparison(name: &str, comparison: &Comparison) -> String {
    match comparison {
        Comparison::Failed(reason) => {
            let reason = reason.as_deref().unwrap_or(tr!("it gave no reason"));
            tr!("The server could not analyse {}: {}", name, format::sentence(reason))
        }
        Comparison::Agrees(bpm @ Some(_)) => {
            tr!("The server finds {} in {}, as the preview did.", rate(*bpm), name)
        }
        Comparison::Agrees(None) => tr!("The server finds no heart rate in {}, as the preview did.", name),
        Comparison::Differs { server, preview } => tr!(
            "The server finds {} in {}, the preview found {}. Check the strip.",
            rate(*server),
            name,
            rate(*preview)
        ),
    }
}

/// The gateway's answer to an upload.
pub(crate) fn answer(answer: &UploadAnswer) -> String {
    match answer {
        UploadAnswer::Stored(receipt) if receipt.patient_created => {
            tr!("New patient {} registered.", receipt.mrn)
        }
        UploadAnswer::Stored(receipt) if receipt.changed => tr!("Patient {} updated.", receipt.mrn),
        UploadAnswer::Stored(receipt) => {
            tr!("Patient {} unchanged: the server already has this content.", receipt.mrn)
        }
        UploadAnswer::Accepted(accepted) => {
            tr!("The upload for patient {} is accepted and will be stored shortly.", accepted.mrn)
        }
    }
}

/// What the receipt says is stored, one line for each file.
pub(crate) fn receipt_lines(receipt: &UploadReceipt) -> Vec<String> {
    let line = |file: &proto_json::StoredFile| {
        let name = file.file_name.as_deref().unwrap_or(tr!("without a file name"));
        format!("{}: {name}", file_kind(file.kind))
    };
    receipt.files.iter().map(line).collect()
}

/// The kind of a file.
pub(crate) fn file_kind(kind: FileKind) -> &'static str {
    match kind {
        FileKind::MedicalImage => tr!("Medical image"),
        FileKind::EcgImage => tr!("ECG image"),
        FileKind::Ecg => tr!("ECG"),
    }
}

/// An upload that waits in the outbox.
pub(crate) fn queued(mrn: Option<Mrn>, reason: &ClientError) -> String {
    let patient = mrn.map_or_else(String::new, |mrn| tr!(" for patient {}", mrn));
    tr!(
        "The upload{} is kept on this computer and will be sent as soon as possible. {}",
        patient,
        match reason {
            ClientError::Unreachable { gateway, reason } => {
                tr!("The gateway at {} cannot be reached ({}).", gateway, reason)
            }
            _ => error(reason),
        }
    )
}

//! Converts a patient of the original server into uploads. Each upload has its own idempotency key.

use client::{IdempotencyKey, Upload, UploadFile};
use proto_json::{FileKind, Mrn};

use crate::counts::Counts;
use crate::record::{Ecg, Record};

/// One upload, and the upload to send instead if the gateway rejects it.
#[derive(Debug)]
pub(crate) struct Step {
    /// Path of the source value, for example `ecg_image[3]`.
    pub(crate) place: String,
    pub(crate) upload: Upload,
    pub(crate) counts: Counts,
    pub(crate) fallback: Option<Box<Step>>,
}

/// Returns the uploads in the order in which they must be stored: the patient, then both histories, oldest
/// first.
pub(crate) fn steps(record: Record) -> Vec<Step> {
    let mrn = record.mrn;
    let mut steps = vec![patient(mrn, record.name)];
    for (index, ecg) in record.ecgs.into_iter().enumerate() {
        steps.extend(ecg_step(mrn, index, ecg));
    }
    for (index, image) in record.images.into_iter().enumerate() {
        if let Some(bytes) = image {
            let file = UploadFile::from_bytes(FileKind::MedicalImage, format!("image-{index}"), bytes);
            steps.push(Step {
                place: format!("medical_image[{index}]"),
                upload: upload(mrn, &format!("image-{index}"), vec![file]),
                counts: Counts { medical_images: 1, ..Counts::default() },
                fallback: None,
            });
        }
    }
    steps
}

fn patient(mrn: Mrn, name: Option<String>) -> Step {
    let counts = Counts { patients: 1, ..Counts::default() };
    let unnamed =
        Step { place: "_id".to_owned(), upload: upload(mrn, "patient", Vec::new()), counts, fallback: None };
    match name {
        None => unnamed,
        Some(name) => Step {
            place: "name".to_owned(),
            upload: Upload { name: Some(name), ..upload(mrn, "name", Vec::new()) },
            counts,
            fallback: Some(Box::new(unnamed)),
        },
    }
}

fn ecg_step(mrn: Mrn, index: usize, ecg: Ecg) -> Option<Step> {
    let Ecg { image, rate, at } = ecg;
    let rates = u64::from(rate.is_some());
    let rate_only = rate.map(|rate| Step {
        place: format!("heart_rate[{index}]"),
        upload: Upload {
            heart_rate: Some(rate),
            recorded_at: at,
            ..upload(mrn, &format!("rate-{index}"), Vec::new())
        },
        counts: Counts { heart_rates: 1, ..Counts::default() },
        fallback: None,
    });
    let Some(bytes) = image else { return rate_only };
    let file = UploadFile::from_bytes(FileKind::EcgImage, format!("ecg-{index}"), bytes);
    Some(Step {
        place: format!("ecg_image[{index}]"),
        upload: Upload {
            heart_rate: rate,
            recorded_at: at,
            ..upload(mrn, &format!("ecg-{index}"), vec![file])
        },
        counts: Counts { ecg_images: 1, heart_rates: rates, ..Counts::default() },
        fallback: rate_only.map(Box::new),
    })
}

fn upload(mrn: Mrn, place: &str, files: Vec<UploadFile>) -> Upload {
    let mut upload = Upload::of(files);
    // Digits and ASCII letters always form a valid key.
    if let Ok(key) = format!("import-{mrn}-{place}").parse::<IdempotencyKey>() {
        upload.idempotency_key = key;
    }
    upload
}

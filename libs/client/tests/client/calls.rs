//! Calls that read, and error messages.

use std::time::Duration;

use client::{ClientError, Gateway, Settings, UploadFile};
use proto_json::{EcgStatus, FileKind, UploadId};

use crate::fixture::{System, ecg_upload, mrn, named, store, strip};

#[tokio::test]
async fn lists_are_paged_and_files_are_downloaded_unchanged() {
    let system = System::start();
    let gateway = system.gateway().await.client();
    gateway.check(Duration::from_secs(5)).await.unwrap();
    for number in [3, 1, 2] {
        store(&gateway, number, &named(&format!("Patient {number}"))).await;
    }
    let first = gateway.patients(None, None, Some(2)).await.unwrap();
    let rest = gateway.patients(None, first.next, Some(2)).await.unwrap();
    let all: Vec<u64> = first.items.iter().chain(&rest.items).map(|patient| patient.mrn.get()).collect();
    assert_eq!((all.as_slice(), rest.next), ([1, 2, 3].as_slice(), None));
    assert_eq!(gateway.all_patients(Some("patient 2")).await.unwrap().items.len(), 1);

    let content = strip(10.0, 66.0);
    let receipt = store(&gateway, 1, &ecg_upload(content.clone())).await;
    let id = receipt.files[0].id;
    assert_eq!(gateway.signal(id).await.unwrap().bytes(1 << 20).await.unwrap(), content);
    assert!(gateway.signal(id).await.unwrap().bytes(content.len() - 1).await.is_err());
    assert_eq!(gateway.ecgs(mrn(1), None, None).await.unwrap().items[0].id, id);
    assert!(gateway.images(mrn(1), None, None).await.unwrap().items.is_empty());
    let status = gateway.upload_status(receipt.upload_id).await.unwrap().unwrap();
    assert_eq!(status.receipt.files[0].id, id);

    // Polls until the analysis is done. The tests of the feed wait for the pushed update instead.
    let record = loop {
        let record = gateway.ecg(id).await.unwrap().unwrap();
        if record.status != EcgStatus::Pending {
            break record;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(record.status, EcgStatus::Analyzed);
    assert!(!gateway.ecg_detail(id).await.unwrap().unwrap().beats.is_empty());
    let plot = gateway.plot(id).await.unwrap();
    assert_eq!(plot.media_type(), Some("image/png"));
    assert!(plot.bytes(8 << 20).await.unwrap().starts_with(b"\x89PNG"));
    assert_eq!(gateway.heart_rates(mrn(1), None, None).await.unwrap().items[0].ecg_id, Some(id));
}

#[tokio::test]
async fn missing_records_are_none_and_errors_are_sentences() {
    let system = System::start();
    let server = system.gateway().await;
    let gateway = server.client();
    assert_eq!(gateway.patient(mrn(404)).await.unwrap(), None);
    assert_eq!(gateway.upload_status(UploadId::generate()).await.unwrap(), None);

    let text_as_png = client::Upload::of(vec![UploadFile::from_bytes(
        FileKind::MedicalImage,
        "notes.png",
        &b"Patient feels well."[..],
    )]);
    let refused = gateway.upload(mrn(1), &text_as_png, |_| {}).await.unwrap_err();
    assert!(
        matches!(&refused, ClientError::Refused(problem) if problem.status == 400 || problem.status == 415),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("PNG"), "{refused}");
    assert!(!refused.is_transient());

    let missing = client::Upload::of(vec![UploadFile::from_path(FileKind::Ecg, "/no/such/strip.csv")]);
    let missing = gateway.upload(mrn(1), &missing, |_| {}).await.unwrap_err();
    assert!(missing.to_string().starts_with("the file /no/such/strip.csv cannot be read"), "{missing}");
    assert_eq!(gateway.patient(mrn(1)).await.unwrap(), None, "nothing of a rejected upload is stored");

    // A 404 of another server does not mean that the patient does not exist.
    let elsewhere = Gateway::new(&Settings::new(format!("http://{}/elsewhere", server.address))).unwrap();
    let error = elsewhere.patient(mrn(1)).await;
    assert!(!matches!(error, Ok(Some(_))), "{error:?}");

    let address = server.stop().await;
    let gone = gateway.patient(mrn(1)).await.unwrap_err();
    assert!(gone.is_unreachable() && gone.is_transient());
    assert!(
        gone.to_string().starts_with(&format!("the gateway at http://{address} cannot be reached")),
        "{gone}"
    );
}

#[test]
fn limits_are_the_defaults_of_the_gateway() {
    let limits = gateway::Config::default().limits;
    assert_eq!(limits.max_image.0, client::limits::MAX_IMAGE_BYTES);
    assert_eq!(limits.max_file.0, client::limits::MAX_FILE_BYTES);
    assert_eq!(u64::from(limits.max_megapixels) * 1_000_000, client::limits::MAX_IMAGE_PIXELS);
}

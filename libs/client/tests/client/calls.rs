//! Reads, and what errors say.

use std::time::Duration;

use client::{ClientError, Gateway, Settings, UploadFile};
use proto_json::{EcgStatus, FileKind, UploadId};

use crate::system::{System, ecg_upload, mrn, named, store, strip};

#[tokio::test]
async fn lists_are_read_page_by_page_and_files_come_back_bit_for_bit() {
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

    // Not an endless wait: the analysis is announced, and the announcement is what the feed's tests wait for.
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
async fn what_is_not_there_is_none_and_what_cannot_be_is_a_sentence() {
    let system = System::start();
    let door = system.gateway().await;
    let gateway = door.client();
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
    assert_eq!(gateway.patient(mrn(1)).await.unwrap(), None, "nothing of a refused upload is stored");

    // Somebody else's door: not found there does not mean that there is no such patient.
    let elsewhere = Gateway::new(&Settings::new(format!("http://{}/elsewhere", door.address))).unwrap();
    let error = elsewhere.patient(mrn(1)).await;
    assert!(!matches!(error, Ok(Some(_))), "{error:?}");

    let address = door.stop().await;
    let gone = gateway.patient(mrn(1)).await.unwrap_err();
    assert!(gone.is_unreachable() && gone.is_transient());
    assert!(
        gone.to_string().starts_with(&format!("the gateway at http://{address} cannot be reached")),
        "{gone}"
    );
}

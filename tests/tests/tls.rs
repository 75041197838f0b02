//! TLS between clients and gateway, and between services, broker and database.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use client::{
    ClientError, Feed, FeedEvent, FeedMode, FeedSettings, Gateway, NatsSettings, Settings, Upload,
    UploadAnswer, UploadFile,
};
use proto_json::{EcgStatus, FileKind, Mrn};
use testkit::tls::Certificate;
use testkit::{Extras, Mode, NatsServer, System, program, test_data, within};

fn text(path: std::path::PathBuf) -> String {
    path.to_str().unwrap().to_owned()
}

fn gateway_args(certificate: &Certificate) -> Vec<String> {
    ["--tls-cert".to_owned(), text(certificate.file()), "--tls-key".to_owned(), text(certificate.key_file())]
        .to_vec()
}

fn connect(system: &System, certificate: &Certificate) -> Gateway {
    let url = system.url().replace("http://", "https://");
    let extra_certificates = Some(std::fs::read(certificate.file()).unwrap());
    Gateway::new(&Settings { extra_certificates, ..Settings::new(url) }).unwrap()
}

async fn upload_and_analyse(gateway: &Gateway) {
    let file = UploadFile::from_bytes(FileKind::Ecg, "strip.csv", test_data::strip_csv(72.0, 10.0, 1));
    let answer = gateway.upload(Mrn::new(7).unwrap(), &Upload::of(vec![file]), |_| {}).await.unwrap();
    let UploadAnswer::Stored(receipt) = answer else { panic!("{answer:?}") };
    within("the ECG is analysed", || async {
        let ecg = gateway.ecg(receipt.files[0].id).await.unwrap();
        ecg.filter(|ecg| ecg.status == EcgStatus::Analyzed)
    })
    .await;
}

#[tokio::test]
async fn standalone_serves_tls_to_clients_that_trust_its_certificate() {
    let certificate = Certificate::issue();
    let extras = Extras { gateway: gateway_args(&certificate), ..Extras::default() };
    let system = System::start_extra(Mode::Standalone, &extras);
    let gateway = connect(&system, &certificate);
    upload_and_analyse(&gateway).await;
    let stranger = connect(&system, &Certificate::issue());
    let refused = stranger.patients(None, None, None).await.unwrap_err();
    assert!(matches!(refused, ClientError::Unreachable { .. }), "{refused}");

    let health = |ca: &Certificate| {
        let args =
            ["healthcheck", "--gateway", gateway.address(), "--ca", &text(ca.file())].map(str::to_owned);
        Command::new(program("bedside")).args(args).output().unwrap().status.code()
    };
    assert_eq!(health(&certificate), Some(0));
    assert_eq!(health(&Certificate::issue()), Some(1));
    let answer =
        testkit::http_client_trusting(&certificate.file()).get(gateway.address()).send().await.unwrap();
    assert_eq!(answer.headers()["strict-transport-security"], "max-age=31536000");
}

#[tokio::test]
async fn services_connect_to_broker_and_database_over_tls() {
    let certificate = Arc::new(Certificate::issue());
    let (cert, key) = (text(certificate.file()), text(certificate.key_file()));
    let front = certificate.clone();
    let extras = Extras {
        gateway: gateway_args(&certificate),
        // The broker also requires a client certificate.
        nats: format!("tls {{ cert_file: {cert:?}, key_file: {key:?}, ca_file: {cert:?}, verify: true }}"),
        bus: ["--nats-ca", &cert, "--nats-cert", &cert, "--nats-key", &key, "--nats-require-tls"]
            .map(str::to_owned)
            .to_vec(),
        mongodb: Some(Arc::new(move |port| front.front(port))),
        store: ["--mongodb-ca".to_owned(), cert.clone()].to_vec(),
        ..Extras::default()
    };
    let system = System::start_extra(Mode::Processes, &extras);
    upload_and_analyse(&connect(&system, &certificate)).await;
}

#[tokio::test]
async fn monitor_receives_updates_from_the_broker_over_tls() {
    let certificate = Certificate::issue();
    let (cert, key) = (text(certificate.file()), text(certificate.key_file()));
    let broker = NatsServer::start_with(&format!("tls {{ cert_file: {cert:?}, key_file: {key:?} }}"));
    let system = System::start(Mode::Standalone);
    let trusting =
        NatsSettings { extra_certificates: Some(certificate.file()), ..NatsSettings::new(broker.url()) };
    for (nats, expected) in
        [(trusting, FeedMode::Nats), (NatsSettings::new(broker.url()), FeedMode::ServerSentEvents)]
    {
        let mut feed =
            Feed::start(FeedSettings { nats: Some(nats), ..FeedSettings::new(system.gateway(), None) });
        let pushed = async {
            loop {
                match feed.next().await {
                    Some(FeedEvent::Connection(state)) if state.mode.is_push() => return state.mode,
                    Some(_) => {}
                    None => panic!("the feed has ended"),
                }
            }
        };
        let mode = tokio::time::timeout(Duration::from_secs(60), pushed).await.expect("updates are pushed");
        assert_eq!(mode, expected);
    }
}

//! Tests of reads through the gateway, with query in this process and over HTTP.

use axum::http::Method;
use gateway::{Config, Limits};
use http_body_util::BodyExt;

use crate::fixture::{Api, Form, Start, TIMEOUT, base64, jpeg, png};

async fn both() -> [Api; 2] {
    let direct = Start::default().start().await;
    let over_http = Start { query_over_http: true, ..Start::default() }.start().await;
    [direct, over_http]
}

#[tokio::test]
async fn files_have_etags_and_support_ranges() {
    for api in both().await {
        let image = png(100, 100, 1);
        let reply =
            api.upload("7", Form::default().file("medical_image", "Bj\u{f6}rn\".png", &image), &[]).await;
        let path = format!("/api/v1/images/{}", reply.json()["files"][0]["id"].as_str().unwrap());
        let get = async |headers: &[(&str, &str)]| api.send(Method::GET, &path, headers, "").await;

        let whole = get(&[]).await;
        assert!(whole.status == 200 && whole.body == image);
        assert_eq!(whole.header("content-type"), "image/png");
        assert_eq!(whole.header("content-length"), image.len().to_string());
        assert_eq!(whole.header("cache-control"), "private, immutable, max-age=31536000");
        assert_eq!(whole.header("x-content-type-options"), "nosniff");
        assert!(whole.header("content-security-policy").contains("sandbox"));
        let etag = whole.header("etag").to_owned();
        assert_eq!(etag, format!("\"{}\"", proto_json::BlobHash::of(&image)));

        let unchanged = get(&[("if-none-match", &etag)]).await;
        assert_eq!(
            (unchanged.status.as_u16(), unchanged.body.len(), unchanged.header("etag")),
            (304, 0, &*etag)
        );
        let part = get(&[("range", "bytes=10-19")]).await;
        assert_eq!((part.status.as_u16(), &part.body[..]), (206, &image[10..20]));
        assert_eq!(part.header("content-range"), format!("bytes 10-19/{}", image.len()));
        assert_eq!(get(&[("range", "bytes=10-19"), ("if-range", "\"other\"")]).await.status, 200);
        get(&[("range", "bytes=999999-")]).await.assert_problem(416, "bytes");
        let head = api.send(Method::HEAD, &path, &[], "").await;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), image.len().to_string());
    }
}

#[tokio::test]
async fn lists_are_paginated_to_their_end() {
    for api in both().await {
        for mrn in 0..7 {
            api.upload(&mrn.to_string(), Form::default().field("name", format!("Patient {mrn}")), &[]).await;
        }
        for seed in 0..5 {
            api.upload("3", Form::default().file("medical_image", "", &jpeg(9, 9, seed)), &[]).await;
        }
        for (path, expected) in
            [("/api/v1/patients?q=patient&limit=3", 7), ("/api/v1/patients/3/images?limit=2", 5)]
        {
            let (mut seen, mut after) = (0, String::new());
            loop {
                let page = api.get(&format!("{path}{after}")).await.json();
                seen += page["items"].as_array().unwrap().len();
                let Some(next) = page["next"].as_str() else { break };
                after = format!("&after={next}");
            }
            assert_eq!(seen, expected, "{path}");
        }
        let found = api.get("/api/v1/patients?q=patient%205").await.json();
        assert_eq!(found["items"][0]["mrn"], 5);
        for query in ["limit=0", "limit=501", "limit=x", "after=x", "after=p7", "limit=1&limit=2"] {
            let reply = api.get(&format!("/api/v1/patients/3/ecgs?{query}")).await;
            assert_eq!(reply.status, 400, "{query}: {}", reply.text());
        }
    }
}

#[tokio::test]
async fn unknown_records_are_404() {
    for api in both().await {
        let id = proto_json::UploadId::generate();
        for path in ["patients/9", "patients/9/heart-rates", "patients/9/ecgs", "patients/9/images"] {
            api.get(&format!("/api/v1/{path}")).await.assert_problem(404, "patient");
        }
        for path in ["ecgs/{}", "ecgs/{}/plot", "ecgs/{}/signal", "ecgs/{}/detail", "images/{}", "uploads/{}"]
        {
            api.get(&format!("/api/v1/{}", path.replace("{}", &id.to_string())))
                .await
                .assert_problem(404, "id");
            api.get(&format!("/api/v1/{}", path.replace("{}", "7"))).await.assert_problem(400, "UUID");
        }
    }
}

#[tokio::test]
async fn large_legacy_responses_are_streamed() {
    for api in both().await {
        let pictures: Vec<Vec<u8>> =
            (0..6).map(|seed| [png(9, 9, seed), vec![seed; 1_000_001 + seed as usize]].concat()).collect();
        let form =
            pictures.iter().fold(Form::default(), |form, picture| form.file("medical_image", "", picture));
        assert_eq!(api.upload("7", form, &[]).await.status, 201);
        let reply = api.get("/api/get_patient/7").await;
        assert_eq!(reply.header("content-length"), reply.body.len().to_string());
        let mut got: Vec<String> = serde_json::from_value(reply.json()["medical_image"].clone()).unwrap();
        let mut sent: Vec<String> = pictures.iter().map(|picture| base64(picture)).collect();
        got.sort();
        sent.sort();
        assert!(got == sent);
    }
}

#[tokio::test]
async fn read_holds_its_permit_until_the_last_byte_is_sent() {
    let limits = Limits { max_reads_in_flight: 1, ..Limits::default() };
    let config = Config { limits, receipt_wait: TIMEOUT, ..Config::default() };
    let api = Start { config, ..Start::default() }.start().await;
    // Larger than the socket buffers.
    let mut image = jpeg(3, 3, 0);
    image.resize(30_000_000, 0);
    let reply = api.upload("7", Form::default().file("medical_image", "a.jpg", &image), &[]).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let path = format!("/api/v1/images/{}", reply.json()["files"][0]["id"].as_str().unwrap());
    let mut slow = api.body(&path).await;
    let rejected = api.get("/api/v1/patients").await;
    rejected.assert_problem(503, "As many reads are under way");
    assert_eq!(rejected.header("retry-after"), "1");
    let mut bytes = 0;
    while let Some(frame) = slow.frame().await {
        bytes += frame.unwrap().into_data().map_or(0, |data| data.len());
    }
    assert_eq!(bytes, image.len());
    drop(slow);
    let free = async { while api.get("/api/v1/patients").await.status != 200 {} };
    tokio::time::timeout(TIMEOUT, free).await.expect("the permit is returned");
}

/// Otherwise anyone who can reach query's port could read all patients.
#[tokio::test]
async fn query_rejects_requests_without_its_token() {
    let api = Start { query_over_http: true, ..Start::default() }.start().await;
    assert_eq!(api.new_patient("{\"medical_record_number\":7}").await.status, 200);
    assert_eq!(api.get("/api/v1/patients/7").await.status, 200);

    let (address, token) = api.query.clone().unwrap();
    let token = token.bearer().unwrap();
    let token = token.to_str().unwrap();
    let last = &token[token.len() - 1..];
    let wrong = format!("{}{}", &token[..token.len() - 1], if last == "0" { "1" } else { "0" });
    for path in ["/api/v1/patients/7", "/api/get_patient", "/api/get_patient/7", "/nothing"] {
        for authorization in ["", "Bearer", &wrong, "Bearer guess"] {
            let reply = api.send_to(address, path, &[("authorization", authorization)]).await;
            reply.assert_problem(401, "token");
            assert_eq!(reply.header("www-authenticate"), "Bearer");
        }
    }
    let reply = api.send_to(address, "/api/v1/patients/7", &[("authorization", token)]).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn gateway_without_querys_token_responds_502() {
    let api = Start { query_over_http: true, gateway_has_token: false, ..Start::default() }.start().await;
    // The client's headers are not forwarded.
    let headers = [("authorization", "Bearer of-the-client")];
    let reply = api.send(Method::GET, "/api/v1/patients", &headers, "").await;
    reply.assert_problem(502, "does not accept this gateway");
}

#[tokio::test]
async fn no_store_forbids_caching_of_files() {
    let config = Config { no_store: true, receipt_wait: TIMEOUT, ..Config::default() };
    let api = Start { config, ..Start::default() }.start().await;
    let form = Form::default().file("medical_image", "x.html", &png(5, 5, 1));
    let id = api.upload("7", form, &[]).await.json()["files"][0]["id"].as_str().unwrap().to_owned();
    let reply = api.get(&format!("/api/v1/images/{id}")).await;
    assert_eq!(reply.header("cache-control"), "no-store");
    assert_eq!(reply.header("content-disposition"), "inline; filename=\"x.html.png\"");
}

//! Reads, passed on to query in this process or over HTTP.

use axum::http::Method;
use gateway::{Config, Limits};
use http_body_util::BodyExt;

use crate::fixture::{Door, Form, PATIENCE, Start, base64, jpeg, png};

async fn both() -> [Door; 2] {
    let direct = Start::default().start().await;
    let over_http = Start { query_over_http: true, ..Start::default() }.start().await;
    [direct, over_http]
}

#[tokio::test]
async fn files_are_cached_by_their_hash_and_read_in_part() {
    for door in both().await {
        let image = png(100, 100, 1);
        let reply =
            door.upload("7", Form::default().file("medical_image", "Bj\u{f6}rn\".png", &image), &[]).await;
        let path = format!("/api/v1/images/{}", reply.json()["files"][0]["id"].as_str().unwrap());
        let get = async |headers: &[(&str, &str)]| door.send(Method::GET, &path, headers, "").await;

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
        let head = door.send(Method::HEAD, &path, &[], "").await;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), image.len().to_string());
    }
}

#[tokio::test]
async fn lists_are_paged_to_their_end() {
    for door in both().await {
        for mrn in 0..7 {
            door.upload(&mrn.to_string(), Form::default().field("name", format!("Patient {mrn}")), &[]).await;
        }
        for seed in 0..5 {
            door.upload("3", Form::default().file("medical_image", "", &jpeg(9, 9, seed)), &[]).await;
        }
        for (path, expected) in
            [("/api/v1/patients?q=patient&limit=3", 7), ("/api/v1/patients/3/images?limit=2", 5)]
        {
            let (mut seen, mut after) = (0, String::new());
            loop {
                let page = door.get(&format!("{path}{after}")).await.json();
                seen += page["items"].as_array().unwrap().len();
                let Some(next) = page["next"].as_str() else { break };
                after = format!("&after={next}");
            }
            assert_eq!(seen, expected, "{path}");
        }
        let found = door.get("/api/v1/patients?q=patient%205").await.json();
        assert_eq!(found["items"][0]["mrn"], 5);
        for query in ["limit=0", "limit=501", "limit=x", "after=x", "after=p7", "limit=1&limit=2"] {
            let reply = door.get(&format!("/api/v1/patients/3/ecgs?{query}")).await;
            assert_eq!(reply.status, 400, "{query}: {}", reply.text());
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    for door in both().await {
        let id = proto_json::UploadId::generate();
        for path in ["patients/9", "patients/9/heart-rates", "patients/9/ecgs", "patients/9/images"] {
            door.get(&format!("/api/v1/{path}")).await.assert_problem(404, "patient");
        }
        for path in ["ecgs/{}", "ecgs/{}/plot", "ecgs/{}/signal", "ecgs/{}/detail", "images/{}", "uploads/{}"]
        {
            door.get(&format!("/api/v1/{}", path.replace("{}", &id.to_string())))
                .await
                .assert_problem(404, "id");
            door.get(&format!("/api/v1/{}", path.replace("{}", "7"))).await.assert_problem(400, "UUID");
        }
    }
}

#[tokio::test]
async fn large_replies_of_the_documented_route_stream_through() {
    for door in both().await {
        let pictures: Vec<Vec<u8>> =
            (0..6).map(|seed| [png(9, 9, seed), vec![seed; 1_000_001 + seed as usize]].concat()).collect();
        let form =
            pictures.iter().fold(Form::default(), |form, picture| form.file("medical_image", "", picture));
        assert_eq!(door.upload("7", form, &[]).await.status, 201);
        let reply = door.get("/api/get_patient/7").await;
        assert_eq!(reply.header("content-length"), reply.body.len().to_string());
        let mut got: Vec<String> = serde_json::from_value(reply.json()["medical_image"].clone()).unwrap();
        let mut sent: Vec<String> = pictures.iter().map(|picture| base64(picture)).collect();
        got.sort();
        sent.sort();
        assert!(got == sent);
    }
}

#[tokio::test]
async fn a_read_takes_its_place_until_the_last_byte_has_gone() {
    let limits = Limits { max_reads_in_flight: 1, ..Limits::default() };
    let config = Config { limits, receipt_wait: PATIENCE, ..Config::default() };
    let door = Start { config, ..Start::default() }.start().await;
    // More than sockets hold.
    let mut image = jpeg(3, 3, 0);
    image.resize(30_000_000, 0);
    let reply = door.upload("7", Form::default().file("medical_image", "a.jpg", &image), &[]).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let path = format!("/api/v1/images/{}", reply.json()["files"][0]["id"].as_str().unwrap());
    let mut slow = door.body(&path).await;
    let refused = door.get("/api/v1/patients").await;
    refused.assert_problem(503, "As many reads are under way");
    assert_eq!(refused.header("retry-after"), "1");
    let mut bytes = 0;
    while let Some(frame) = slow.frame().await {
        bytes += frame.unwrap().into_data().map_or(0, |data| data.len());
    }
    assert_eq!(bytes, image.len());
    drop(slow);
    let free = async { while door.get("/api/v1/patients").await.status != 200 {} };
    tokio::time::timeout(PATIENCE, free).await.expect("the place is given back");
}

/// Query answers nobody but gateways: whoever reaches its port without its token could read all patients.
#[tokio::test]
async fn query_answers_only_requests_with_its_token() {
    let door = Start { query_over_http: true, ..Start::default() }.start().await;
    assert_eq!(door.new_patient("{\"medical_record_number\":7}").await.status, 200);
    assert_eq!(door.get("/api/v1/patients/7").await.status, 200);

    let (address, token) = door.query.clone().unwrap();
    let token = token.bearer().unwrap();
    let token = token.to_str().unwrap();
    let last = &token[token.len() - 1..];
    let wrong = format!("{}{}", &token[..token.len() - 1], if last == "0" { "1" } else { "0" });
    for path in ["/api/v1/patients/7", "/api/get_patient", "/api/get_patient/7", "/nothing"] {
        for authorization in ["", "Bearer", &wrong, "Bearer guess"] {
            let reply = door.send_to(address, path, &[("authorization", authorization)]).await;
            reply.assert_problem(401, "token");
            assert_eq!(reply.header("www-authenticate"), "Bearer");
        }
    }
    let reply = door.send_to(address, "/api/v1/patients/7", &[("authorization", token)]).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn gateway_without_the_token_of_query_reports_a_bad_gateway() {
    let door = Start { query_over_http: true, gateway_has_token: false, ..Start::default() }.start().await;
    // What the client sends is not passed on.
    let headers = [("authorization", "Bearer of-the-client")];
    let reply = door.send(Method::GET, "/api/v1/patients", &headers, "").await;
    reply.assert_problem(502, "does not accept this gateway");
}

#[tokio::test]
async fn clients_can_be_told_to_keep_no_images() {
    let config = Config { no_store: true, receipt_wait: PATIENCE, ..Config::default() };
    let door = Start { config, ..Start::default() }.start().await;
    let form = Form::default().file("medical_image", "x.html", &png(5, 5, 1));
    let id = door.upload("7", form, &[]).await.json()["files"][0]["id"].as_str().unwrap().to_owned();
    let reply = door.get(&format!("/api/v1/images/{id}")).await;
    assert_eq!(reply.header("cache-control"), "no-store");
    assert_eq!(reply.header("content-disposition"), "inline; filename=\"x.html.png\"");
}

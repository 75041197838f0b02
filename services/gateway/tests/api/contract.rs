//! Tests of the legacy API: one test per row of its contract.

use axum::http::Method;
use bus::QueueLimits;
use gateway::{Config, Limits};
use runtime::ByteSize;
use serde_json::json;

use crate::fixture::{Api, Start, TIMEOUT, base64, ecg_csv, jpeg, png};

#[tokio::test]
async fn root_responds_server_is_on() {
    Api::open().await.get("/").await.assert_text(200, "Server is on");
}

#[tokio::test]
async fn missing_or_empty_mrn_is_rejected() {
    let api = Api::open().await;
    for body in ["{}", "{\"medical_record_number\":\"\"}", "{\"medical_record_number\":\"\",\"hr\":\"x\"}"] {
        api.new_patient(body).await.assert_text(400, "Make sure to enter the patient id ");
    }
    api.nothing_is_stored().await;
}

#[tokio::test]
async fn mrn_that_is_not_an_integer_is_repeated_verbatim() {
    let api = Api::open().await;
    for (sent, shown) in [
        ("\"abc\"", "abc"),
        ("\" x 1 \"", " x 1 "),
        ("\"7.0\"", "7.0"),
        ("7.5", "7.5"),
        ("1e-3", "1e-3"),
        ("true", "true"),
        ("null", "null"),
        ("[1]", "[1]"),
        ("{\"a\":1}", "{\"a\":1}"),
        ("-1", "-1"),
        ("9007199254740992", "9007199254740992"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("\"*\"", "*"),
        ("\">\"", ">"),
        ("\"1.*\"", "1.*"),
        ("\"../1\"", "../1"),
        ("\"\\u0663\"", "\u{663}"),
    ] {
        let reply = api.new_patient(&format!("{{\"medical_record_number\":{sent},\"hr\":\"x\"}}")).await;
        reply.assert_text(400, &format!("The input {shown} cannot be converted into integer"));
    }
    api.nothing_is_stored().await;
}

#[tokio::test]
async fn unknown_mrn_is_registered() {
    let api = Api::open().await;
    for (sent, number) in [
        ("7", 7),
        ("11.0", 11),
        ("1e3", 1_000),
        ("\" 8 \"", 8),
        ("0", 0),
        ("9007199254740991", 9_007_199_254_740_991_u64),
    ] {
        let reply = api.new_patient(&format!("{{\"medical_record_number\":{sent},\"other\":[]}}")).await;
        reply.assert_text(200, &format!("New patient ID {number} is registered"));
    }
    let all_at_once = json!({
        "medical_record_number": 9, "name": "Ann", "hr": 70,
        "medical_image": base64(&png(3, 2, 0)), "ecg_image": base64(&jpeg(4, 5, 0)),
    });
    api.new_patient(&all_at_once.to_string()).await.assert_text(200, "New patient ID 9 is registered");
}

#[tokio::test]
async fn known_mrn_without_new_data_has_no_updates() {
    let api = Api::open().await;
    api.new_patient("{\"medical_record_number\":7,\"name\":\"Ann\"}").await;
    for body in [
        "{\"medical_record_number\":7}",
        "{\"medical_record_number\":7,\"name\":\"\",\"medical_image\":\"\",\"ecg_image\":\"\",\"hr\":\"\"}",
        "{\"medical_record_number\":\"7\",\"name\":\"Ann\",\"hr\":0}",
    ] {
        api.new_patient(body).await.assert_text(200, "No further updates for Patient ID 7");
    }
}

#[tokio::test]
async fn known_mrn_with_new_data_is_updated() {
    let api = Api::open().await;
    api.new_patient("{\"medical_record_number\":7,\"name\":\"Ann\"}").await;
    for change in [
        json!({ "medical_record_number": 7, "name": "Anna" }),
        json!({ "medical_record_number": 7, "medical_image": base64(&jpeg(2, 2, 1)) }),
        json!({ "medical_record_number": 7, "ecg_image": base64(&png(2, 2, 1)) }),
        json!({ "medical_record_number": 7, "ecg_image": base64(&png(2, 2, 1)), "hr": 71 }),
        json!({ "medical_record_number": 7, "hr": 72 }),
        json!({ "medical_record_number": 7, "ecg_csv": base64(&ecg_csv(60.0, 1)) }),
    ] {
        api.new_patient(&change.to_string()).await.assert_text(200, "Patient ID 7's data has been updated");
    }
}

#[tokio::test]
async fn queued_upload_without_receipt_is_accepted_with_202() {
    let config = Config { receipt_wait: std::time::Duration::from_millis(1), ..Config::default() };
    let api = Start { config, ingest: false, ..Start::default() }.start().await;
    let reply = api.new_patient("{\"medical_record_number\":7}").await;
    reply.assert_text(202, "Patient ID 7's data has been accepted and will be stored shortly");
}

#[tokio::test]
async fn base64_or_bytes_that_are_no_picture_are_refused_by_key() {
    let api = Api::open().await;
    let picture = base64(&png(3, 3, 0));
    for key in ["medical_image", "ecg_image"] {
        for value in [
            &picture[..picture.len() - 1],
            &picture[..picture.len() - 3],
            &format!("data:image/png;base64,{picture}"),
            &picture.replace('A', "-"),
            "====",
            &base64(b"no picture at all"),
            &base64(&png(3, 3, 0)[..20]),
            &base64(&jpeg(3, 3, 0)[..10]),
            &base64(b"GIF89a,,,,,,,,,,,,,,,,,"),
        ] {
            let body = json!({ "medical_record_number": 7, key: value });
            let reply = api.new_patient(&body.to_string()).await;
            assert_eq!(reply.status, 400, "{value}");
            assert!(reply.text().contains(&format!("`{key}`")), "{}", reply.text());
        }
    }
    let body = json!({ "medical_record_number": 7, "ecg_csv": base64(&png(3, 3, 0)) });
    let reply = api.new_patient(&body.to_string()).await;
    assert!(reply.status == 400 && reply.text().contains("`ecg_csv`"), "{}", reply.text());
    api.nothing_is_stored().await;
}

#[tokio::test]
async fn hr_that_is_no_integer_from_1_to_400_is_refused_by_key() {
    let api = Api::open().await;
    for hr in ["-1", "401", "72.5", "\"72\"", "true", "null", "[]", "1e3", "99999999999999999999"] {
        let reply = api.new_patient(&format!("{{\"medical_record_number\":7,\"hr\":{hr}}}")).await;
        assert!(reply.status == 400 && reply.text().contains("`hr`"), "{hr}: {}", reply.text());
    }
    api.nothing_is_stored().await;
}

#[tokio::test]
async fn body_with_wrong_type_is_rejected() {
    let api = Api::open().await;
    for body in ["", "7", "[]", "[7,\"Ann\"]", "null", "\"x\"", "{", "{\"medical_record_number\":7}}"] {
        let reply = api.new_patient(body).await;
        assert!(reply.status == 400 && reply.text().contains("JSON object"), "{body}: {}", reply.text());
    }
    for (key, value) in
        [("name", "7"), ("name", "null"), ("medical_image", "[]"), ("ecg_image", "true"), ("ecg_csv", "{}")]
    {
        let reply = api.new_patient(&format!("{{\"medical_record_number\":7,\"{key}\":{value}}}")).await;
        assert!(reply.status == 400 && reply.text().contains(&format!("`{key}`")), "{}", reply.text());
    }
    let invalid = [b"{\"medical_record_number\":7,\"name\":\"".as_slice(), b"\xff\"}"].concat();
    let reply = api.send(Method::POST, "/api/new_patient", &[], invalid).await;
    assert!(reply.status == 400 && reply.text().contains("UTF-8"), "{}", reply.text());
    api.nothing_is_stored().await;
}

#[tokio::test]
async fn body_over_the_limit_is_rejected_with_the_limit() {
    let limits = Limits { max_legacy_body: ByteSize(1_000_000), ..Limits::default() };
    let api =
        Start { config: Config { limits, receipt_wait: TIMEOUT, ..Config::default() }, ..Start::default() }
            .start()
            .await;
    let body = format!("{{\"medical_record_number\":7,\"name\":\"{}\"}}", "x".repeat(3_000_000));
    api.new_patient(&body).await.assert_text(413, "The request body may have at most 1 MB.");
    api.nothing_is_stored().await;
    api.new_patient("{\"medical_record_number\":7}").await.assert_text(200, "New patient ID 7 is registered");
}

/// Large bodies are parsed on another thread than small ones.
#[tokio::test]
async fn large_bodies_are_parsed_like_small_ones() {
    let api = Api::open().await;
    let picture = base64(&[png(2, 2, 0), vec![0; 1_500_000]].concat());
    let body = json!({ "medical_record_number": 7, "medical_image": picture, "hr": 72 }).to_string();
    api.new_patient(&body).await.assert_text(200, "New patient ID 7 is registered");
    let nested = format!("{{\"medical_record_number\":7,\"medical_image\":{}", "[".repeat(1_000_000));
    let rejected = api.new_patient(&nested).await;
    rejected.assert_text(
        400,
        "The request body must be a JSON object; it cannot be read on from line 1, column 1000043.",
    );
    let wrong = json!({ "medical_record_number": "x", "medical_image": picture }).to_string();
    api.new_patient(&wrong).await.assert_text(400, "The input x cannot be converted into integer");
}

#[tokio::test]
async fn full_queue_is_temporarily_unavailable() {
    let limits = QueueLimits { max_messages: 1, ..QueueLimits::default() };
    let config = Config { receipt_wait: std::time::Duration::from_millis(1), ..Config::default() };
    let api = Start { config, ingest: false, limits, ..Start::default() }.start().await;
    let body = json!({ "medical_record_number": 7, "medical_image": base64(&png(2, 2, 0)) }).to_string();
    assert_eq!(api.new_patient(&body).await.status, 202);
    let staged = bus::StagingStore::list(api.bus.as_ref()).await.unwrap();
    let reply = api.new_patient(&body).await;
    assert_eq!(reply.status, 503);
    assert!(reply.header("retry-after").parse::<u32>().is_ok());
    assert!(reply.text().ends_with('.'), "{}", reply.text());
    // The staged files of the rejected upload have been removed.
    assert_eq!(bus::StagingStore::list(api.bus.as_ref()).await.unwrap(), staged);
}

#[tokio::test]
async fn patient_list_is_ascending_and_may_be_empty() {
    let api = Api::open().await;
    let reply = api.get("/api/get_patient").await;
    assert_eq!((reply.header("content-type"), reply.text()), ("application/json", "{\"ID\":[]}"));
    for mrn in [10, 9, 200, 0] {
        api.new_patient(&format!("{{\"medical_record_number\":{mrn}}}")).await;
    }
    assert_eq!(api.get("/api/get_patient").await.text(), "{\"ID\":[0,9,10,200]}");
}

#[tokio::test]
async fn patient_response_has_ordered_keys_and_no_null() {
    let api = Api::open().await;
    api.new_patient("{\"medical_record_number\":7}").await;
    let reply = api.get("/api/get_patient/7").await;
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "application/json"));
    let empty = "{\"ecg_image\":[],\"heart_rate\":[],\"id\":7,\"medical_image\":[],\"name\":\"Not Specified\",\"timestamp\":[]}";
    assert_eq!(reply.text(), empty);
    let body = json!({ "medical_record_number": 7, "name": "Ann \"\\é", "hr": 70, "ecg_image": base64(&png(2, 1, 0)) });
    api.new_patient(&body.to_string()).await;
    let text = api.get("/api/get_patient/7").await.text().to_owned();
    let (start, rest) = text.split_once("\"timestamp\":[\"").unwrap();
    assert_eq!(
        start,
        format!(
            "{{\"ecg_image\":[\"{}\"],\"heart_rate\":[70],\"id\":7,\"medical_image\":[],\"name\":\"Ann \\\"\\\\é\",",
            base64(&png(2, 1, 0))
        )
    );
    let shape: String =
        rest.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
    assert_eq!(shape, "0000-00-00 00:00:00\"]}");
}

#[tokio::test]
async fn aligned_lists_contain_each_ecg_picture_in_order_of_receipt() {
    let api = Api::open().await;
    let upload =
        async |body: serde_json::Value| assert_eq!(api.new_patient(&body.to_string()).await.status, 200);
    upload(json!({ "medical_record_number": 7, "hr": 50 })).await;
    upload(json!({ "medical_record_number": 7, "ecg_image": base64(&png(2, 2, 1)), "hr": 71 })).await;
    upload(json!({ "medical_record_number": 7, "ecg_image": base64(&jpeg(2, 2, 2)) })).await;
    upload(json!({ "medical_record_number": 7, "ecg_csv": base64(&ecg_csv(80.0, 3)) })).await;
    upload(json!({ "medical_record_number": 7, "medical_image": base64(&png(5, 5, 4)) })).await;
    upload(json!({ "medical_record_number": 7, "medical_image": base64(&jpeg(5, 5, 5)) })).await;

    let drawn = |reply: &crate::fixture::Reply| reply.json()["heart_rate"].as_array().unwrap().len() == 3;
    let patient = api.eventually("/api/get_patient/7", drawn).await.json();
    let pictures = patient["ecg_image"].as_array().unwrap();
    assert_eq!(pictures.len(), 3);
    assert_eq!(pictures[0], base64(&png(2, 2, 1)));
    assert_eq!(pictures[1], base64(&jpeg(2, 2, 2)));
    assert!(pictures[2].as_str().unwrap().starts_with("iVBORw0KGgo"), "the plot is a PNG");
    assert_eq!(patient["heart_rate"].as_array().unwrap()[..2], [json!(71), json!(0)]);
    let measured = patient["heart_rate"][2].as_i64().unwrap();
    assert!((78..=82).contains(&measured), "{measured}");
    assert_eq!(patient["timestamp"].as_array().unwrap().len(), 3);
    assert_eq!(patient["medical_image"], json!([base64(&png(5, 5, 4)), base64(&jpeg(5, 5, 5))]));
}

#[tokio::test]
async fn patient_number_that_is_not_an_integer_is_rejected() {
    let api = Api::open().await;
    for (sent, shown) in [("abc", "abc"), ("1.5", "1.5"), ("%20x", " x"), ("%2A", "*"), ("1%2F2", "1/2")] {
        let reply = api.get(&format!("/api/get_patient/{sent}")).await;
        reply.assert_text(400, &format!("{shown} cannot be converted into integer"));
    }
}

#[tokio::test]
async fn unknown_patient_does_not_exist() {
    let api = Api::open().await;
    for number in ["7", "-1", "9007199254740992"] {
        let reply = api.get(&format!("/api/get_patient/{number}")).await;
        reply.assert_text(400, &format!("{number} does not exist in the current database"));
    }
}

#[tokio::test]
async fn unknown_path_is_404_and_wrong_method_is_405() {
    let api = Api::open().await;
    for path in [
        "/api",
        "/api/",
        "/api/nothing",
        "/api/get_patient/",
        "/api/get_patient/7/x",
        "/api/v1/nothing",
        "/favicon.ico",
    ] {
        assert_eq!(api.get(path).await.status, 404, "{path}");
    }
    for (method, path, allow) in [
        (Method::GET, "/api/new_patient", "POST"),
        (Method::POST, "/api/get_patient", "GET,HEAD"),
        (Method::DELETE, "/api/get_patient/7", "GET,HEAD"),
        (Method::PUT, "/", "GET,HEAD"),
        (Method::GET, "/api/v1/patients/7/uploads", "POST"),
        (Method::POST, "/api/v1/patients", "GET,HEAD"),
    ] {
        let reply = api.send(method, path, &[], "").await;
        assert_eq!((reply.status.as_u16(), reply.header("allow")), (405, allow), "{path}");
    }
}

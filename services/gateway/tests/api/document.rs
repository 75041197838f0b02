//! The limits that the OpenAPI document states: the server accepts the values at both ends. `tests/fuzz_http`
//! generates many more requests.

use axum::http::Method;
use serde_json::{Value, json};

use crate::fixture::{Api, Form, Reply};

struct Document(Value);

impl Document {
    /// The schema of a parameter, or of a field of the upload form.
    fn schema(&self, pointer: &str) -> &Value {
        self.resolved(self.0.pointer(pointer).unwrap_or_else(|| panic!("{pointer}")))
    }

    /// A schema, or the one that it references.
    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(target) => self.0.pointer(target.strip_prefix('#').unwrap()).unwrap(),
            None => schema,
        }
    }

    /// The schema of a text that may be `null`.
    fn text<'a>(&'a self, schema: &'a Value) -> &'a Value {
        self.resolved(schema["anyOf"].get(0).unwrap_or(schema))
    }

    fn parameter(&self, name: &str) -> &Value {
        self.schema(&format!("/components/parameters/{name}/schema"))
    }

    fn field(&self, name: &str) -> &Value {
        let form =
            "/paths/~1api~1v1~1patients~1{mrn}~1uploads/post/requestBody/content/multipart~1form-data/schema";
        self.schema(&format!("{form}/properties/{name}"))
    }
}

/// Smallest and largest number of a schema.
fn range(schema: &Value) -> [String; 2] {
    ["minimum", "maximum"].map(|bound| {
        assert!(schema[bound].is_number(), "{schema} has no {bound}");
        schema[bound].to_string()
    })
}

/// Texts of the longest length, with characters of one to four bytes.
fn texts(schema: &Value) -> Vec<String> {
    let length = schema["maxLength"].as_u64().unwrap_or_else(|| panic!("{schema} has no maxLength")) as usize;
    ["~", "ß", "漢", "😀", "\u{202e}", " "].map(|letter| letter.repeat(length)).to_vec()
}

#[tokio::test]
async fn parameters_at_the_limits_of_the_document_are_accepted() {
    let api = Api::open().await;
    let document = Document(api.get("/api/openapi.json").await.json());
    let accepts = async |path: &str, name: &str, values: Vec<String>| {
        for value in values {
            let value: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let path = path.replace("{}", &value);
            let reply = api.get(&path).await;
            let status = reply.status.as_u16();
            assert!([200, 404].contains(&status), "{name}: {path}: {status} {}", reply.text());
        }
    };
    accepts("/api/v1/patients/{}", "Mrn", range(document.parameter("Mrn")).to_vec()).await;
    accepts("/api/v1/patients?limit={}", "Limit", range(document.parameter("Limit")).to_vec()).await;
    accepts("/api/v1/dead-letters/{}", "Letter", range(document.parameter("Letter")).to_vec()).await;
    accepts(
        "/api/v1/dead-letters?after={}",
        "AfterLetter",
        range(document.parameter("AfterLetter")).to_vec(),
    )
    .await;
    accepts("/api/v1/patients?q={}", "Search", texts(document.parameter("Search"))).await;
    let cursors = ["p0", "p999999999999999", "p8999999999999999"];
    accepts("/api/v1/patients?after={}", "AfterPatient", cursors.map(str::to_owned).to_vec()).await;
    assert_eq!(document.parameter("AfterPatient")["pattern"], "^p(0|[1-9][0-9]{0,14}|[1-8][0-9]{15})$");
    let id = "f".repeat(32);
    let cursors = ["0", "-99999999999999", "99999999999999", "-1"].map(|millis| format!("r{millis}.{id}"));
    api.upload("7", Form::default().field("heart_rate", "72"), &[]).await;
    for list in ["heart-rates", "ecgs", "images"] {
        let path = format!("/api/v1/patients/7/{list}?after={{}}");
        accepts(&path, "AfterRecord", cursors.to_vec()).await;
    }
    assert_eq!(document.parameter("AfterRecord")["pattern"], "^r(0|-?[1-9][0-9]{0,13})\\.[0-9a-f]{32}$");
}

#[tokio::test]
async fn fields_at_the_limits_of_the_document_are_accepted() {
    let api = Api::open().await;
    let document = Document(api.get("/api/openapi.json").await.json());
    let mut mrn = 0;
    let mut accepts = async |name: &str, values: Vec<String>| {
        for value in values {
            mrn += 1;
            let form = Form::default().field(name, &value).field("rename", "");
            let reply = api.upload(&mrn.to_string(), form, &[]).await;
            assert_eq!(reply.status, 201, "{name} = {value:?}: {}", reply.text());
        }
    };
    accepts("name", texts(document.field("name"))).await;
    accepts("ecg_lead", texts(document.field("ecg_lead"))).await;
    accepts("heart_rate", range(document.field("heart_rate")).to_vec()).await;
    accepts("ecg_sample_rate", range(document.field("ecg_sample_rate")).to_vec()).await;
    accepts("ecg_sample_rate", vec!["1e5".to_owned(), "1.0000000000000002".to_owned()]).await;
    let time = &document.field("recorded_at")["anyOf"][0];
    assert_eq!((&time["format"], &time["maxLength"]), (&json!("date-time"), &json!(64)));
    let times = ["", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "2016-12-31T23:59:60-00:00"];
    accepts("recorded_at", times.map(str::to_owned).to_vec()).await;
    let longest = format!("2000-01-01T00:00:00.{}+01:00", "9".repeat(64 - 26));
    assert_eq!(longest.len(), 64);
    accepts("recorded_at", vec![longest]).await;

    let key = document.parameter("IdempotencyKey");
    for length in ["minLength", "maxLength"].map(|bound| key[bound].as_u64().unwrap() as usize) {
        let key = "~".repeat(length);
        let reply = api.upload("7", Form::default(), &[("idempotency-key", &key)]).await;
        assert_eq!(reply.status, 201, "{length}: {}", reply.text());
    }
    for value in ["respond-async", "", "x", "wait=;;,"] {
        let reply = api.upload("7", Form::default(), &[("prefer", value)]).await;
        assert!([201, 202].contains(&reply.status.as_u16()), "{value}: {}", reply.text());
    }
    let name = document.schema("/components/schemas/NameQuery/properties/name");
    for name in texts(name) {
        let body = json!({ "name": name }).to_string();
        let json = [("content-type", "application/json")];
        let reply = api.send(Method::POST, "/api/v1/patients/7/name-check", &json, body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

/// Numbers of JSON have no types: 7.0 is the integer 7.
#[tokio::test]
async fn legacy_values_at_the_limits_of_the_document_are_accepted() {
    let api = Api::open().await;
    let document = Document(api.get("/api/openapi.json").await.json());
    let properties = document.schema("/components/schemas/NewPatient/properties");
    let [low, high] = range(&properties["medical_record_number"]["oneOf"][0]);
    for number in [low, high, "7.0".to_owned(), "\"999999999999999\"".to_owned(), "\" 7 \"".to_owned()] {
        let reply = api.new_patient(&format!("{{\"medical_record_number\":{number}}}")).await;
        assert_eq!(reply.status, 200, "{number}: {}", reply.text());
    }
    let [low, high] = range(&properties["hr"]["oneOf"][0]);
    for rate in [low, high, "72.0".to_owned(), "\"\"".to_owned()] {
        let reply = api.new_patient(&format!("{{\"medical_record_number\":7,\"hr\":{rate}}}")).await;
        assert_eq!(reply.status, 200, "{rate}: {}", reply.text());
    }
    for name in texts(&properties["name"]) {
        let body = json!({ "medical_record_number": 7, "name": name });
        let reply = api.new_patient(&body.to_string()).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

async fn send(api: &Api, method: Method, path: &str, body: &str) -> Reply {
    api.send(method, path, &[("content-type", "application/json")], body.to_owned()).await
}

/// A JSON body, and a path that exists.
const BODIES: [(Method, &str, &str); 12] = [
    (Method::POST, "/api/v1/wards", "name"),
    (Method::PATCH, WARD, "name"),
    (Method::POST, BEDS, "name"),
    (Method::PATCH, BED, "name"),
    (Method::PATCH, "/api/v1/patients/7", "notes"),
    (Method::POST, "/api/v1/patients/7/name", "name"),
    (Method::POST, "/api/v1/patients/7/name", "reason"),
    (Method::POST, "/api/v1/patients/7/merge", "reason"),
    (Method::POST, "/api/v1/patients/8/erase", "reason"),
    (Method::PUT, "/api/v1/patients/7/hold", "reason"),
    (Method::POST, "/api/v1/uploads/00000000-0000-4000-8000-000000000001/move", "reason"),
    (Method::POST, "/api/v1/users", "display_name"),
];
const WARD: &str = "/api/v1/wards/0198c0de-0000-7000-8000-000000000001";
const BEDS: &str = "/api/v1/wards/0198c0de-0000-7000-8000-000000000001/beds";
const BED: &str =
    "/api/v1/wards/0198c0de-0000-7000-8000-000000000001/beds/0198c0de-0000-7000-8000-000000000002";

/// A ward with a bed, and two patients.
async fn filled() -> Api {
    let api = Api::open().await;
    for (path, id) in [("/api/v1/wards", 1), (BEDS, 2)] {
        let body = format!("{{\"id\":\"0198c0de-0000-7000-8000-00000000000{id}\",\"name\":\"One\"}}");
        assert_eq!(send(&api, Method::POST, path, &body).await.status, 201);
    }
    for mrn in ["7", "8"] {
        assert_eq!(api.upload(mrn, Form::default().field("name", "Ann"), &[]).await.status, 201);
    }
    api
}

/// A valid body of the route.
fn valid(path: &str) -> Value {
    match path.rsplit('/').next().unwrap_or_default() {
        "7" => json!({ "version": 0 }),
        "name" => json!({ "name": "Zoe", "reason": "r" }),
        "merge" => json!({ "into": 7, "reason": "r" }),
        "erase" => json!({ "confirm": 8, "reason": "r" }),
        "hold" => json!({ "reason": "r" }),
        "move" => json!({ "mrn": 7, "reason": "r" }),
        "users" => json!({ "name": "anna", "role": "nurse", "wards": null, "password": "correct horse" }),
        _ => json!({ "name": "Two" }),
    }
}

#[tokio::test]
async fn texts_of_bodies_have_the_lengths_and_characters_of_the_document() {
    let api = filled().await;
    let document = Document(api.get("/api/openapi.json").await.json());
    let mut tested = 0;
    for (method, path, field) in BODIES {
        let template = path
            .replace("/7", "/{mrn}")
            .replace("/patients/8", "/patients/{mrn}")
            .replace("/0198c0de-0000-7000-8000-000000000001", "/{ward}")
            .replace("/0198c0de-0000-7000-8000-000000000002", "/{bed}")
            .replace("/00000000-0000-4000-8000-000000000001", "/{id}");
        let operation = &document.0["paths"][&template][method.as_str().to_lowercase()];
        let body = document.resolved(&operation["requestBody"]["content"]["application/json"]["schema"]);
        let schema = document.text(&body["properties"][field]);
        let most =
            schema["maxLength"].as_u64().unwrap_or_else(|| panic!("{path} {field}: {schema}")) as usize;
        let pattern = schema["pattern"].as_str().unwrap_or_else(|| panic!("{path} {field}: {schema}"));
        assert!(pattern.contains(r"[^\s\u0000-\u001f\u007f-\u009f]"), "{path} {field}: {pattern}");
        let has_lines = field == "notes";
        assert_eq!(pattern.contains(r"\u000b"), has_lines, "{path} {field}: {pattern}");
        let body = |text: &str| {
            let mut body = valid(path);
            body[field] = json!(text);
            body.to_string()
        };
        let longest = ["~", "ß", "漢", "😀"].map(|letter| letter.repeat(most));
        for text in
            longest.iter().map(String::as_str).chain([" x ", if has_lines { "a\r\n\tb" } else { "a b" }])
        {
            let reply = send(&api, method.clone(), path, &body(text)).await;
            // The change may not be possible.
            let status = reply.status.as_u16();
            assert!(
                [200, 201, 404, 409].contains(&status),
                "{path} {field} {text:?}: {status} {}",
                reply.text()
            );
            tested += 1;
        }
        let longer = "x".repeat(most + 1);
        for text in ["", " ", "a\u{0}b", "a\u{1f}b", "a\u{7f}b", "a\u{9f}b", longer.as_str()]
            .into_iter()
            .chain((!has_lines).then_some("a\nb"))
        {
            let reply = send(&api, method.clone(), path, &body(text)).await;
            let status = reply.status.as_u16();
            assert!([400, 422].contains(&status), "{path} {field} {text:?}: {status} {}", reply.text());
        }
    }
    assert_eq!(tested, 6 * BODIES.len());
}

/// Numbers of JSON have no types: 7.0 is the integer 7. An array has no fields.
#[tokio::test]
async fn integers_may_be_written_with_a_point_and_objects_are_not_arrays() {
    let api = filled().await;
    for (method, path, body) in [
        (Method::PATCH, WARD, r#"{"name":"One","version":18446744073709551615}"#),
        (Method::PATCH, BED, r#"{"name":"One","version":18446744073709551615}"#),
        (Method::PATCH, "/api/v1/patients/7", r#"{"version":18446744073709551615}"#),
        (Method::PATCH, WARD, r#"{"name":"Two","version":2.0}"#),
        (Method::PATCH, "/api/v1/patients/7", r#"{"version":0.0,"notes":null}"#),
        (
            Method::PUT,
            "/api/v1/limits",
            r#"{"limits":{"heart_rate_low":45.0},"version":18446744073709551615}"#,
        ),
        (Method::PUT, "/api/v1/limits", r#"{"limits":{"heart_rate_low":45.0,"asystole_s":4},"version":0.0}"#),
        (Method::POST, "/api/v1/patients/7/merge", r#"{"into":7.0,"reason":"r"}"#),
        (Method::POST, "/api/v1/patients/7/erase", r#"{"confirm":8.0,"reason":"r"}"#),
        (
            Method::POST,
            "/api/v1/retention",
            r#"{"kind":"alarms","before":"2999-01-01T00:00:00Z","after":7.0}"#,
        ),
        (
            Method::POST,
            "/api/v1/retention",
            r#"{"kind":"alarms","before":"1999-01-01T00:00:00Z","after":7.0}"#,
        ),
        (Method::PATCH, "/api/v1/patients/7", r#"{"version":1.0,"birth_date":"2999-01-01"}"#),
    ] {
        let reply = send(&api, method, path, body).await;
        let status = reply.status.as_u16();
        assert!([200, 409].contains(&status), "{path} {body}: {status} {}", reply.text());
    }
    let alarm = "/api/v1/alarms/0198c0de-0000-7000-8000-000000000001";
    for (method, path, body) in [
        (Method::PUT, "/api/v1/limits".to_owned(), r#"[{"heart_rate_low":45},1]"#),
        (Method::PUT, "/api/v1/limits".to_owned(), r#"{"limits":[45],"version":1}"#),
        (Method::PUT, format!("{WARD}/limits"), r#"{"limits":[],"version":0}"#),
        (Method::PUT, "/api/v1/patients/7/limits".to_owned(), "[[],0]"),
        (Method::POST, format!("{alarm}/acknowledge"), "[]"),
        (Method::POST, format!("{alarm}/reset"), "[1]"),
        (Method::POST, format!("{alarm}/audio-pause"), "[null,60]"),
        (Method::PATCH, "/api/v1/users/anna".to_owned(), "[]"),
        (Method::POST, "/api/v1/wards".to_owned(), r#"[null,"Three"]"#),
        (Method::PUT, "/api/v1/patients/7/hold".to_owned(), r#"["r"]"#),
    ] {
        let reply = send(&api, method, &path, body).await;
        assert!(
            [400, 422].contains(&reply.status.as_u16()),
            "{path} {body}: {} {}",
            reply.status,
            reply.text()
        );
        let detail = reply.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert!(detail.contains("expected an object"), "{path} {body}: {detail}");
    }
    let reply = send(&api, Method::POST, &format!("{alarm}/reset"), r#"{"seconds":60}"#).await;
    reply.assert_problem(400, "unknown field `seconds`");
}

#[tokio::test]
async fn limits_have_the_ranges_of_the_document() {
    let api = filled().await;
    let document = Document(api.get("/api/openapi.json").await.json());
    let properties = document.schema("/components/schemas/AlarmLimits/properties").as_object().unwrap();
    let mut ranges = 0;
    for (name, schema) in properties.iter().filter(|(name, _)| *name != "atrial_fibrillation") {
        let [low, high] =
            ["minimum", "maximum"].map(|bound| schema[bound].as_f64().unwrap_or_else(|| panic!("{name}")));
        for (value, is_valid) in
            [(low, true), (high, true), (low - 0.5, false), (low - 1.0, false), (high + 1.0, false)]
        {
            let version = api.get("/api/v1/limits").await.json()["version"].clone();
            let body = json!({ "limits": { name: value }, "version": version }).to_string();
            let reply = send(&api, Method::PUT, "/api/v1/limits", &body).await;
            let is_crossed = reply.status == 422 && reply.text().contains("must be below");
            let is_accepted = reply.status == 200 || is_crossed;
            assert_eq!(is_accepted, is_valid, "{name} {value}: {} {}", reply.status, reply.text());
            if value == high + 1.0 {
                reply.assert_problem(422, &format!("must be from {low} to {high}"));
            }
        }
        ranges += 1;
    }
    assert_eq!(ranges, 10);
}

#[tokio::test]
async fn dates_of_birth_begin_with_the_year_of_the_document() {
    let api = filled().await;
    let document = Document(api.get("/api/openapi.json").await.json());
    let schema = document.schema("/components/schemas/BirthDate");
    let pattern = "^(18[5-9][0-9]|19[0-9]{2}|[2-9][0-9]{3})-[0-9]{2}-[0-9]{2}$";
    assert_eq!((&schema["pattern"], &schema["format"]), (&json!(pattern), &json!("date")));
    for (date, version, status) in [
        ("1850-01-01", 0, 200),
        ("1899-12-31", 1, 200),
        ("2000-02-29", 2, 200),
        ("9999-12-31", 3, 409),
        ("1849-12-31", 3, 400),
        ("0198-05-31", 3, 400),
    ] {
        let body = json!({ "version": version, "birth_date": date }).to_string();
        let reply = send(&api, Method::PATCH, "/api/v1/patients/7", &body).await;
        assert_eq!(reply.status, status, "{date}: {}", reply.text());
    }
}

#[tokio::test]
async fn audit_has_entries_before_the_largest_number_of_the_document_only() {
    let api = filled().await;
    let document = Document(api.get("/api/openapi.json").await.json());
    let [low, high] = range(document.parameter("AuditBefore"));
    for before in [&low, &high] {
        let reply = api.get(&format!("/api/v1/audit?before={before}")).await;
        assert_eq!(reply.status, 200, "{before}: {}", reply.text());
    }
    for before in ["-1", "9223372036854775808", "18446744073709551615", "x"] {
        let reply = api.get(&format!("/api/v1/audit?before={before}")).await;
        reply.assert_problem(400, "`before` must be the number of an entry");
    }
}

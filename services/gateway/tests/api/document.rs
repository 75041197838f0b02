//! The limits that the OpenAPI document states: the server accepts the values at both ends. `tests/fuzz_http`
//! generates many more requests.

use axum::http::Method;
use serde_json::{Value, json};

use crate::fixture::{Api, Form};

struct Document(Value);

impl Document {
    /// The schema of a parameter, or of a field of the upload form.
    fn schema(&self, pointer: &str) -> &Value {
        let schema = self.0.pointer(pointer).unwrap_or_else(|| panic!("{pointer}"));
        match schema["$ref"].as_str() {
            Some(target) => self.0.pointer(target.strip_prefix('#').unwrap()).unwrap(),
            None => schema,
        }
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

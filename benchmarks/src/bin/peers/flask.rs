//! A typical Flask server of the legacy routes (`benchmarks/peers/flask_server.py`) on gunicorn.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt;
use futures::future::BoxFuture;
use mongodb::bson::{Document, doc};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::MongoServer;

use crate::machine;
use crate::peer::{Call, Peer, Watch};

pub(crate) struct Flask {
    url: String,
    mongo: MongoServer,
    database: String,
    server: Child,
    _folder: TempDir,
}

impl Flask {
    pub(crate) async fn start() -> Self {
        let mongo = MongoServer::start();
        let database = mongo.fresh_database();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = testkit::free_port();
        let log = std::fs::File::create(folder.path().join("log")).expect("a log file");
        let gunicorn = gunicorn();
        let (base, query) = mongo.uri().split_once("/?").map_or_else(
            || (mongo.uri().trim_end_matches('/').to_owned(), String::new()),
            |(base, query)| (base.to_owned(), format!("?{query}")),
        );
        let server = Command::new(&gunicorn)
            // Threads, because gunicorn's sync workers close the connection after each response.
            .args(["--workers", "2", "--threads", "8", "--bind", &format!("127.0.0.1:{port}")])
            .args(["--chdir", concat!(env!("CARGO_MANIFEST_DIR"), "/peers"), "flask_server:app"])
            .env("PEER_MONGODB", format!("{base}/{database}{query}"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", gunicorn.display()));
        let url = format!("http://127.0.0.1:{port}");
        let flask = Flask { url, mongo, database, server, _folder: folder };
        machine::answers(&format!("{}/api/get_patient", flask.url)).await;
        flask
    }

    fn post(&self, body: &Value) -> Call {
        Call::post(format!("{}/api/new_patient", self.url), "application/json", body.to_string().into_bytes())
    }
}

/// Path as installed by `benchmarks/peers/install`.
fn gunicorn() -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(target, PathBuf::from);
    let tools = std::env::var_os("BEDSIDE_TOOLS").map_or(target.join("tools"), PathBuf::from);
    let program = tools.join("peers/bin/gunicorn");
    assert!(program.is_file(), "{} does not exist: run benchmarks/peers/install", program.display());
    program
}

impl Peer for Flask {
    fn upload(&self, mrn: u64, image: &[u8]) -> Call {
        self.post(&json!({"medical_record_number": mrn, "medical_image": STANDARD.encode(image)}))
    }

    fn ecg(&self, mrn: u64, picture: &[u8]) -> Call {
        self.post(&json!({"medical_record_number": mrn, "ecg_image": STANDARD.encode(picture), "hr": 75}))
    }

    fn watch(&self, mrn: u64) -> Watch {
        Watch::Poll(format!("{}/api/get_patient/{mrn}", self.url))
    }

    fn is_stored(&self, status: u16, _answer: &[u8]) -> bool {
        status == 200
    }

    /// One route returns all data of a patient.
    fn latest(&self, mrn: u64, _answer: &Value) -> String {
        format!("{}/api/get_patient/{mrn}", self.url)
    }

    fn image(&self, mrn: u64, answer: &Value) -> String {
        self.latest(mrn, answer)
    }

    fn list(&self) -> String {
        format!("{}/api/get_patient", self.url)
    }

    fn processes(&self) -> Vec<u32> {
        [self.server.id()].into_iter().chain(self.mongo.own_pid()).collect()
    }

    fn folders(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn database(&self) -> Option<(String, String)> {
        Some((self.mongo.uri(), self.database.clone()))
    }

    fn copy_images(&self, mrns: Vec<u64>, copies: usize) -> Option<BoxFuture<'static, ()>> {
        let (uri, database) = (self.mongo.uri(), self.database.clone());
        Some(
            async move {
                let client = mongodb::Client::with_uri_str(&uri).await.expect("the database is reachable");
                let patients = client.database(&database).collection::<Document>("patients");
                for mrn in mrns {
                    let number = i64::try_from(mrn).expect("a small number");
                    let patient = patients.find_one(doc! {"_id": number}).await;
                    let patient = patient.expect("the database answers").expect("the patient is known");
                    let image = patient.get_array("medical_image").expect("a list")[0].clone();
                    let more = doc! {"$push": {"medical_image": {"$each": vec![image; copies]}}};
                    patients.update_one(doc! {"_id": number}, more).await.expect("copies fit");
                }
            }
            .boxed(),
        )
    }

    /// A MongoDB document is limited to 16 MiB.
    fn most_images(&self, bytes: usize) -> usize {
        15_900_000 / (bytes.div_ceil(3) * 4 + 16)
    }
}

impl Drop for Flask {
    fn drop(&mut self) {
        machine::end(&mut self.server);
    }
}

//! Orthanc from Debian's package, with default settings except ports and directories.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::dicom;
use crate::machine;
use crate::peer::{Call, Peer, Watch};

pub(crate) struct Orthanc {
    url: String,
    server: Child,
    folder: TempDir,
}

impl Orthanc {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = testkit::free_port();
        let config = folder.path().join("orthanc.json");
        let data = folder.path().join("data");
        let settings = json!({
            "Name": "peer",
            "StorageDirectory": data,
            "IndexDirectory": data,
            "HttpPort": port,
            "DicomServerEnabled": false,
            "RemoteAccessAllowed": false,
            "AuthenticationEnabled": false,
        });
        std::fs::write(&config, settings.to_string()).expect("a file can be written");
        let log = std::fs::File::create(folder.path().join("log")).expect("a log file");
        let server = Command::new(program())
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("Orthanc can be started: run benchmarks/peers/install");
        let orthanc = Orthanc { url: format!("http://127.0.0.1:{port}"), server, folder };
        machine::answers(&format!("{}/system", orthanc.url)).await;
        orthanc
    }
}

/// Debian installs it in /usr/sbin.
fn program() -> PathBuf {
    let service = Path::new("/usr/sbin/Orthanc");
    if service.is_file() { service.to_owned() } else { "Orthanc".into() }
}

impl Peer for Orthanc {
    fn upload(&self, mrn: u64, image: &[u8]) -> Call {
        Call::post(format!("{}/instances", self.url), "application/dicom", dicom::wrapped(mrn, image))
    }

    fn watch(&self, _mrn: u64) -> Watch {
        Watch::Poll(format!("{}/changes?last", self.url))
    }

    /// The status of a known image is `AlreadyStored`.
    fn is_stored(&self, status: u16, answer: &[u8]) -> bool {
        status == 200
            && serde_json::from_slice(answer).is_ok_and(|answer: Value| answer["Status"] == "Success")
    }

    /// It has no current state of a patient; the list of instances shows the newest.
    fn latest(&self, _mrn: u64, answer: &Value) -> String {
        let patient = answer["ParentPatient"].as_str().expect("the answer names the patient");
        format!("{}/patients/{patient}/instances", self.url)
    }

    fn image(&self, _mrn: u64, answer: &Value) -> String {
        let id = answer["ID"].as_str().expect("the answer names the instance");
        format!("{}/instances/{id}/file", self.url)
    }

    fn list(&self) -> String {
        format!("{}/patients?expand", self.url)
    }

    fn processes(&self) -> Vec<u32> {
        vec![self.server.id()]
    }

    fn folders(&self) -> Vec<PathBuf> {
        vec![self.folder.path().join("data")]
    }
}

impl Drop for Orthanc {
    fn drop(&mut self) {
        machine::end(&mut self.server);
    }
}

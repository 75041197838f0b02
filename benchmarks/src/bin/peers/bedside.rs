//! Bedside, in both ways to run.

use std::path::PathBuf;

use serde_json::Value;
use testkit::{Mode, System};

use crate::multipart;
use crate::peer::{Call, Peer, Watch};

pub(crate) struct Bedside {
    url: String,
    processes: Vec<u32>,
    folders: Vec<PathBuf>,
    system: System,
}

impl Bedside {
    pub(crate) fn start(mode: Mode) -> Self {
        let mut system = System::start(mode);
        let mut processes: Vec<u32> = system.processes().iter().map(testkit::Process::pid).collect();
        let mut folders = Vec::new();
        match mode {
            Mode::Standalone => folders.push(system.data_folder()),
            Mode::Processes => {
                if let Some(nats) = system.nats() {
                    processes.push(nats.pid());
                    folders.push(nats.store().to_owned());
                }
                processes.extend(system.mongo().and_then(|mongo| mongo.own_pid()));
            }
        }
        Bedside { url: system.url(), processes, folders, system }
    }
}

pub(crate) fn upload_call(url: &str, mrn: u64, image: &[u8]) -> Call {
    let body = multipart::file("medical_image", "image.jpg", "image/jpeg", image);
    Call::post(format!("{url}/api/v1/patients/{mrn}/uploads"), multipart::CONTENT_TYPE, body)
}

impl Peer for Bedside {
    fn upload(&self, mrn: u64, image: &[u8]) -> Call {
        upload_call(&self.url, mrn, image)
    }

    fn watch(&self, _mrn: u64) -> Watch {
        Watch::Push(self.system.gateway())
    }

    /// 202 would mean that it is not stored yet.
    fn is_stored(&self, status: u16, _answer: &[u8]) -> bool {
        status == 201
    }

    fn latest(&self, mrn: u64, _answer: &Value) -> String {
        format!("{}/api/v1/patients/{mrn}", self.url)
    }

    fn image(&self, _mrn: u64, answer: &Value) -> String {
        let id = answer["files"][0]["id"].as_str().expect("the receipt names the image");
        format!("{}/api/v1/images/{id}", self.url)
    }

    fn list(&self) -> String {
        format!("{}/api/v1/patients", self.url)
    }

    fn processes(&self) -> Vec<u32> {
        self.processes.clone()
    }

    fn folders(&self) -> Vec<PathBuf> {
        self.folders.clone()
    }

    fn database(&self) -> Option<(String, String)> {
        self.system.database_uri().zip(self.system.database().map(str::to_owned))
    }
}

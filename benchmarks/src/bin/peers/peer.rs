//! What every system that is measured has in common.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use reqwest::Method;
use serde_json::Value;

/// One request, made before the clock runs.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn get(url: String) -> Self {
        Call { method: Method::GET, url, content_type: String::new(), body: Bytes::new() }
    }

    pub(crate) fn post(url: String, content_type: &str, body: Vec<u8>) -> Self {
        Call { method: Method::POST, url, content_type: content_type.to_owned(), body: body.into() }
    }
}

/// How a monitor learns what is new.
pub(crate) enum Watch {
    /// It is told.
    Push(client::Gateway),
    /// It asks for this page again and again; another answer is news.
    Poll(String),
}

/// A system that takes images. Dropping it ends its processes and removes its files.
pub(crate) trait Peer: Send + Sync {
    /// Takes one image of a patient.
    fn upload(&self, mrn: u64, image: &[u8]) -> Call;

    /// Takes one ECG of a patient, in the form that a patient app for this system sends.
    fn ecg(&self, mrn: u64, picture: &[u8]) -> Call {
        self.upload(mrn, picture)
    }

    /// How a monitor learns that a patient has a new ECG.
    fn watch(&self, mrn: u64) -> Watch;

    /// Whether this answer with status 200 or 201 says that the image is stored.
    fn is_stored(&self, status: u16, answer: &[u8]) -> bool;

    /// Reads the latest state of the patient whose last upload was answered so.
    fn latest(&self, mrn: u64, answer: &Value) -> String;

    /// Reads the image whose upload was answered so.
    fn image(&self, mrn: u64, answer: &Value) -> String;

    /// Reads the list of patients.
    fn list(&self) -> String;

    /// Processes that it was started with; those that they start count, too.
    fn processes(&self) -> Vec<u32>;

    /// Where it keeps its data, but for a MongoDB.
    fn folders(&self) -> Vec<PathBuf>;

    /// The MongoDB it keeps its data in: connection string and name of the database.
    fn database(&self) -> Option<(String, String)> {
        None
    }

    /// Adds copies of a patient's only image without going through the door, where filling it that way would take hours.
    fn copy_images(&self, _mrns: Vec<u64>, _copies: usize) -> Option<BoxFuture<'static, ()>> {
        None
    }

    /// Most images of this size that one patient is sure to hold; beyond them, each upload may be the one that fails.
    fn most_images(&self, _bytes: usize) -> usize {
        usize::MAX
    }
}

/// How long it took to start, with all of its processes.
pub(crate) struct Started {
    pub(crate) peer: Arc<dyn Peer>,
    pub(crate) took: Duration,
}

/// The systems that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Standalone,
    FullStack,
    Flask,
    Orthanc,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [Kind::Standalone, Kind::FullStack, Kind::Flask, Kind::Orthanc];

    /// As it is named on the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Standalone => "standalone",
            Kind::FullStack => "processes",
            Kind::Flask => "flask",
            Kind::Orthanc => "orthanc",
        }
    }

    /// As it stands in tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Kind::Standalone => "Bedside, standalone",
            Kind::FullStack => "Bedside, full stack",
            Kind::Flask => "Flask + pymodm",
            Kind::Orthanc => "Orthanc",
        }
    }

    pub(crate) async fn start(self) -> Started {
        let begun = std::time::Instant::now();
        let peer: Arc<dyn Peer> = match self {
            Kind::Standalone => Arc::new(crate::bedside::Bedside::start(testkit::Mode::Standalone)),
            Kind::FullStack => Arc::new(crate::bedside::Bedside::start(testkit::Mode::Processes)),
            Kind::Flask => Arc::new(crate::flask::Flask::start().await),
            Kind::Orthanc => Arc::new(crate::orthanc::Orthanc::start().await),
        };
        Started { peer, took: begun.elapsed() }
    }
}

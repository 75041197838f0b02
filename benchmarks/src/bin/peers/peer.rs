//! The interface of the measured servers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use reqwest::Method;
use serde_json::Value;

/// A request. It is built before its time is measured.
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

/// How a monitor learns of changes.
pub(crate) enum Watch {
    /// The server pushes updates.
    Push(client::Gateway),
    /// The monitor polls this URL; a different response means a change.
    Poll(String),
}

/// A server that accepts images. Dropping it ends its processes and removes its files.
pub(crate) trait Peer: Send + Sync {
    /// The request that uploads an image of a patient.
    fn upload(&self, mrn: u64, image: &[u8]) -> Call;

    /// The request that uploads an ECG of a patient, as an app for this server sends it.
    fn ecg(&self, mrn: u64, picture: &[u8]) -> Call {
        self.upload(mrn, picture)
    }

    /// How a monitor learns that a patient has a new ECG.
    fn watch(&self, mrn: u64) -> Watch;

    /// Whether this response states that the image is stored.
    fn is_stored(&self, status: u16, answer: &[u8]) -> bool;

    /// URL of the latest state of a patient, given the response to its last upload.
    fn latest(&self, mrn: u64, answer: &Value) -> String;

    /// URL of an image, given the response to its upload.
    fn image(&self, mrn: u64, answer: &Value) -> String;

    /// URL of the list of patients.
    fn list(&self) -> String;

    /// Its processes, without their children.
    fn processes(&self) -> Vec<u32>;

    /// Its data directories, without those of MongoDB.
    fn folders(&self) -> Vec<PathBuf>;

    /// Its MongoDB: connection string and database name.
    fn database(&self) -> Option<(String, String)> {
        None
    }

    /// Adds copies of a patient's only image directly in the database, if uploads would take hours.
    fn copy_images(&self, _mrns: Vec<u64>, _copies: usize) -> Option<BoxFuture<'static, ()>> {
        None
    }

    /// Number of images of this size that a patient can certainly hold. Further uploads can fail.
    fn most_images(&self, _bytes: usize) -> usize {
        usize::MAX
    }
}

/// A started server and the duration of its start.
pub(crate) struct Started {
    pub(crate) peer: Arc<dyn Peer>,
    pub(crate) took: Duration,
}

/// The servers that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Standalone,
    FullStack,
    Flask,
    Orthanc,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [Kind::Standalone, Kind::FullStack, Kind::Flask, Kind::Orthanc];

    /// Name on the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Standalone => "standalone",
            Kind::FullStack => "processes",
            Kind::Flask => "flask",
            Kind::Orthanc => "orthanc",
        }
    }

    /// Name in tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Kind::Standalone => "Bedside, standalone",
            Kind::FullStack => "Bedside, full stack",
            Kind::Flask => "Flask + pymodm",
            Kind::Orthanc => "Orthanc",
        }
    }

    pub(crate) async fn start(self) -> Started {
        let started = std::time::Instant::now();
        let peer: Arc<dyn Peer> = match self {
            Kind::Standalone => Arc::new(crate::bedside::Bedside::start(testkit::Mode::Standalone)),
            Kind::FullStack => Arc::new(crate::bedside::Bedside::start(testkit::Mode::Processes)),
            Kind::Flask => Arc::new(crate::flask::Flask::start().await),
            Kind::Orthanc => Arc::new(crate::orthanc::Orthanc::start().await),
        };
        Started { peer, took: started.elapsed() }
    }
}

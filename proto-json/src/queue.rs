//! The work queues and their subjects. Subjects never contain client text.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::Mrn;

/// A work queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Queue {
    /// Uploads that ingest must store.
    Uploads,
    /// ECGs that the ecg-worker must analyse.
    EcgJobs,
    /// Analysis results that ingest must store.
    EcgResults,
}

impl Queue {
    /// All queues.
    pub const ALL: [Queue; 3] = [Queue::Uploads, Queue::EcgJobs, Queue::EcgResults];

    /// Returns the name of its stream.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Queue::Uploads => "UPLOADS",
            Queue::EcgJobs => "ECG_JOBS",
            Queue::EcgResults => "ECG_RESULTS",
        }
    }

    /// Returns the subject of messages about this patient.
    #[must_use]
    pub fn subject(self, mrn: Mrn) -> String {
        format!("{}.{mrn}", self.subject_prefix())
    }

    /// Returns the wildcard subject that matches all its messages.
    #[must_use]
    pub fn subject_pattern(self) -> String {
        format!("{}.*", self.subject_prefix())
    }

    fn subject_prefix(self) -> &'static str {
        match self {
            Queue::Uploads => "upload.received",
            Queue::EcgJobs => "ecg.analyze",
            Queue::EcgResults => "ecg.analyzed",
        }
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

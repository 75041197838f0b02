//! The preview of an ECG file that is not stored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{EcgAnalysis, EcgDetail, MediaType};

/// What the analysis of an ECG file found. The file is not stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EcgPreview {
    /// The same analysis as that of a stored ECG.
    pub analysis: EcgAnalysis,
    /// Every beat, and the heart rate over time.
    pub detail: EcgDetail,
    /// Start of the recording as the file states it, such as `2026-03-14T15:09:26.000`. It has an offset from UTC if the
    /// file states one; otherwise it is local time of the place of recording. Absent if the file states no start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// The picture of the lead that gives the heart rate.
    pub plot: PreviewPlot,
}

/// A picture inside a JSON document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PreviewPlot {
    /// Media type of the picture.
    pub media_type: MediaType,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The bytes of the picture.
    #[schemars(extend("contentEncoding" = "base64"))]
    pub base64: String,
}

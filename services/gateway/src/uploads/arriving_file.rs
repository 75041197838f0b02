//! Receives one file of an upload: validates, hashes and spools it while it arrives.

use std::io;

use http_server::problem::{ApiError, ProblemType};
use proto_json::{FileKind, MediaType};

use crate::config::Limits;
use crate::uploads::ecg_file::{EcgFileError, EcgFileScan};
use crate::uploads::image::{ImageError, ImageScan};
use crate::uploads::spool::{Spool, SpoolWriter};
use crate::uploads::submit::ValidatedFile;

/// Why a file is rejected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Ecg(#[from] EcgFileError),
    #[error("has more than {0}")]
    TooLarge(runtime::ByteSize),
    #[error("cannot be spooled: {0}")]
    Spool(#[from] io::Error),
}

impl FileError {
    /// Converts the error to a problem document. `key` is the name of the form field.
    pub(crate) fn into_problem(self, key: &str) -> ApiError {
        let kind = match self {
            FileError::Image(ImageError::TooManyPixels { .. }) | FileError::TooLarge(_) => {
                ProblemType::TOO_LARGE
            }
            FileError::Image(_) | FileError::Ecg(EcgFileError::NotText) => ProblemType::UNSUPPORTED,
            FileError::Ecg(EcgFileError::Empty) => ProblemType::INVALID,
            FileError::Spool(cause) => {
                tracing::error!(%cause, "the spool folder failed");
                return ApiError::unavailable("The server has no room for large uploads for now.", 30);
            }
        };
        ApiError::new(kind, format!("`{key}` {self}."))
    }
}

enum Scan {
    Image(ImageScan),
    Ecg(EcgFileScan),
}

/// A file that is being received.
pub(crate) struct ArrivingFile<'a> {
    kind: FileKind,
    limit: runtime::ByteSize,
    scan: Scan,
    writer: SpoolWriter<'a>,
}

impl<'a> ArrivingFile<'a> {
    pub(crate) fn begin(kind: FileKind, spool: &'a mut Spool, limits: &Limits) -> Self {
        let (scan, limit) = match kind {
            FileKind::MedicalImage | FileKind::EcgImage => {
                (Scan::Image(ImageScan::new(limits.max_megapixels)), limits.max_image)
            }
            FileKind::Ecg => (Scan::Ecg(EcgFileScan::default()), limits.max_file),
        };
        ArrivingFile { kind, limit, scan, writer: spool.begin() }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    pub(crate) async fn write(&mut self, chunk: &[u8]) -> Result<(), FileError> {
        match &mut self.scan {
            Scan::Image(scan) => scan.feed(chunk)?,
            Scan::Ecg(scan) => scan.feed(chunk)?,
        }
        if self.writer.bytes() + chunk.len() as u64 > self.limit.0 {
            return Err(FileError::TooLarge(self.limit));
        }
        Ok(self.writer.write(chunk).await?)
    }

    pub(crate) async fn finish(self, file_name: Option<String>) -> Result<ValidatedFile, FileError> {
        let (media_type, pixels): (MediaType, _) = match self.scan {
            Scan::Image(scan) => {
                let image = scan.finish()?;
                (image.media_type, Some((image.width, image.height)))
            }
            Scan::Ecg(scan) => (scan.finish()?, None),
        };
        Ok(ValidatedFile {
            kind: self.kind,
            media_type,
            file_name,
            pixels,
            content: self.writer.finish().await?,
        })
    }
}

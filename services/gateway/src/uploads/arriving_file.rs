//! Takes one file of an upload: checks, hashes and spools it as it arrives.

use std::io;

use proto_json::{FileKind, MediaType};
use runtime::problem::{ApiError, ProblemType};

use crate::config::Limits;
use crate::uploads::ecg_file::{EcgFileError, EcgFileScan};
use crate::uploads::image::{PictureError, PictureScan};
use crate::uploads::spool::{Spool, SpoolWriter};
use crate::uploads::submit::DraftFile;

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error(transparent)]
    Picture(#[from] PictureError),
    #[error(transparent)]
    Ecg(#[from] EcgFileError),
    #[error("has more than {0}")]
    TooLarge(runtime::ByteSize),
    #[error("could not be kept while it arrived: {0}")]
    Spool(#[from] io::Error),
}

impl FileError {
    /// The error of the route that speaks problem documents.
    pub(crate) fn about(self, key: &str) -> ApiError {
        let kind = match self {
            FileError::Picture(PictureError::TooManyPixels { .. }) | FileError::TooLarge(_) => {
                ProblemType::TOO_LARGE
            }
            FileError::Picture(_) | FileError::Ecg(EcgFileError::NotText) => ProblemType::UNSUPPORTED,
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
    Picture(PictureScan),
    Ecg(EcgFileScan),
}

/// A file that is arriving.
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
                (Scan::Picture(PictureScan::new(limits.max_megapixels)), limits.max_image)
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
            Scan::Picture(scan) => scan.feed(chunk)?,
            Scan::Ecg(scan) => scan.feed(chunk)?,
        }
        if self.writer.bytes() + chunk.len() as u64 > self.limit.0 {
            return Err(FileError::TooLarge(self.limit));
        }
        Ok(self.writer.write(chunk).await?)
    }

    pub(crate) async fn finish(self, file_name: Option<String>) -> Result<DraftFile, FileError> {
        let (media_type, pixels): (MediaType, _) = match self.scan {
            Scan::Picture(scan) => {
                let picture = scan.finish()?;
                (picture.media_type, Some((picture.width, picture.height)))
            }
            Scan::Ecg(scan) => (scan.finish()?, None),
        };
        Ok(DraftFile { kind: self.kind, media_type, file_name, pixels, content: self.writer.finish().await? })
    }
}

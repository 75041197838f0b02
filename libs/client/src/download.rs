//! Downloads of files from the gateway.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::Stream;

use crate::ClientError;

/// A file of the gateway. Its content is received as it is read.
#[derive(Debug)]
pub struct Download {
    response: reqwest::Response,
    gateway: String,
    stall: Duration,
}

impl Download {
    pub(crate) fn new(response: reqwest::Response, gateway: String, stall: Duration) -> Self {
        Download { response, gateway, stall }
    }

    /// Media type according to the gateway.
    #[must_use]
    pub fn media_type(&self) -> Option<&str> {
        self.header("content-type")
    }

    /// Entity tag: the same tag means the same content.
    #[must_use]
    pub fn etag(&self) -> Option<&str> {
        self.header("etag")
    }

    /// Length in bytes, if the gateway states it.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The next bytes; `None` at the end of the file.
    ///
    /// # Errors
    /// The connection breaks, or no bytes arrive within the time limit: the file is incomplete.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        match tokio::time::timeout(self.stall, self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            // The HTTP library reports a connection that breaks during the body as a body error.
            Ok(Err(error)) if error.is_decode() || error.is_body() => Err(ClientError::Unreachable {
                gateway: self.gateway.clone(),
                reason: "the connection broke during the answer".to_owned(),
            }),
            Ok(Err(error)) => Err(ClientError::from_reqwest(&error, &self.gateway, self.stall)),
            Err(_) => Err(ClientError::TimedOut { gateway: self.gateway.clone(), limit: self.stall }),
        }
    }

    /// Reads the whole file into memory.
    ///
    /// # Errors
    /// As [`Download::chunk`], and [`ClientError::BadAnswer`] if the file is longer than `limit` bytes.
    pub async fn bytes(mut self, limit: usize) -> Result<Bytes, ClientError> {
        let too_long = |gateway: &str| ClientError::BadAnswer {
            gateway: gateway.to_owned(),
            reason: format!("it is longer than {limit} bytes"),
        };
        let expected = self.length().unwrap_or(0);
        if expected > limit as u64 {
            return Err(too_long(&self.gateway));
        }
        let mut all = BytesMut::with_capacity(usize::try_from(expected).unwrap_or(0));
        while let Some(chunk) = self.chunk().await? {
            if all.len() + chunk.len() > limit {
                return Err(too_long(&self.gateway));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// The content as a stream. Ends after the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, ClientError>> + Send + 'static {
        futures::stream::unfold(Some(self), |download| async {
            let mut download = download?;
            match download.chunk().await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(download))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).and_then(|value| value.to_str().ok())
    }
}

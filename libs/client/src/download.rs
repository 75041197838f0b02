//! A file on its way from the gateway.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::Stream;

use crate::ClientError;

/// A file on its way from the gateway; its bytes are fetched as they are asked for.
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

    /// Its media type, as the gateway says.
    #[must_use]
    pub fn media_type(&self) -> Option<&str> {
        self.header("content-type")
    }

    /// Its tag: the same tag means the same bytes.
    #[must_use]
    pub fn etag(&self) -> Option<&str> {
        self.header("etag")
    }

    /// Its length in bytes, if the gateway says it.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The next bytes; `None` at the end of the file.
    ///
    /// # Errors
    /// When the connection breaks or no bytes come for too long: then the file is not complete.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        match tokio::time::timeout(self.stall, self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            // A broken body is a broken connection, whatever the HTTP library calls it.
            Ok(Err(error)) if error.is_decode() || error.is_body() => Err(ClientError::Unreachable {
                gateway: self.gateway.clone(),
                reason: "the connection broke in the middle of the answer".to_owned(),
            }),
            Ok(Err(error)) => Err(ClientError::from_reqwest(&error, &self.gateway, self.stall)),
            Err(_) => Err(ClientError::TimedOut { gateway: self.gateway.clone(), limit: self.stall }),
        }
    }

    /// The whole file in memory.
    ///
    /// # Errors
    /// As [`Download::chunk`], and [`ClientError::BadAnswer`] when it is longer than `limit` bytes.
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

    /// The file as a stream of bytes. Ends after the first error.
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

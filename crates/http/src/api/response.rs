use std::fmt;

use buttress_core::Decision;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, Uri, Version, response::Parts};
use http_body::Body;
use serde::de::DeserializeOwned;

use super::{
    body::ApiBody,
    content::ContentError,
    error::ApiError,
    status::{Discreet, KEPT, StatusError},
};

/// An answer: status, headers, and a body that is still to be read.
///
/// Reading it keeps to the call's timeout. Dropped unread, it closes its connection (HTTP/1.1) or resets its stream
/// (HTTP/2).
pub struct ApiResponse {
    head: Parts,
    body: ApiBody,
    max_answer: usize,
}

impl ApiResponse {
    pub(crate) fn new(head: Parts, body: ApiBody, max_answer: usize) -> Self {
        Self { head, body, max_answer }
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.head.status
    }

    /// The headers. Of an answer that was unpacked, `content-encoding` and `content-length` are gone.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The version of HTTP that was spoken.
    #[must_use]
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// Where it came from: another URL than was asked for, if a redirect led there.
    #[must_use]
    pub fn url(&self) -> &Uri {
        self.body.uri()
    }

    /// Itself where the status is 2xx; else the body's first 8 KiB are read.
    ///
    /// # Errors
    /// [`ApiError::Status`] for every other status, also where the body breaks off.
    pub async fn error_for_status(self) -> Result<Self, ApiError> {
        if self.head.status.is_success() { Ok(self) } else { Err(self.refusal().await) }
    }

    /// The whole body.
    ///
    /// # Errors
    /// [`ApiError::TooLong`] above the client's `max_answer`; [`ApiError::Call`] if it breaks off, cannot be unpacked, or
    /// the time is up.
    pub async fn bytes(mut self) -> Result<Bytes, ApiError> {
        self.collect().await
    }

    /// The whole body, which must be UTF-8: [`bytes`](Self::bytes) are for other encodings.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), and [`ApiError::Content`] where it is not UTF-8.
    pub async fn text(mut self) -> Result<String, ApiError> {
        let body = self.collect().await?;
        match str::from_utf8(&body) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => {
                let error = ContentError::text(self.body.peer(), self.head.status, &body, error);
                Err(ApiError::Content(Box::new(error)))
            }
        }
    }

    /// The whole body as JSON, whatever its `content-type` says.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes); [`ApiError::Status`] where the status is not 2xx; [`ApiError::Content`] where the body
    /// is not the JSON expected.
    pub async fn json<T: DeserializeOwned>(mut self) -> Result<T, ApiError> {
        if !self.head.status.is_success() {
            return Err(self.refusal().await);
        }
        let body = self.collect().await?;
        serde_json::from_slice(&body).map_err(|error| {
            let error = ContentError::json(self.body.peer(), self.head.status, &body, error);
            ApiError::Content(Box::new(error))
        })
    }

    /// The body's next piece, `None` after the last one; without the limit of `max_answer`. Dropped unfinished, it loses
    /// nothing.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ApiError> {
        self.body.chunk().await
    }

    /// The body as it comes in, without the limit of `max_answer`.
    #[must_use]
    pub fn into_body(self) -> ApiBody {
        self.body
    }

    async fn collect(&mut self) -> Result<Bytes, ApiError> {
        let limit = self.max_answer;
        // What is said to be too long is not begun.
        if self.body.size_hint().lower() > limit as u64 {
            return Err(self.too_long());
        }
        let Some(first) = self.body.chunk().await? else { return Ok(Bytes::new()) };
        if first.len() > limit {
            return Err(self.too_long());
        }
        // A short body comes in one piece, and is not copied.
        let Some(second) = (if self.body.is_end_stream() { None } else { self.body.chunk().await? }) else {
            return Ok(first);
        };
        // As said by the server, which may be lying: bounded all the same.
        let said = usize::try_from(self.body.size_hint().lower()).unwrap_or(limit).min(limit);
        let mut whole =
            BytesMut::with_capacity((first.len() + second.len()).saturating_add(said.min(1 << 20)));
        whole.extend_from_slice(&first);
        let mut next = Some(second);
        while let Some(piece) = next {
            if piece.len() > limit - whole.len() {
                return Err(self.too_long());
            }
            whole.extend_from_slice(&piece);
            next = self.body.chunk().await?;
        }
        Ok(whole.freeze())
    }

    #[cold]
    fn too_long(&self) -> ApiError {
        Decision::note(self.body.origin(), "gave_up", || {
            format!("the answer's body has more than {} bytes", self.max_answer)
        });
        ApiError::TooLong { peer: self.body.peer(), limit: self.max_answer }
    }

    #[cold]
    async fn refusal(mut self) -> ApiError {
        let (mut body, mut truncated) = (BytesMut::new(), false);
        while !truncated {
            match self.body.chunk().await {
                Ok(None) => break,
                Ok(Some(piece)) => {
                    let taken = piece.len().min(KEPT - body.len());
                    body.extend_from_slice(&piece[..taken]);
                    truncated = taken < piece.len();
                }
                // The status says more than that its body broke off.
                Err(_) => truncated = true,
            }
        }
        ApiError::Status(Box::new(StatusError {
            peer: self.body.peer(),
            status: self.head.status,
            headers: self.head.headers,
            body: body.freeze(),
            truncated,
        }))
    }
}

impl fmt::Debug for ApiResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiResponse")
            .field("status", &self.head.status)
            .field("version", &self.head.version)
            .field("headers", &Discreet(&self.head.headers))
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

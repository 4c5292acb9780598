use std::{borrow::Cow, error::Error as StdError, fmt, str::Utf8Error};

use bytes::Bytes;
use http::StatusCode;
use serde_json::error::Category;

use super::status::KEPT;
use crate::peer::Peer;

/// An answer whose body is not what was asked for: not the JSON expected, or not UTF-8.
///
/// `Display` and `Debug` tell the place. What stands there may be anybody's data, so only [`excerpt`](Self::excerpt) and
/// [`detail`](Self::detail) show it.
pub struct ContentError {
    peer: Peer,
    status: StatusCode,
    line: usize,
    column: usize,
    excerpt: Bytes,
    why: Why,
}

enum Why {
    Json(serde_json::Error),
    Text(Utf8Error),
}

impl ContentError {
    pub(crate) fn json(peer: Peer, status: StatusCode, body: &[u8], error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let before: usize =
            body.split_inclusive(|byte| *byte == b'\n').take(line.max(1) - 1).map(<[u8]>::len).sum();
        Self { peer, status, line, column, excerpt: around(body, before + column), why: Why::Json(error) }
    }

    pub(crate) fn text(peer: Peer, status: StatusCode, body: &[u8], error: Utf8Error) -> Self {
        let good = &body[..error.valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        let column = 1 + good.iter().rev().take_while(|byte| **byte != b'\n').count();
        Self { peer, status, line, column, excerpt: around(body, good.len()), why: Why::Text(error) }
    }

    /// Who sent it.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The answer's status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The line of the place, from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }

    /// The place in its line, in bytes.
    #[must_use]
    pub fn column(&self) -> usize {
        self.column
    }

    /// At most 8 KiB of the body around the place; what is not UTF-8 is replaced.
    #[must_use]
    pub fn excerpt(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.excerpt)
    }

    /// What the parser says, which may quote the body.
    #[must_use]
    pub fn detail(&self) -> &(dyn StdError + Send + Sync + 'static) {
        match &self.why {
            Why::Json(error) => error,
            Why::Text(error) => error,
        }
    }

    const fn sentence(&self) -> &'static str {
        match &self.why {
            Why::Text(_) => "UTF-8",
            Why::Json(_) => "the JSON expected",
        }
    }

    fn kind(&self) -> &'static str {
        match &self.why {
            Why::Text(_) => "other bytes",
            Why::Json(error) => match error.classify() {
                Category::Eof => "it ends too early",
                Category::Data => "JSON of another shape",
                Category::Syntax | Category::Io => "no JSON",
            },
        }
    }
}

/// Copied, so that an error does not keep the whole body.
fn around(body: &[u8], at: usize) -> Bytes {
    let start = at.saturating_sub(KEPT / 2).min(body.len());
    Bytes::copy_from_slice(&body[start..body.len().min(start + KEPT)])
}

impl fmt::Display for ContentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, status, line, column, .. } = self;
        let (expected, kind) = (self.sentence(), self.kind());
        write!(f, "the answer of {peer} ({status}) is not {expected}: {kind} at line {line}, column {column}")
    }
}

impl fmt::Debug for ContentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentError")
            .field("peer", &self.peer)
            .field("status", &self.status)
            .field("kind", &self.kind())
            .field("line", &self.line)
            .field("column", &self.column)
            .finish_non_exhaustive()
    }
}

impl StdError for ContentError {}

#[cfg(test)]
mod tests {
    use http::Uri;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_body_panics_and_no_excerpt_is_long(
            body in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..64),
                "[\\[\\]{}:,\"a1\n é]{0,40}".prop_map(String::into_bytes),
                (0..20_000_usize).prop_map(|blanks| [&vec![b' '; blanks][..], b"x", &vec![b'\n'; blanks]].concat()),
            ],
        ) {
            let peer = || Peer::of(&Uri::from_static("http://stock/"));
            if let Err(error) = serde_json::from_slice::<Vec<u32>>(&body) {
                let error = ContentError::json(peer(), StatusCode::OK, &body, error);
                prop_assert!(error.excerpt.len() <= KEPT);
                prop_assert!(error.excerpt.len() == body.len().min(KEPT) || body.len() > KEPT / 2);
                let _shown = (error.to_string(), error.excerpt().len());
            }
            if let Err(error) = str::from_utf8(&body) {
                let place = error.valid_up_to();
                let error = ContentError::text(peer(), StatusCode::OK, &body, error);
                let before: usize = body.split(|byte| *byte == b'\n').take(error.line - 1).map(|line| line.len() + 1).sum();
                prop_assert_eq!(before + error.column - 1, place);
            }
        }
    }
}

use std::{error::Error as StdError, fmt, sync::Arc};

use buttress_core::BoxError;

/// Why the body of a response ended early. The one of the service inside is its [`source`](StdError::source).
///
/// Several callers may read one body, so that it is `Clone`.
#[derive(Clone)]
pub struct BodyError(Cause);

#[derive(Clone)]
enum Cause {
    Service(Arc<dyn StdError + Send + Sync>),
    Panicked,
    Abandoned,
    TooLong,
    TooShort,
}

impl BodyError {
    pub(crate) fn of(error: impl Into<BoxError>) -> Self {
        Self(Cause::Service(error.into().into()))
    }

    pub(crate) const fn panicked() -> Self {
        Self(Cause::Panicked)
    }

    pub(crate) const fn abandoned() -> Self {
        Self(Cause::Abandoned)
    }

    pub(crate) const fn too_long() -> Self {
        Self(Cause::TooLong)
    }

    pub(crate) const fn too_short() -> Self {
        Self(Cause::TooShort)
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Cause::Service(_) => "the response's body ended early",
            Cause::Panicked => "the response's body panicked while another caller read it",
            Cause::Abandoned => "the response's body was given up by all who read it",
            Cause::TooLong => "the response's body is longer than its Content-Length",
            Cause::TooShort => "the response's body is shorter than its Content-Length",
        })
    }
}

impl fmt::Debug for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Cause::Service(error) => f.debug_tuple("BodyError").field(error).finish(),
            _ => write!(f, "BodyError({self})"),
        }
    }
}

impl StdError for BodyError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0 {
            Cause::Service(error) => Some(&**error),
            _ => None,
        }
    }
}

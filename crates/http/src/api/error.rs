use std::{error::Error as StdError, fmt};

use buttress_core::{BoxError, Rejectable, Rejected};
use http::StatusCode;

use super::{content::ContentError, setting::InvalidSetting, status::StatusError};
use crate::{
    error::{Error, of_time},
    idempotency_key::InvalidIdempotencyKey,
    peer::Peer,
};

/// Why a call of an [`ApiClient`](crate::ApiClient) gave nothing: the one error of all its methods.
///
/// Neither `Display`, `Debug` nor a source shows a credential, a path, a query or a body.
#[derive(Debug)]
#[non_exhaustive]
pub enum ApiError {
    /// The call was made wrong. Nothing was sent.
    Invalid(InvalidSetting),
    /// There is no answer, or not all of its body; also where the time was up.
    Call(Error),
    /// A layer of the stack failed in a way of its own.
    Stack(BoxError),
    /// The call was answered by a redirect, and where that leads to, nothing could be sent. The request before may have
    /// been carried out: a 303 says so.
    Redirected(Box<Self>),
    /// The answer's status is not 2xx.
    Status(Box<StatusError>),
    /// The answer's body is not what was asked for.
    Content(Box<ContentError>),
    /// The answer's body is longer than the client's `max_answer`.
    TooLong {
        /// Who sent it.
        peer: Peer,
        /// How many bytes it may have.
        limit: usize,
    },
}

impl ApiError {
    /// Whether the request may have been carried out. Where it is `false`, calling again cannot do anything twice.
    ///
    /// Behind a retry, an error that is no [`Rejected`] speaks of the last attempt. What was allowed to be repeated is
    /// called again as it was: with the same idempotency key.
    #[must_use]
    pub fn sent(&self) -> bool {
        match self {
            Self::Invalid(_) => false,
            Self::Call(error) => error.sent(),
            Self::Stack(error) => Rejected::in_error(&**error).is_none_or(Rejected::sent),
            Self::Redirected(_) | Self::Status(_) | Self::Content(_) | Self::TooLong { .. } => true,
        }
    }

    /// The same, of a call that a redirect has answered before.
    pub(crate) fn after_redirect(self) -> Self {
        match self {
            error if error.sent() => error,
            Self::Call(Error::Rejected(rejected)) => rejected.after_sending().into(),
            error => Self::Redirected(Box::new(error)),
        }
    }

    /// Whether a time limit ended the call: the client's own, or one in the stack. Not where a server said so, by 408 or
    /// 504: that is a status.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Call(error) => error.is_timeout(),
            Self::Stack(error) => Rejected::in_error(&**error).is_some_and(of_time),
            _ => false,
        }
    }

    /// The answer's status, where the error is about one.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status(error) => Some(error.status()),
            Self::Content(error) => Some(error.status()),
            _ => None,
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(error) => write!(f, "{error}; nothing was sent"),
            Self::Call(error) => error.fmt(f),
            Self::Stack(error) => error.fmt(f),
            Self::Redirected(error) => {
                write!(f, "the call was answered by a redirect, and then: {error}")
            }
            Self::Status(error) => error.fmt(f),
            Self::Content(error) => error.fmt(f),
            Self::TooLong { peer, limit } => write!(
                f,
                "the answer of {peer} is longer than {limit} bytes: raise `max_answer`, or read it by `chunk`"
            ),
        }
    }
}

impl StdError for ApiError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Invalid(error) => Some(error),
            Self::Call(error) => Some(error),
            Self::Stack(error) => Some(&**error),
            Self::Redirected(error) => Some(&**error),
            Self::Status(error) => Some(&**error),
            Self::Content(error) => Some(&**error),
            Self::TooLong { .. } => None,
        }
    }
}

impl From<InvalidSetting> for ApiError {
    fn from(error: InvalidSetting) -> Self {
        Self::Invalid(error)
    }
}

/// So that a key can be made where the call is, under the same `?`.
impl From<InvalidIdempotencyKey> for ApiError {
    fn from(_: InvalidIdempotencyKey) -> Self {
        InvalidSetting::new("idempotency_key", "it must be 1 to 255 characters of printable ASCII").into()
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

impl From<Rejected> for ApiError {
    fn from(rejected: Rejected) -> Self {
        Self::Call(rejected.into())
    }
}

/// What a stack with tower's own layers gives. An error of this crate, or a layer's rejection, becomes what it is.
impl From<BoxError> for ApiError {
    fn from(error: BoxError) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(error) => return *error,
            Err(error) => error,
        };
        match error.downcast::<Error>() {
            Ok(error) => Self::Call(*error),
            Err(error) => match error.downcast::<Rejected>() {
                Ok(rejected) => (*rejected).into(),
                Err(error) => Self::Stack(error),
            },
        }
    }
}

impl Rejectable for ApiError {
    fn rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Call(error) => error.rejected(),
            Self::Stack(error) => Rejected::in_error(&**error),
            Self::Redirected(error) => error.rejected(),
            _ => None,
        }
    }

    fn sent(&self) -> bool {
        Self::sent(self)
    }
}

use buttress_core::ReplayRequest;
use http::Request;

use crate::{classify::is_idempotent, idempotency_key::IdempotencyKey, request_body::Body};

/// Which requests a retry or a hedge may send again: `RetryLayer::requests(Idempotent)`.
///
/// | request | sent again |
/// |---|---|
/// | [idempotent by its method](is_idempotent) | yes |
/// | any other with an [`Idempotency-Key`](IdempotencyKey) | by a retry, with the same key |
/// | any other | by a retry, where the attempt before was not [sent](crate::Error::sent) |
/// | with a streamed [`Body`] of more than 64 KiB | no, unless the attempt before has not come that far |
/// | with any streamed body | never by a hedge, which would send it twice at the same time |
///
/// Whether an error says that the call was not sent is known of [`Error`](crate::Error) and of
/// [`Rejected`](buttress_core::Rejected). In a `BoxError` it is known of `Rejected` alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Idempotent;

impl ReplayRequest<Request<Body>> for Idempotent {
    /// Also of what is not idempotent: it may turn out not to have been sent.
    fn replay(&self, request: &Request<Body>) -> Option<Request<Body>> {
        let mut copy = Request::new(request.body().try_clone()?);
        copy.method_mut().clone_from(request.method());
        copy.uri_mut().clone_from(request.uri());
        *copy.version_mut() = request.version();
        copy.headers_mut().clone_from(request.headers());
        copy.extensions_mut().clone_from(request.extensions());
        Some(copy)
    }

    fn can_replay(&self, kept: &Request<Body>) -> bool {
        (is_idempotent(kept.method()) || IdempotencyKey::is_in(kept.headers())) && kept.body().can_replay()
    }

    fn can_replay_unsent(&self, kept: &Request<Body>) -> bool {
        kept.body().can_replay()
    }

    fn can_race(&self, kept: &Request<Body>) -> bool {
        // Not by its key: servers answer 409 to one whose first request they are still at work on.
        is_idempotent(kept.method()) && kept.body().is_held()
    }
}

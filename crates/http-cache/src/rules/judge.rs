use std::time::Duration;

use http::request;

use super::{
    Forward, Moment, Rules, Stored,
    directives::{RequestDirectives, ResponseDirectives},
};

/// What may be done with a stored response that matches a request ([`Rules::judge`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Serve it.
    Fresh,
    /// Serve it: it is stale, and the client takes it so (`max-stale`).
    Stale,
    /// Serve it, and validate it meanwhile (`stale-while-revalidate`).
    WhileRevalidate,
    /// Ask the origin first. [`Forward::Stale`]: it is stale, or must be validated each time. [`Forward::Request`]: it is
    /// fresh, and the request does not take it.
    Validate(Forward),
}

impl Rules {
    /// Whether a stored response that [`matches`](Self::matches) may be served (RFC 9111, sections 4.2 and 5.2; RFC 5861,
    /// section 3).
    ///
    /// Where several limits stand, each of them holds: `max-stale` does not lift the request's own `max-age` or
    /// `no-cache`, and `stale-while-revalidate` not what the request says of its age.
    #[must_use]
    pub fn judge(&self, stored: &Stored, request: &request::Parts, now: Moment) -> Verdict {
        let response = &stored.0.directives;
        let request = RequestDirectives::of(&request.headers);
        let is_fresh = stored.is_fresh(now);
        if response.no_cache || !is_fresh && self.forbids_stale(response) {
            return Verdict::Validate(Forward::Stale);
        }
        let validate = Verdict::Validate(if is_fresh { Forward::Request } else { Forward::Stale });
        let is_too_old = request.max_age.is_some_and(|most| stored.age(now) > seconds(most));
        if request.no_cache || is_too_old {
            return validate;
        }
        if let Some(least) = request.min_fresh {
            // Below 0 it is stale, and not fresh for another 0 seconds.
            let is_enough = stored.0.lifetime >= stored.age(now).saturating_add(seconds(least));
            return if is_fresh && is_enough { Verdict::Fresh } else { validate };
        }
        if is_fresh {
            return Verdict::Fresh;
        }
        let staleness = stored.staleness(now);
        let is_taken = request.max_stale.map(|most| staleness <= seconds(most));
        // A `max-age` alone says that nothing stale is wanted (section 5.2.1.1).
        let may_be_stale = is_taken.unwrap_or(request.max_age.is_none());
        if !may_be_stale {
            return validate;
        }
        // First: of two that serve it as it is, this one also gets a new one.
        if response.stale_while_revalidate.is_some_and(|most| most > 0 && staleness <= seconds(most)) {
            return Verdict::WhileRevalidate;
        }
        if is_taken == Some(true) { Verdict::Stale } else { validate }
    }

    /// Whether a stored response that matches may be served because the origin fails (RFC 5861, section 4):
    /// [answers so](Self::is_failure), or is not reached.
    ///
    /// For how long after its lifetime, the first of these says that speaks of it: the request's `stale-if-error`, the
    /// response's, [`with_stale_if_error`](Self::with_stale_if_error). What forbids to serve a response stale forbids this
    /// too. The request's `max-age` and `min-fresh` do not, since the directive holds regardless of freshness; its
    /// `no-cache` does, unless the request itself says `stale-if-error`: it asks for a validation that succeeds.
    #[must_use]
    pub fn stale_if_error(&self, stored: &Stored, request: &request::Parts, now: Moment) -> bool {
        let response = &stored.0.directives;
        let request = RequestDirectives::of(&request.headers);
        if self.forbids_stale(response) || request.no_cache && request.stale_if_error.is_none() {
            return false;
        }
        let said = request.stale_if_error.or(response.stale_if_error).map(seconds);
        let most = said.unwrap_or(self.stale_if_error);
        !most.is_zero() && stored.staleness(now) <= most
    }

    /// RFC 9111, section 4.2.4.
    pub(super) fn forbids_stale(&self, response: &ResponseDirectives) -> bool {
        response.no_cache
            || response.must_revalidate
            || (self.is_shared() && (response.proxy_revalidate || response.s_maxage.is_some()))
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

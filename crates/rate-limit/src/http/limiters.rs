//! Our own limiters, as the layers here see them.

use std::{fmt, hash::Hash, time::Duration};

use super::{InvalidName, Obeys, Policy, Quotas, Remaining, Subjects};
use crate::{
    Algorithm, KeyedRateLimiter, Limit, Quota, RateLimiter, clock, inner::Inner, limiter::restrict,
    places::Whose,
};

impl<Req> Subjects<Req> for RateLimiter {
    type Subject = ();

    fn subject(&self, _: &Req) {}
}

impl Quotas for RateLimiter {
    type Subject = ();

    fn policies(&self) -> Result<Vec<Policy>, InvalidName> {
        Policy::all(self.0.origin.name(), &self.limits().collect::<Vec<_>>())
    }

    fn quotas(&self, (): &(), tell: &mut dyn FnMut(Remaining)) {
        remaining(&self.0, None, 0, tell);
    }
}

impl Obeys for RateLimiter {
    type Subject = ();

    fn restrict(&self, (): &(), units: u32, time: Duration) {
        Self::restrict(self, units, time);
    }
}

impl KeyedRateLimiter {
    /// The limiter with the function that takes the key from a request, the same as its layer's.
    pub fn with_key<F>(&self, key: F) -> WithKey<F> {
        let of_all = self.0.quotas(None, clock::now()).len();
        WithKey { limiter: self.clone(), key, of_all }
    }
}

/// A keyed limiter that knows how to take the key from a request: made by [`KeyedRateLimiter::with_key`].
///
/// What is said and obeyed are the limits of the request's key. Those of all keys together are no client's business.
#[derive(Clone)]
pub struct WithKey<F> {
    limiter: KeyedRateLimiter,
    key: F,
    /// So many limits are those of all keys together.
    of_all: usize,
}

/// A key's hash.
#[derive(Clone, Copy)]
pub struct Key(Whose);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl<Req, K: Hash, F: Fn(&Req) -> K> Subjects<Req> for WithKey<F> {
    type Subject = Key;

    fn subject(&self, request: &Req) -> Key {
        Key(self.limiter.0.print(&(self.key)(request)))
    }
}

impl<F> Quotas for WithKey<F> {
    type Subject = Key;

    fn policies(&self) -> Result<Vec<Policy>, InvalidName> {
        let limits: Vec<_> = self.limiter.limits().skip(self.of_all).collect();
        Policy::all(self.limiter.0.origin.name(), &limits)
    }

    fn quotas(&self, key: &Key, tell: &mut dyn FnMut(Remaining)) {
        remaining(&self.limiter.0, key.0, self.of_all, tell);
    }
}

impl<F> Obeys for WithKey<F> {
    type Subject = Key;

    fn restrict(&self, key: &Key, units: u32, time: Duration) {
        restrict(&self.limiter.0, key.0, units, time);
    }
}

impl<F> fmt::Debug for WithKey<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithKey").field("limiter", &self.limiter).finish_non_exhaustive()
    }
}

fn remaining(inner: &Inner, whose: Whose, skipped: usize, tell: &mut dyn FnMut(Remaining)) {
    let now = clock::now();
    for Quota { limit, remaining, reset_after, .. } in inner.quotas(whose, now).into_iter().skip(skipped) {
        // Until one more would be let through, by this limit or another: then it is true whatever the others are. But it is
        // no longer than this limit remembers.
        let one_more = inner.places.wait(inner, whose, remaining.saturating_add(1), now);
        let one_more = Duration::from_nanos(one_more);
        let own = if reset_after.is_zero() { memory(limit) } else { reset_after };
        tell(Remaining { units: remaining, window: Some(one_more.min(own)) });
    }
}

/// The time in which all units come back.
const fn memory(limit: Limit) -> Duration {
    match limit.algorithm() {
        Algorithm::Gcra { burst } => Duration::from_nanos(limit.interval().saturating_mul(burst as u64)),
        _ => limit.rate().period(),
    }
}

use std::{sync::Arc, time::Duration};

use buttress_core::Origin;

use crate::{
    HttpCache,
    cache::Inner,
    rules::{CacheName, Kind, Rules},
};

/// Settings of an [`HttpCache`], all with a default: made by [`HttpCache::builder`].
#[derive(Debug, Clone)]
#[must_use = "it does nothing before it is built"]
pub struct HttpCacheBuilder {
    name: String,
    rules: Rules,
    max_weight: u64,
    max_body: u64,
    says_status: bool,
    scheme: &'static str,
}

impl HttpCacheBuilder {
    pub(crate) fn new(name: &str, kind: Kind) -> Self {
        let rules = match kind {
            Kind::Private => Rules::private(),
            Kind::Shared => Rules::shared(),
        };
        Self {
            name: name.into(),
            rules,
            max_weight: 64 << 20,
            max_body: 4 << 20,
            says_status: true,
            scheme: "http",
        }
    }

    /// What all stored responses may weigh together, in bytes. Default: 64 MiB.
    pub const fn max_weight(mut self, bytes: u64) -> Self {
        self.max_weight = bytes;
        self
    }

    /// The longest body that is stored, in bytes. A longer one goes through. Default: 4 MiB.
    ///
    /// What weighs more than its part of `max_weight`, which is divided among a few shards for each processor, is not
    /// stored either.
    pub const fn max_body(mut self, bytes: u64) -> Self {
        self.max_body = bytes;
        self
    }

    /// How long a response counts as fresh that says nothing of it: see [`Rules::with_heuristic`]. Default: a tenth of the
    /// time since it was last modified, one day at most.
    pub const fn heuristic(mut self, fraction: f64, most: Duration) -> Self {
        self.rules = self.rules.with_heuristic(fraction, most);
        self
    }

    /// For how long after its time a response is served when the service fails, where neither it nor the request says so:
    /// see [`Rules::with_stale_if_error`]. Default: not at all.
    pub const fn stale_if_error(mut self, for_at_most: Duration) -> Self {
        self.rules = self.rules.with_stale_if_error(for_at_most);
        self
    }

    /// Obeys `CDN-Cache-Control` (RFC 9213): see [`Rules::with_cdn_cache_control`]. Default: not.
    pub const fn cdn_cache_control(mut self) -> Self {
        self.rules = self.rules.with_cdn_cache_control();
        self
    }

    /// For a server behind TLS: a request of HTTP/1.1 does not say that it came by `https`, and one of HTTP/2 does. Both are
    /// then for the same address. Default: a request that does not say counts as `http`.
    pub const fn https(mut self) -> Self {
        self.scheme = "https";
        self
    }

    /// Says nothing in `Cache-Status`: that a response was stored already tells who asks that somebody else has asked.
    pub const fn without_cache_status(mut self) -> Self {
        self.says_status = false;
        self
    }

    /// The cache.
    #[must_use]
    pub fn build(self) -> HttpCache {
        let status_name = self.says_status.then(|| status_name(&self.name)).flatten();
        let origin = Origin::new("http-cache", &self.name);
        HttpCache {
            inner: Arc::new(Inner::new(
                origin,
                self.rules,
                status_name,
                self.scheme,
                (self.max_body, self.max_weight),
            )),
        }
    }
}

/// What cannot stand in a field is left out.
fn status_name(name: &str) -> Option<CacheName> {
    let name: String = name.chars().filter(|letter| (' '..='~').contains(letter)).collect();
    CacheName::try_new(&name).ok()
}

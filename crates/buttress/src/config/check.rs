//! All of a configuration, before anything of it is started.

use std::time::Duration;

use super::{
    Bulkhead, Cache, CircuitBreaker, Config, Database, Health, Http, RateLimit, Redis, Retry, Telemetry,
    clients::{MOST_BYTES, shown_url},
    say,
    wrong::{Wrong, at_most_30_years, from_to, some_time},
};

impl Config {
    /// The first value that cannot be, with its whole key.
    pub(crate) fn find_wrong(&self) -> Result<(), Wrong> {
        let ordinary =
            |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
        if self.name.is_empty() || self.name.len() > 63 || !ordinary(&self.name) {
            let fix = "write 1 to 63 letters, digits, `_`, `-` and `.`";
            return Err(Wrong::new("name", format!("{:?}", self.name), fix));
        }
        if let Some(database) = &self.database {
            database.find_wrong(&self.name).map_err(|wrong| wrong.below("database"))?;
        }
        if let Some(redis) = &self.redis {
            redis.find_wrong().map_err(|wrong| wrong.below("redis"))?;
        }
        if let Some(cache) = &self.cache {
            cache.find_wrong(self.redis.is_some()).map_err(|wrong| wrong.below("cache"))?;
        }
        for (name, http) in &self.http {
            if !is_name_of_api(name) {
                return Err(Wrong::hidden(format!("http.{}", say::segment(name)), NAME_OF_API));
            }
            http.find_wrong(name).map_err(|wrong| wrong.below(name).below("http"))?;
        }
        self.telemetry.find_wrong().map_err(|wrong| wrong.below("telemetry"))?;
        self.health.find_wrong().map_err(|wrong| wrong.below("health"))
    }
}

pub(super) const NAME_OF_API: &str = "write its name with 1 to 64 letters, digits, `_` and `-`";

pub(super) fn is_name_of_api(name: &str) -> bool {
    let ordinary = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(ordinary)
}

impl Database {
    fn find_wrong(&self, app: &str) -> Result<(), Wrong> {
        self.client(app)?;
        some_time("timeout", self.timeout)?;
        self.attempt_timeout.map_or(Ok(self.timeout), |limit| some_time("attempt_timeout", limit))?;
        let layers =
            (self.rate_limit.as_ref(), Some(&self.retry), &self.circuit_breaker, self.bulkhead.as_ref());
        find_wrong_layer(layers)
    }
}

impl Redis {
    fn find_wrong(&self) -> Result<(), Wrong> {
        drop(self.client()?);
        some_time("timeout", self.timeout)?;
        let layers =
            (self.rate_limit.as_ref(), self.retry.as_ref(), &self.circuit_breaker, self.bulkhead.as_ref());
        find_wrong_layer(layers)
    }
}

impl Http {
    fn find_wrong(&self, name: &str) -> Result<(), Wrong> {
        drop(self.api(name)?);
        drop(self.builder(name)?);
        self.attempt_timeout.map_or(Ok(self.timeout), |limit| some_time("attempt_timeout", limit))?;
        let layers =
            (self.rate_limit.as_ref(), Some(&self.retry), &self.circuit_breaker, self.bulkhead.as_ref());
        find_wrong_layer(layers)
    }
}

/// What stands before a part.
type Layers<'a> = (Option<&'a RateLimit>, Option<&'a Retry>, &'a CircuitBreaker, Option<&'a Bulkhead>);

fn find_wrong_layer((rate_limit, retry, circuit_breaker, bulkhead): Layers<'_>) -> Result<(), Wrong> {
    if let Some(rate_limit) = rate_limit {
        rate_limit.limit().map_err(|wrong| wrong.below("rate_limit"))?;
    }
    if let Some(retry) = retry {
        retry.backoff().map_err(|wrong| wrong.below("retry"))?;
    }
    circuit_breaker.settings().map_err(|wrong| wrong.below("circuit_breaker"))?;
    if let Some(bulkhead) = bulkhead {
        bulkhead.limit().map_err(|wrong| wrong.below("bulkhead"))?;
        bulkhead.queue().map_err(|wrong| wrong.below("bulkhead"))?;
    }
    Ok(())
}

impl Cache {
    fn find_wrong(&self, has_redis: bool) -> Result<(), Wrong> {
        some_time("ttl", self.ttl)?;
        from_to("max_bytes", self.max_bytes, 1, MOST_BYTES)?;
        at_most_30_years("stale_while_revalidate", self.stale_while_revalidate)?;
        at_most_30_years("stale_if_error", self.stale_if_error)?;
        if self.shared && !has_redis {
            let fix = "it is shared through Redis, and there is no table `[redis]`: add it with its `url`";
            return Err(Wrong::new("shared", true, fix));
        }
        Ok(())
    }
}

impl Telemetry {
    fn find_wrong(&self) -> Result<(), Wrong> {
        at_most_30_years("slow_call", self.slow_call)?;
        if let Some(address) = self.dashboard.filter(|_| cfg!(not(feature = "dashboard"))) {
            let fix = "it needs the feature `dashboard` of buttress, turn it on in Cargo.toml";
            return Err(Wrong::new("dashboard", format!("\"{address}\""), fix));
        }
        let Some(url) = &self.otlp else { return Ok(()) };
        let wrong = |fix: String| Wrong { value: shown_url(url), ..Wrong::hidden("otlp", fix) };
        if cfg!(not(feature = "otlp")) {
            return Err(wrong(
                "it needs the feature `otlp` of buttress, turn it on in Cargo.toml".to_owned(),
            ));
        }
        let is_url = url.parse::<http::Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
                && uri.host().is_some_and(|host| !host.is_empty())
                && matches!(uri.path(), "" | "/")
                && uri.query().is_none()
        });
        if !is_url {
            let fix = "write scheme, host and port of a collector for OTLP over gRPC, such as \"http://localhost:4317\"";
            return Err(wrong(fix.to_owned()));
        }
        Ok(())
    }
}

impl Health {
    fn find_wrong(&self) -> Result<(), Wrong> {
        // A probe has a share of it, for each of the failures that make a part down, and a millisecond at least.
        let (least, most) = (Duration::from_millis(10), Duration::from_secs(86_400));
        if self.interval < least || self.interval > most {
            return Err(Wrong::duration("interval", self.interval, "write \"10ms\" to \"1day\""));
        }
        Ok(())
    }
}

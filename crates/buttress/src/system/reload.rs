use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use buttress_telemetry::Registry;

use super::{
    HttpService, Inner, ReloadError, StartError, explanation, http::Upstream, layers::Values, start::of_http,
};
use crate::{
    Config,
    config::{self, Wrong},
};

pub(super) fn reload(system: &Inner, new: Config) -> Result<(), ReloadError> {
    new.check()?;
    let mut config = system.config.lock().unwrap_or_else(PoisonError::into_inner);
    if system.gate.is_closed() {
        return Err(ReloadError::Closed);
    }
    let fixed = fixed(&config, &new);
    if !fixed.is_empty() {
        return Err(ReloadError::NeedsRestart(fixed));
    }

    // All that may fail comes first.
    let wrong = |wrong: Wrong| ReloadError::Start(StartError::wrong("configuration", &wrong));
    let database = new.database.as_ref().map(|part| Values::of_database(&new, part)).transpose();
    let database = database.map_err(wrong)?;
    let redis = new.redis.as_ref().map(|part| Values::of_redis(&new, part)).transpose().map_err(wrong)?;
    let before = system.http.load_full();
    let mut after: BTreeMap<String, Upstream> = BTreeMap::new();
    let mut changed = Vec::new();
    let registry = &system.registry;
    let mut added = Added { registry, services: Vec::new() };
    for (name, http) in &new.http {
        let upstream = match before.get(name) {
            Some(known) => {
                changed.push((known.service.clone(), http, Values::of_http(&new, http).map_err(wrong)?));
                known.service.clone().upstream(name, http).map_err(wrong)?
            }
            None => {
                let upstream = of_http(name, &new, http, registry, &system.gate);
                let upstream = upstream.map_err(ReloadError::Start)?;
                added.services.push(upstream.service.clone());
                upstream
            }
        };
        after.insert(name.clone(), upstream);
    }

    added.services.clear();
    if let (Some(part), Some(table), Some(values)) = (&system.database, &new.database, database) {
        part.client().set_slow_query(table.slow_query);
        // The bounds were checked.
        let _ = part.client().resize(table.pool_size, table.max_overflow);
        part.change(values, registry);
    }
    if let (Some(part), Some(values)) = (&system.redis, redis) {
        part.change(values, registry);
    }
    if let (Some(part), Some(table)) = (&system.cache, &new.cache) {
        part.set_ttl(table.ttl);
    }
    for (service, http, values) in changed {
        let _ = service.client().connections().set_max_connections_per_host(http.max_connections);
        service.change(values, registry);
    }
    let gone: Vec<Upstream> =
        before.iter().filter(|(name, _)| !after.contains_key(*name)).map(|(_, gone)| gone.clone()).collect();
    system.http.store(Arc::new(after));
    for upstream in gone {
        upstream.service.leave(registry);
    }
    *config = new;
    explanation::log(system);
    Ok(())
}

/// What was made for a change that may still fail. Dropped with anything in it, that is gone again.
struct Added<'a> {
    registry: &'a Registry,
    services: Vec<HttpService>,
}

impl Drop for Added<'_> {
    fn drop(&mut self) {
        self.services.iter().for_each(|service| service.leave(self.registry));
    }
}

/// The keys that differ and are read at the start alone. Each table is taken apart as a whole, so that a key that is added is
/// not forgotten here.
fn fixed(old: &Config, new: &Config) -> Vec<String> {
    let mut keys = Keys(Vec::new());
    let Config { name, database, redis, cache, http, telemetry, health } = old;
    keys.note("name", *name != new.name);
    keys.part("database", database, &new.database, |keys, old, new| {
        let config::Database {
            url,
            pool_size: _,
            max_overflow: _,
            wait_timeout,
            connect_timeout,
            slow_query: _,
            statement_mode,
            timeout: _,
            attempt_timeout: _,
            rate_limit: _,
            retry: _,
            circuit_breaker: _,
            bulkhead: _,
        } = old;
        keys.note("database.url", *url != new.url);
        keys.note("database.wait_timeout", *wait_timeout != new.wait_timeout);
        keys.note("database.connect_timeout", *connect_timeout != new.connect_timeout);
        keys.note("database.statement_mode", *statement_mode != new.statement_mode);
    });
    keys.part("redis", redis, &new.redis, |keys, old, new| {
        let config::Redis {
            url,
            pool_size,
            command_timeout,
            connect_timeout,
            timeout: _,
            rate_limit: _,
            retry: _,
            circuit_breaker: _,
            bulkhead: _,
        } = old;
        keys.note("redis.url", *url != new.url);
        keys.note("redis.pool_size", *pool_size != new.pool_size);
        keys.note("redis.command_timeout", *command_timeout != new.command_timeout);
        keys.note("redis.connect_timeout", *connect_timeout != new.connect_timeout);
    });
    keys.part("cache", cache, &new.cache, |keys, old, new| {
        let config::Cache { ttl: _, max_bytes, shared, stale_while_revalidate, stale_if_error } = old;
        keys.note("cache.max_bytes", *max_bytes != new.max_bytes);
        keys.note("cache.shared", *shared != new.shared);
        let changed = *stale_while_revalidate != new.stale_while_revalidate;
        keys.note("cache.stale_while_revalidate", changed);
        keys.note("cache.stale_if_error", *stale_if_error != new.stale_if_error);
    });
    for (name, old) in http {
        let Some(new) = new.http.get(name) else { continue };
        let config::Http {
            base_url: _,
            bearer: _,
            headers: _,
            max_connections: _,
            connect_timeout,
            redirects: _,
            max_answer: _,
            timeout: _,
            attempt_timeout: _,
            rate_limit: _,
            retry: _,
            circuit_breaker: _,
            bulkhead: _,
        } = old;
        keys.note(&format!("http.{name}.connect_timeout"), *connect_timeout != new.connect_timeout);
    }
    let config::Telemetry { slow_call: _, dashboard, otlp } = telemetry;
    keys.note("telemetry.dashboard", *dashboard != new.telemetry.dashboard);
    keys.note("telemetry.otlp", *otlp != new.telemetry.otlp);
    let config::Health { interval } = health;
    keys.note("health.interval", *interval != new.health.interval);
    keys.0
}

struct Keys(Vec<String>);

impl Keys {
    fn note(&mut self, key: &str, differs: bool) {
        if differs {
            self.0.push(format!("`{key}`"));
        }
    }

    fn part<T>(
        &mut self,
        table: &str,
        old: &Option<T>,
        new: &Option<T>,
        inside: impl FnOnce(&mut Self, &T, &T),
    ) {
        match (old, new) {
            (Some(old), Some(new)) => inside(self, old, new),
            (None, None) => {}
            _ => self.note(table, true),
        }
    }
}

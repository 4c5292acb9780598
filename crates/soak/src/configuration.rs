//! The gateway's configuration file, and what it is changed into while the gateway works.

use std::net::SocketAddr;

/// The gateway's own, for everything that a request goes through; see `router` in `examples/gateway/app/routes.rs`.
pub(crate) const DEADLINE_MS: u64 = 3_000;
/// So many requests at once at the upstream.
pub(crate) const BULKHEAD: usize = 8;
/// So long may a call wait for that.
pub(crate) const BULKHEAD_WAIT_MS: u64 = 200;
/// So many calls in each [`RATE_PERIOD_MS`].
pub(crate) const RATE: usize = 100;
pub(crate) const RATE_PERIOD_MS: u64 = 2_000;
/// Of one attempt.
pub(crate) const ATTEMPT_MS: u64 = 450;

/// Where the gateway's backends are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backends {
    pub(crate) postgres: SocketAddr,
    pub(crate) redis: SocketAddr,
    pub(crate) upstream: SocketAddr,
}

/// Where the database is.
pub(crate) fn database_url(address: SocketAddr) -> String {
    format!("postgres://postgres@{address}/postgres")
}

/// What it starts with, and every right one but for a few thresholds: none allows more than these.
pub(crate) fn right(backends: Backends, turn: usize) -> String {
    let Backends { postgres, redis, upstream } = backends;
    let database = database_url(postgres);
    let (total, slow, failures) = [(2_000, 500, 5), (1_900, 400, 6), (1_800, 300, 4)][turn % 3];
    let (rate, bulkhead) = [(RATE, BULKHEAD), (RATE - 4, BULKHEAD - 1)][turn % 2];
    let policies = |table: &str| {
        format!("[{table}.circuit_breaker]\nopen_for = \"500ms\"\nramp = \"500ms\"\nfailures = {failures}\n")
    };
    let retry = |table: &str| format!("[{table}.retry]\ndelay = \"10ms\"\nmax_delay = \"100ms\"\n");
    format!(
        r#"name = "soak"

[database]
url = "{database}"
pool_size = 8
max_overflow = 0
wait_timeout = "500ms"
connect_timeout = "1s"
slow_query = "500ms"
timeout = "{total}ms"
attempt_timeout = "{ATTEMPT_MS}ms"
{database_retry}{database_policies}
[redis]
url = "redis://{redis}"
command_timeout = "50ms"
connect_timeout = "2s"
{redis_policies}
[cache]
ttl = "2s"

[http.profiles]
base_url = "http://{upstream}"
max_answer = 65536
timeout = "{total}ms"
attempt_timeout = "{ATTEMPT_MS}ms"
rate_limit = {{ limit = {rate}, per = "{RATE_PERIOD_MS}ms" }}
bulkhead = {{ limit = {bulkhead}, queue = 64, max_wait = "{BULKHEAD_WAIT_MS}ms" }}
{profiles_retry}{profiles_policies}
[telemetry]
slow_call = "{slow}ms"

[health]
interval = "2s"
"#,
        database_retry = retry("database"),
        database_policies = policies("database"),
        redis_policies = policies("redis"),
        profiles_retry = retry("http.profiles"),
        profiles_policies = policies("http.profiles"),
    )
}

/// One that must be refused, in one of several ways.
pub(crate) fn wrong(backends: Backends, turn: usize) -> String {
    let right = right(backends, 0);
    match turn % 4 {
        0 => right.replace("failures = 5", "failures = 0"),
        1 => right.replace("pool_size", "pool_sise"),
        2 => right.replace("[telemetry]", "[telemetry"),
        // It would take a restart.
        _ => right.replace("connect_timeout = \"2s\"", "connect_timeout = \"3s\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_one_differs_from_the_right_one() {
        let any = SocketAddr::from(([127, 0, 0, 1], 1));
        let backends = Backends { postgres: any, redis: any, upstream: any };
        for turn in 0..4 {
            assert_ne!(wrong(backends, turn), right(backends, 0), "{turn}");
        }
    }
}

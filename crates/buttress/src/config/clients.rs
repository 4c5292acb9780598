//! The clients that the parts stand for.

use std::{num::NonZero, thread};

use buttress_http::{ApiBuilder, ApiClient, ApiError, Body, Builder, HttpClient, InvalidSetting, Roots};
use buttress_postgres::{InvalidConfig, PostgresConfig};
use buttress_redis::RedisConfig;
use bytes::Bytes;
use http_body_util::Empty;

use super::{
    Database, Http, Redis, Secret, StatementMode,
    parts::default,
    wrong::{Wrong, at_most_30_years, from_to, some_time},
};

/// The most that a Postgres server can be configured for.
const MOST_POSTGRES: usize = 262_143;
/// The most that a Redis server takes by default.
const MOST_REDIS: usize = 10_000;
const MOST_HTTP: usize = 1_000_000;
const MOST_REDIRECTS: usize = 100;
/// A tebibyte.
pub(super) const MOST_BYTES: u64 = 1 << 40;

impl Database {
    /// With all defaults.
    pub fn new(url: impl Into<Secret>) -> Self {
        Self {
            url: url.into(),
            pool_size: default::pool_size(),
            max_overflow: default::max_overflow(),
            wait_timeout: default::five_seconds(),
            connect_timeout: default::five_seconds(),
            slow_query: default::a_second(),
            statement_mode: StatementMode::default(),
            timeout: default::thirty_seconds(),
            attempt_timeout: None,
            rate_limit: None,
            retry: super::Retry::default(),
            circuit_breaker: super::CircuitBreaker::default(),
            bulkhead: None,
        }
    }

    /// What the server shows of it is the name of the app.
    pub(crate) fn client(&self, app: &str) -> Result<PostgresConfig, Wrong> {
        let config = PostgresConfig::from_url(self.url.expose())
            .map_err(|invalid| Wrong::hidden("url", database_url(&invalid)))?;
        from_to("pool_size", self.pool_size, 1, MOST_POSTGRES)?;
        from_to("max_overflow", self.max_overflow, 0, MOST_POSTGRES - self.pool_size)?;
        let mode = match self.statement_mode {
            StatementMode::Named => buttress_postgres::StatementMode::Named,
            StatementMode::Unnamed => buttress_postgres::StatementMode::Unnamed,
        };
        Ok(config
            .with_name("database")
            .with_application_name(app)
            .with_pool_size(self.pool_size)
            .with_max_overflow(self.max_overflow)
            .with_wait_timeout(at_most_30_years("wait_timeout", self.wait_timeout)?)
            .with_connect_timeout(some_time("connect_timeout", self.connect_timeout)?)
            .with_slow_query(at_most_30_years("slow_query", self.slow_query)?)
            .with_statement_mode(mode))
    }
}

/// Without a piece of the URL: what is an unknown option to Postgres may be the end of a password.
fn database_url(invalid: &InvalidConfig) -> String {
    match invalid {
        InvalidConfig::UnknownOption(_) => {
            "behind its `?` is an option that Postgres does not know, write it as libpq has it, such as `sslmode=require`"
                .to_owned()
        }
        InvalidConfig::RootCertificates(_) => {
            "its `sslrootcert` cannot be used, name a PEM file of certificates that this process may read".to_owned()
        }
        other => other.to_string(),
    }
}

impl Redis {
    /// With all defaults.
    pub fn new(url: impl Into<Secret>) -> Self {
        Self {
            url: url.into(),
            pool_size: None,
            command_timeout: default::a_second(),
            connect_timeout: default::five_seconds(),
            timeout: default::five_seconds(),
            rate_limit: None,
            retry: None,
            circuit_breaker: super::CircuitBreaker::default(),
            bulkhead: None,
        }
    }

    pub(crate) fn client(&self) -> Result<RedisConfig, Wrong> {
        let config = RedisConfig::from_url(self.url.expose())
            .map_err(|invalid| Wrong::hidden("url", invalid.to_string()))?;
        let connections = match self.pool_size {
            Some(size) => from_to("pool_size", size, 1, MOST_REDIS)?,
            None => thread::available_parallelism().map_or(1, NonZero::get).min(20),
        };
        Ok(config
            .with_name("redis")
            .with_pool_size(connections)
            .with_command_timeout(some_time("command_timeout", self.command_timeout)?)
            .with_connect_timeout(some_time("connect_timeout", self.connect_timeout)?))
    }
}

impl Http {
    /// With all defaults.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            bearer: None,
            headers: std::collections::BTreeMap::new(),
            max_connections: default::max_connections(),
            connect_timeout: default::five_seconds(),
            redirects: default::redirects(),
            max_answer: default::max_answer(),
            timeout: default::thirty_seconds(),
            attempt_timeout: None,
            rate_limit: None,
            retry: super::Retry::default(),
            circuit_breaker: super::CircuitBreaker::default(),
            bulkhead: None,
        }
    }

    pub(crate) fn client(&self, name: &str) -> Result<HttpClient<Body>, Wrong> {
        self.builder(name)?.build().map_err(|invalid| Wrong::hidden("base_url", invalid.to_string()))
    }

    /// Building takes the roots of TLS apart, which a check has no use for.
    pub(super) fn builder(&self, name: &str) -> Result<Builder, Wrong> {
        from_to("max_connections", self.max_connections, 1, MOST_HTTP)?;
        Ok(HttpClient::builder()
            .name(name)
            .connect_timeout(some_time("connect_timeout", self.connect_timeout)?)
            .max_connections_per_host(self.max_connections)
            .pool_max_idle_per_host(self.max_connections)
            // Redirects lead to other hosts, too.
            .max_connections(self.max_connections.max(1000)))
    }

    /// All of its settings are right.
    pub(crate) fn api(&self, name: &str) -> Result<ApiBuilder, Wrong> {
        let probe = || ApiClient::builder("check").base_url("http://localhost");
        let timeout = some_time("timeout", self.timeout)?;
        from_to("redirects", self.redirects, 0, MOST_REDIRECTS)?;
        from_to("max_answer", self.max_answer as u64, 1, MOST_BYTES)?;
        try_out(probe().base_url(&self.base_url)).map_err(|invalid| {
            let fix = match self.base_url.contains('@') {
                true => "credentials have no place in it, give them by `bearer`, or by `headers`".to_owned(),
                false => format!("{}; write it as `https://host/path`", why(&invalid)),
            };
            // It has no place for a secret, and may have been given one all the same.
            Wrong { value: shown_url(&self.base_url), ..Wrong::hidden("base_url", fix) }
        })?;
        if is_https(&self.base_url) && !has_tls() {
            return Err(Wrong::new("base_url", format!("{:?}", self.base_url), NO_TLS));
        }
        let mut api = ApiClient::builder(name)
            .base_url(&self.base_url)
            .timeout(timeout)
            .redirects(self.redirects)
            .max_answer(self.max_answer);
        if let Some(token) = &self.bearer {
            try_out(probe().bearer(token.expose())).map_err(|invalid| {
                Wrong::hidden("bearer", format!("{}; write it as its issuer gave it", why(&invalid)))
            })?;
            api = api.bearer(token.expose());
        }
        let mut before: Vec<&str> = self.bearer.iter().map(|_| "authorization").collect();
        for (header, value) in &self.headers {
            try_out(probe().credential_header(header.as_str(), value.expose()))
                .map_err(|invalid| wrong_header(header, value, &invalid))?;
            if before.iter().any(|known| known.eq_ignore_ascii_case(header)) {
                let fix =
                    "the same header is given twice (`bearer` is the header `authorization`), remove one";
                return Err(Wrong::hidden(format!("headers.{header}"), fix));
            }
            before.push(header);
            api = api.credential_header(header.as_str(), value.expose());
        }
        Ok(api)
    }
}

fn wrong_header(name: &str, value: &Secret, invalid: &InvalidSetting) -> Wrong {
    if http::HeaderName::try_from(name).is_err() {
        // It may be the value, exchanged with the name.
        return Wrong::hidden("headers", "the name of a header is malformed, write letters, digits and `-`");
    }
    let fix = match http::HeaderValue::try_from(value.expose()) {
        Err(_) => "its value has characters that no header can have, such as line feeds".to_owned(),
        Ok(_) => format!("{}: remove it", why(invalid)),
    };
    Wrong::hidden(format!("headers.{name}"), fix)
}

const NO_TLS: &str =
    "https needs the feature `tls-ring` or `tls-aws-lc-rs`, turn one on in Cargo.toml, or write http";

/// Builds a client of no service, for what the builder says.
fn try_out(builder: ApiBuilder) -> Result<(), InvalidSetting> {
    let nothing = tower::service_fn(async |_: http::Request<Body>| {
        Ok::<_, ApiError>(http::Response::new(Empty::<Bytes>::new()))
    });
    builder.build(nothing).map(drop)
}

/// Without the knob, which is the key here.
fn why(invalid: &InvalidSetting) -> String {
    let whole = invalid.to_string();
    whole.strip_prefix(invalid.knob()).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&whole).to_owned()
}

/// Nothing of one that may have a credential in it.
pub(super) fn shown_url(url: &str) -> String {
    if url.contains(['@', '?', '#']) { String::new() } else { format!("{url:?}") }
}

fn is_https(url: &str) -> bool {
    url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
}

/// Whether any crate of the program turned TLS on. Asking for roots is what needs it.
fn has_tls() -> bool {
    HttpClient::builder().roots(Roots::Mozilla).build::<Body>().is_ok()
}

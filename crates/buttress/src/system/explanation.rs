use buttress_http::StatusClassifier;
use buttress_postgres::SqlStateClassifier;
use buttress_redis::KindClassifier;
use buttress_telemetry::{HttpClient, Plain, RegisterError, Registry};

use super::{
    Inner,
    admission::Gate,
    layers::{Layers, Values},
};
use crate::{
    Config, ConfigError,
    config::Wrong,
    explain::{Explanation, Severity, Stack},
};

pub(super) fn of_system(system: &Inner) -> Explanation {
    let database = system.database.iter().map(super::Database::explained);
    let redis = system.redis.iter().map(super::Redis::explained);
    let http = system.http.load();
    let http = http.values().map(|upstream| upstream.service.explained());
    Explanation::of(database.chain(redis).chain(http))
}

/// What contradicts itself, to whoever reads the log.
pub(super) fn log(system: &Inner) {
    for finding in of_system(system).findings() {
        match finding.severity {
            Severity::Error => tracing::error!("the configuration contradicts itself: {finding}"),
            Severity::Warning => tracing::warn!("the configuration: {finding}"),
            _ => {}
        }
    }
}

impl Config {
    /// What the stacks of this configuration would do at worst, and where its numbers contradict each other. Nothing is started,
    /// and no server is asked.
    ///
    /// ```
    /// use buttress::Config;
    ///
    /// let config = Config::from_toml(
    ///     r#"
    ///     [http.stock]
    ///     base_url = "http://stock.example"
    ///     timeout = "10s"
    ///     attempt_timeout = "15s"
    ///     "#,
    /// )?;
    /// let explanation = config.explain()?;
    /// assert!(explanation.has_errors(), "an attempt may take longer than the whole: {explanation}");
    /// # Ok::<_, buttress::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// Where the configuration is wrong.
    pub fn explain(&self) -> Result<Explanation, ConfigError> {
        self.check()?;
        let stacks = self.stacks().map_err(|unfit| ConfigError::of_program(unfit.0))?;
        Ok(Explanation::of(stacks))
    }

    /// The layers as a start would make them, seen by nobody.
    fn stacks(&self) -> Result<Vec<Stack>, Unfit> {
        let (registry, gate) = (Registry::new(), Gate::new(&self.name));
        let mut stacks = Vec::new();
        if let Some(database) = &self.database {
            let values = Values::of_database(self, database)?;
            let layers = Layers::new("database", &registry, &gate, Plain, SqlStateClassifier, values)?;
            let settings = database.client(&self.name)?.settings();
            stacks.push(layers.explained("database").settings("postgres", "database", settings.into_vec()));
        }
        if let Some(redis) = &self.redis {
            let values = Values::of_redis(self, redis)?;
            let layers = Layers::new("redis", &registry, &gate, Plain, KindClassifier, values)?;
            let settings = redis.client()?.settings();
            stacks.push(layers.explained("redis").settings("redis", "redis", settings.into_vec()));
        }
        for (name, http) in &self.http {
            let name = &format!("http.{name}");
            let values = Values::of_http(self, http)?;
            let layers = Layers::new(name, &registry, &gate, HttpClient, StatusClassifier, values)?;
            stacks.push(layers.explained(name).layer(&http.client(name)?.connections()));
        }
        Ok(stacks)
    }
}

/// What the check would have found.
struct Unfit(Wrong);

impl From<Wrong> for Unfit {
    fn from(wrong: Wrong) -> Self {
        Self(wrong)
    }
}

impl From<RegisterError> for Unfit {
    fn from(error: RegisterError) -> Self {
        Self(Wrong::hidden("name", error.to_string()))
    }
}

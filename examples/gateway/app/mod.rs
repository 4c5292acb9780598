//! The application: what it is made of, and how it starts and ends.

mod orders;
mod problem;
mod routes;
mod servers;
mod settings;
mod stand_in;

use std::time::Duration;

use axum::Router;
use buttress::{Config, ConfigError, ShutdownReport, System, postgres::Query};

pub(crate) use self::settings::Settings;
use self::{servers::Servers, stand_in::StandIn};

/// A running application, without its listener.
pub(crate) struct App {
    system: System,
    description: String,
    settings: Settings,
    servers: Servers,
}

const SCHEMA: &str = "create table if not exists users (
    id bigint generated always as identity primary key,
    name text not null,
    email text not null unique
)";

/// What is said where a database would be needed.
const NO_DATABASE: &str =
    "there is no database: set DATABASE_URL, or run `cargo xtask setup` to install a throw-away one";

/// What is said where the workers' queue would be needed.
const NO_QUEUE: &str =
    "there is no queue for the orders' jobs: start `cargo run --example worker` on the same DATABASE_URL";

impl App {
    /// Connects to every backend.
    ///
    /// # Errors
    /// One line that says what is wrong with the configuration.
    pub(crate) async fn start(settings: Settings) -> Result<Self, String> {
        let known = settings.config().map_err(|error| settings.told(&error.into()))?;
        let servers = Servers::start(&known, settings.throw_away).await?;
        let config = whole(known, &servers);
        let description = servers.describe(&config);
        let has_database = config.database.is_some();
        let system = System::start(config).await.map_err(|error| settings.told(&error))?;
        if has_database {
            for (of, table) in [("users", SCHEMA), ("orders", orders::SCHEMA)] {
                let made = system.execute(Query::new(table)).await;
                made.map_err(|error| format!("the table of the {of}: {error}"))?;
            }
        } else {
            // It can be asked, and is no good.
            system.health().begin_maintenance(NO_DATABASE);
        }
        Ok(Self { system, description, settings, servers })
    }

    /// What it runs on, in a few words.
    pub(crate) fn description(&self) -> &str {
        &self.description
    }

    /// Its routes.
    pub(crate) fn router(&self) -> Router {
        routes::router(&self.system)
    }

    /// What it calls with.
    pub(crate) fn system(&self) -> &System {
        &self.system
    }

    /// Works by what the file says now.
    ///
    /// # Errors
    /// One line; then nothing was changed.
    #[allow(dead_code, reason = "a test that includes this module reloads the program itself")]
    pub(crate) fn reload(&self) -> Result<(), String> {
        let new = self.settings.config().map_err(|error: ConfigError| error.to_string())?;
        self.system.reload(whole(new, &self.servers)).map_err(|error| error.to_string())
    }

    /// Lets the calls on their way end, and closes the connections.
    pub(crate) async fn close(self, deadline: Duration) -> ShutdownReport {
        self.system.shutdown(deadline).await
    }
}

/// With what stands in for missing tables. The cache is shared where there is a Redis to do it.
fn whole(mut config: Config, servers: &Servers) -> Config {
    servers.complete(&mut config);
    let is_shared = config.redis.is_some();
    config.cache.get_or_insert_default().shared |= is_shared;
    config
}

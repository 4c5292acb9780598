use std::time::Duration;

use crate::{InvalidConfig, PostgresConfig};

/// What the pool does beyond keeping connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PoolKnobs {
    pub(crate) max_overflow: usize,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) max_lifetime: Option<Duration>,
}

/// The most that a server can be configured for (`max_connections`).
const MOST_CONNECTIONS: usize = 262_143;

impl Default for PoolKnobs {
    /// HikariCP, sqlx and bb8 agree on these times. (SQLAlchemy's `pool_recycle` is off by default.)
    fn default() -> Self {
        Self {
            max_overflow: 0,
            idle_timeout: Some(Duration::from_secs(10 * 60)),
            max_lifetime: Some(Duration::from_secs(30 * 60)),
        }
    }
}

impl PostgresConfig {
    /// So many connections beyond the pool's size, while all of those are in use. An extra one is closed again when as
    /// many as the pool's size are idle and nobody waits, as SQLAlchemy's `max_overflow` has it. Default: 0.
    #[must_use]
    pub fn with_max_overflow(mut self, connections: usize) -> Self {
        self.knobs.max_overflow = connections;
        self
    }

    /// A connection that nobody has used for so long is closed: up to a quarter of that later, at most 30 s. `None`:
    /// never. Default: 10 min.
    #[must_use]
    pub fn with_idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.knobs.idle_timeout = limit.into();
        self
    }

    /// A connection that is older is not handed out any more, and is closed as soon as it is idle; in use it stays. Each
    /// ends up to a quarter earlier, by chance, so that not all end at once. `None`: it may grow as old as it likes.
    /// Default: 30 min.
    #[must_use]
    pub fn with_max_lifetime(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.knobs.max_lifetime = limit.into();
        self
    }

    pub(crate) fn validate_knobs(&self) -> Result<(), InvalidConfig> {
        check_size(self.pool_size, self.knobs.max_overflow)?;
        for (which, limit) in [("idle", self.knobs.idle_timeout), ("lifetime", self.knobs.max_lifetime)] {
            if limit.is_some_and(|limit| limit.is_zero()) {
                return Err(InvalidConfig::ZeroTimeout(which));
            }
        }
        Ok(())
    }
}

pub(crate) fn check_size(pool_size: usize, max_overflow: usize) -> Result<(), InvalidConfig> {
    let most = pool_size.saturating_add(max_overflow);
    match () {
        () if pool_size == 0 => Err(InvalidConfig::EmptyPool),
        () if most > MOST_CONNECTIONS => Err(InvalidConfig::TooManyConnections(most)),
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused() {
        let config = || PostgresConfig::from_url("postgres://h").unwrap();
        let never = config().with_idle_timeout(None).with_max_lifetime(None).with_max_overflow(30);
        assert_eq!(never.validate(), Ok(()));
        let zero = config().with_idle_timeout(Duration::ZERO).validate();
        assert_eq!(zero, Err(InvalidConfig::ZeroTimeout("idle")));
        let zero = config().with_max_lifetime(Duration::ZERO).validate();
        assert_eq!(zero, Err(InvalidConfig::ZeroTimeout("lifetime")));
        assert_eq!(config().with_max_overflow(262_123).validate(), Ok(()));
        for many in [262_124, usize::MAX] {
            let refused = config().with_max_overflow(many).validate();
            assert!(matches!(refused, Err(InvalidConfig::TooManyConnections(_))), "{many}: {refused:?}");
        }
        assert!(matches!(
            config().with_pool_size(usize::MAX).validate(),
            Err(InvalidConfig::TooManyConnections(_))
        ));
    }
}

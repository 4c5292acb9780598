use std::{error::Error as StdError, fmt, time::Duration};

use buttress_core::{Setting, SettingValue};
use fred::types::{
    RespVersion,
    config::{
        Config, ConnectionConfig, PerformanceConfig, ReconnectPolicy, ServerConfig, UnresponsiveConfig,
    },
};

/// The system's option is a signed number of milliseconds, and refuses more.
const LONGEST_USER_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// Where a Redis server is, and how much of everything a client may take. All but the URL has a default.
#[derive(Clone)]
#[must_use]
pub struct RedisConfig {
    driver: Config,
    pub(crate) name: String,
    pub(crate) command_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) max_queued: usize,
    pub(crate) max_in_flight: usize,
    pub(crate) pool_size: usize,
    pub(crate) lazy: bool,
    /// How many of the driver's notifications may wait for whoever listens to them.
    pub(crate) max_notifications: usize,
    reconnect: (Duration, Duration),
}

impl RedisConfig {
    /// By a URL:
    /// - `redis://[[user:]password@]host[:port][/database]`
    /// - `redis+unix:///path/to/socket`
    /// - `redis-cluster://host[:port]?node=host2:port2&...`
    /// - `redis-sentinel://host[:port][/database]?sentinelServiceName=name&node=host2:port2&...`
    ///
    /// `valkey` does for `redis`.
    ///
    /// # Errors
    /// [`InvalidUrl`]; it never shows the URL, which may hold a password.
    pub fn from_url(url: &str) -> Result<Self, InvalidUrl> {
        let (scheme, _) = url.split_once("://").ok_or(InvalidUrl::Malformed)?;
        let (service, kind) = match scheme.find(['+', '-']) {
            Some(at) => scheme.split_at(at),
            None => (scheme, ""),
        };
        match (service, kind) {
            ("redis" | "valkey", "" | "+unix" | "-cluster" | "-sentinel") => {}
            ("rediss" | "valkeys", _) => return Err(InvalidUrl::Tls),
            _ => return Err(InvalidUrl::Scheme),
        }
        let driver = Config::from_url(url).map_err(|_may_show_the_url| InvalidUrl::Malformed)?;
        if matches!(&driver.server, ServerConfig::Unix { path } if path.as_os_str().is_empty()) {
            return Err(InvalidUrl::Malformed);
        }
        Ok(Self {
            driver,
            name: "default".to_owned(),
            command_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(5),
            max_queued: 10_000,
            max_in_flight: 10_000,
            pool_size: 1,
            lazy: false,
            max_notifications: 32,
            reconnect: (Duration::from_millis(100), Duration::from_secs(5)),
        })
    }

    /// The instance's name in rejections and metrics. `default` by default.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How long a command may take, from its call to its answer, reconnecting included. 1 s by default; at least 1 ms.
    pub fn with_command_timeout(mut self, limit: Duration) -> Self {
        self.command_timeout = limit.max(Duration::from_millis(1));
        self
    }

    /// How long a connection attempt may take, and each step of its greeting. 5 s by default; at least 1 ms.
    pub fn with_connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit.max(Duration::from_millis(1));
        self
    }

    /// How many commands may wait to be sent on one connection, because it is being made or does not take them fast
    /// enough. More are refused at once. 10,000 by default; at least 1.
    pub fn with_max_queued(mut self, count: usize) -> Self {
        self.max_queued = count.max(1);
        self
    }

    /// How many commands may be on their way on one connection: sent and not answered, those included that timed out,
    /// until their late answer comes or the connection is made anew. More are refused at once; those that wait to be
    /// sent by then still go. 10,000 by default; at least 1.
    pub fn with_max_in_flight(mut self, count: usize) -> Self {
        self.max_in_flight = count.max(1);
        self
    }

    /// The delays between attempts to reconnect, which never end: from `first`, doubling, up to `cap`, with jitter.
    /// 100 ms to 5 s by default; at least 1 ms.
    pub fn with_reconnect(mut self, first: Duration, cap: Duration) -> Self {
        let first = first.max(Duration::from_millis(1));
        self.reconnect = (first, cap.max(first));
        self
    }

    /// How many connections share the commands. 1 by default, and at least: all callers' commands are pipelined on
    /// it, and more of them cost throughput on few cores. With several, the order of commands is lost.
    pub fn with_pool_size(mut self, count: usize) -> Self {
        self.pool_size = count.max(1);
        self
    }

    /// Does not wait for the server at the start: [`Redis::connect`](crate::Redis::connect) returns at once, and goes
    /// on trying in the background, as after a lost connection. A wrong password shows only in the commands' timeouts.
    pub fn lazy(mut self) -> Self {
        self.lazy = true;
        self
    }

    /// The database's index: what the URL says, or else 0.
    #[must_use]
    pub fn database(&self) -> u8 {
        self.driver.database.unwrap_or(0)
    }

    /// The knobs by their names, as the client tells them too. Nothing of the URL, of which much is secret.
    #[must_use]
    pub fn settings(&self) -> Box<[Setting]> {
        let count = |count: usize| SettingValue::Count(count as u64);
        let (first, cap) = self.reconnect;
        Box::new([
            Setting::new("command_timeout", SettingValue::Duration(self.command_timeout)),
            Setting::new("connect_timeout", SettingValue::Duration(self.connect_timeout)),
            Setting::new("max_queued", count(self.max_queued)),
            Setting::new("max_in_flight", count(self.max_in_flight)),
            Setting::new("reconnect_first", SettingValue::Duration(first)),
            Setting::new("reconnect_cap", SettingValue::Duration(cap)),
            Setting::new("pool_size", count(self.pool_size)),
            Setting::new("lazy", if self.lazy { SettingValue::Word("on") } else { SettingValue::Off }),
        ])
    }

    #[cfg(feature = "cache")]
    pub(crate) fn is_clustered(&self) -> bool {
        self.driver.server.is_clustered()
    }

    /// After how much silence a connection with unanswered commands is given up and made anew.
    pub(crate) fn silence(&self) -> Duration {
        self.command_timeout.saturating_mul(10).max(Duration::from_secs(1))
    }

    pub(crate) fn driver(&self) -> (Config, PerformanceConfig, ConnectionConfig) {
        // The driver swallows an error reply that is not UTF-8 where it speaks RESP2, and from then on gives every
        // caller the next one's answer. With RESP3 such a reply ends the connection.
        let config = Config { fail_fast: !self.lazy, version: RespVersion::RESP3, ..self.driver.clone() };
        let performance = PerformanceConfig {
            default_command_timeout: self.command_timeout,
            broadcast_channel_capacity: self.max_notifications,
            ..Default::default()
        };
        let mut connection = ConnectionConfig {
            connection_timeout: self.connect_timeout,
            internal_command_timeout: self.connect_timeout,
            // Whoever uses the driver by itself gets "at most once", too.
            max_command_attempts: 1,
            // Following is for us. The driver cannot follow what it must send once, and where a slot is on its way to
            // another node, it takes another caller's answer for that of `ASKING`.
            max_redirections: 0,
            // The queue is bounded here and not there: a full queue of the driver takes no order to reconnect, and
            // without it the driver's task ends for ever.
            max_command_buffer_len: 0,
            unresponsive: UnresponsiveConfig {
                max_timeout: Some(self.silence()),
                interval: self.silence() / 4,
            },
            ..Default::default()
        };
        connection.tcp.nodelay = Some(true);
        #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
        {
            // A write that the peer never takes holds up the driver's task, and then nothing above can help.
            connection.tcp.user_timeout = Some(self.silence().min(LONGEST_USER_TIMEOUT));
        }
        (config, performance, connection)
    }

    pub(crate) fn policy(&self) -> ReconnectPolicy {
        let (first, cap) = (millis(self.reconnect.0), millis(self.reconnect.1));
        // The driver's jitter ends at the cap. A cap of each connection's own keeps them apart through a long outage.
        let cap = fastrand::u32(cap - cap / 5..=cap).max(first);
        let mut policy = ReconnectPolicy::new_exponential(0, first, cap, 2);
        policy.set_jitter(first);
        policy
    }

    /// Hosts, ports and paths; nothing secret.
    pub(crate) fn server(&self) -> String {
        match &self.driver.server {
            ServerConfig::Unix { path } => path.display().to_string(),
            server => {
                let hosts = server.hosts();
                hosts.iter().map(|host| format!("{}:{}", host.host, host.port)).collect::<Vec<_>>().join(", ")
            }
        }
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("server", &self.server())
            .field("name", &self.name)
            .field("command_timeout", &self.command_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("max_queued", &self.max_queued)
            .field("max_in_flight", &self.max_in_flight)
            .field("reconnect", &self.reconnect)
            .field("pool_size", &self.pool_size)
            .field("lazy", &self.lazy)
            .finish_non_exhaustive()
    }
}

/// Why a URL leads to no Redis server. It does not show the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidUrl {
    /// It cannot be read as a URL of the given forms.
    Malformed,
    /// Its scheme is not one of the given ones.
    Scheme,
    /// It asks for TLS, which this crate does not have yet.
    Tls,
}

impl fmt::Display for InvalidUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the URL of the Redis server is malformed; write redis://user:password@host:port/0",
            Self::Scheme => {
                "the scheme of the Redis server's URL must be redis, redis+unix, redis-cluster or redis-sentinel"
            }
            Self::Tls => {
                "TLS to Redis (rediss) is not supported yet; use redis:// to a local TLS tunnel, or a private network"
            }
        })
    }
}

impl StdError for InvalidUrl {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_lead_nowhere_are_named_and_not_shown() {
        for (url, error) in [
            ("", InvalidUrl::Malformed),
            ("localhost:6379", InvalidUrl::Malformed),
            ("redis://", InvalidUrl::Malformed),
            ("redis://host:port", InvalidUrl::Malformed),
            ("redis://:hunter2@host/seven", InvalidUrl::Malformed),
            ("http://host", InvalidUrl::Scheme),
            ("redis-cluster+unix://host", InvalidUrl::Scheme),
            ("rediss://host", InvalidUrl::Tls),
            ("rediss-cluster://host", InvalidUrl::Tls),
        ] {
            assert_eq!(RedisConfig::from_url(url).map(|_| ()), Err(error), "{url}");
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let config = RedisConfig::from_url("redis://alice:hunter2@cache.internal:6380/3").unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_eq!(config.server(), "cache.internal:6380");
        assert_eq!(config.driver.password.as_deref(), Some("hunter2"));
        let config = RedisConfig::from_url("redis+unix:///run/redis.sock").unwrap();
        assert_eq!(config.server(), "/run/redis.sock");
    }

    #[test]
    fn reconnecting_never_ends_and_keeps_its_bounds() {
        let config = RedisConfig::from_url("redis://host").unwrap();
        let mut policy = config.policy();
        let delays: Vec<_> = (0..10_000).map(|_| policy.next_delay().expect("it never ends")).collect();
        assert!((100..200).contains(&delays[0]), "{delays:?}");
        assert!(delays[5..].iter().all(|delay| (3200..=5000).contains(delay)));
        assert_eq!(policy.max_attempts(), 0);
    }

    #[test]
    fn no_setting_can_make_it_useless() {
        let config = RedisConfig::from_url("redis://host").unwrap();
        let config = config
            .with_command_timeout(Duration::ZERO)
            .with_connect_timeout(Duration::ZERO)
            .with_max_queued(0)
            .with_max_in_flight(0);
        let config = config.with_pool_size(0).with_reconnect(Duration::ZERO, Duration::ZERO);
        assert_eq!((config.max_queued, config.max_in_flight, config.pool_size), (1, 1, 1));
        assert_eq!(
            config.command_timeout,
            Duration::from_millis(1),
            "zero would mean no limit to the driver"
        );
        assert!(config.policy().next_delay().unwrap() >= 1);
        let _any = config.with_reconnect(Duration::MAX, Duration::MAX).policy().next_delay();
    }
}

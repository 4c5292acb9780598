//! Reads a connection URL. The driver's own errors quote the URL, password and all, where it is malformed; ours never do.

use std::{error::Error, fmt};

use tokio_postgres::Config;

/// Why a configuration cannot be. It never shows the password.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// It does not begin with `postgres://` or `postgresql://`.
    Scheme,
    /// There is an `@` behind the host.
    UnescapedAt,
    /// There is no host.
    NoHost,
    /// A port is not a number from 1 to 65535.
    Port,
    /// There is no option of this name.
    UnknownOption(Box<str>),
    /// An option has no value.
    NoValue,
    /// This option's value is wrong.
    Value(&'static str),
    /// Percent-encoded bytes are not UTF-8.
    Encoding,
    /// This option asks for TLS, which is not offered yet.
    Tls(&'static str),
    /// The pool would have no connections.
    EmptyPool,
    /// This timeout is zero, so that nothing could ever be done in time.
    ZeroTimeout(&'static str),
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme => f.write_str("the Postgres URL must begin with postgres:// or postgresql://"),
            Self::UnescapedAt => f.write_str(
                "the Postgres URL has an @ behind its host: an @ in the user, password or database is written %40",
            ),
            Self::NoHost => f.write_str("the Postgres URL has no host: postgres://user@host:5432/database"),
            Self::Port => f.write_str("the Postgres URL's port must be a number from 1 to 65535"),
            Self::UnknownOption(name) => write!(f, "the Postgres URL has an unknown option `{name}`"),
            Self::NoValue => f.write_str("the Postgres URL has an option without a value: write ?name=value"),
            Self::Value(name) => write!(f, "the Postgres URL has a wrong value for its option `{name}`"),
            Self::Encoding => {
                f.write_str("the Postgres URL has percent-encoded bytes that are not UTF-8 outside of its password")
            }
            Self::Tls(option) => write!(
                f,
                "the Postgres URL asks for TLS ({option}), which is not offered yet: no connection is made without it"
            ),
            Self::EmptyPool => f.write_str("a Postgres pool needs at least one connection"),
            Self::ZeroTimeout(which) => write!(f, "the Postgres pool's {which} timeout must not be zero"),
        }
    }
}

/// Says what is wrong too, since it is what a `main` that returns the error prints.
impl fmt::Debug for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InvalidConfig({self})")
    }
}

impl Error for InvalidConfig {}

/// The options that the driver knows.
const OPTIONS: [&str; 19] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslmode",
    "sslnegotiation",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
];

pub(crate) fn read(url: &str) -> Result<Config, InvalidConfig> {
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let rest = rest.ok_or(InvalidConfig::Scheme)?;
    // As the driver does it: what stands before the first `@` is user and password.
    let tail = rest.split_once('@').map_or(rest, |(_, tail)| tail);
    if tail.contains('@') {
        return Err(InvalidConfig::UnescapedAt);
    }
    let hosts = tail.split(['/', '?']).next().unwrap_or_default();
    hosts.split(',').try_for_each(check_port)?;
    let options = tail.split_once('?').map_or("", |(_, options)| options);
    options.split('&').filter(|pair| !pair.is_empty()).try_for_each(check_option)?;

    let config: Config = url.parse().map_err(|_| InvalidConfig::Encoding)?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(InvalidConfig::NoHost);
    }
    Ok(config)
}

fn check_port(host: &str) -> Result<(), InvalidConfig> {
    // The colons of an IPv6 address stand in brackets.
    let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
    match after.split_once(':') {
        Some((_, "")) | None => Ok(()),
        Some((_, port)) => match port.parse::<u16>() {
            Ok(1..) => Ok(()),
            _ => Err(InvalidConfig::Port),
        },
    }
}

fn check_option(pair: &str) -> Result<(), InvalidConfig> {
    let (name, value) = pair.split_once('=').ok_or(InvalidConfig::NoValue)?;
    let Some(name) = OPTIONS.into_iter().find(|known| *known == name) else {
        return Err(InvalidConfig::UnknownOption(name.chars().take(40).collect()));
    };
    match (name, value) {
        ("sslmode", "require" | "verify-ca" | "verify-full") => return Err(InvalidConfig::Tls("sslmode")),
        ("sslnegotiation", "direct") => return Err(InvalidConfig::Tls("sslnegotiation")),
        ("channel_binding", "require") => return Err(InvalidConfig::Tls("channel_binding")),
        _ => {}
    }
    // Alone, so that it is known whose value is wrong without reading the driver's message.
    let alone: Result<Config, _> = format!("postgres://host?{name}={value}").parse();
    alone.map(drop).map_err(|_| InvalidConfig::Value(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_libpq_would() {
        for url in [
            "postgres://localhost",
            "postgresql://u:p%40ss@[::1]:5433,other:5434/db?application_name=a%20b&connect_timeout=3",
            "postgres:///db?host=%2Ftmp%2Fpg&user=postgres",
            "postgres://u@%2Ftmp%2Fpg/db",
            "postgres://host/db?sslmode=prefer",
            "postgres://host/db?load_balance_hosts=random",
        ] {
            assert!(read(url).is_ok(), "{url}: {:?}", read(url));
        }
    }

    #[test]
    fn names_what_is_wrong() {
        for (url, expected) in [
            ("", InvalidConfig::Scheme),
            ("mysql://h", InvalidConfig::Scheme),
            ("host=h password=x", InvalidConfig::Scheme),
            ("postgres://", InvalidConfig::NoHost),
            ("postgres://u:p@/db", InvalidConfig::NoHost),
            ("postgres://u:p@x@h/db", InvalidConfig::UnescapedAt),
            ("postgres://u:p/@x/@h/db", InvalidConfig::UnescapedAt),
            ("postgres://h:99999/db", InvalidConfig::Port),
            ("postgres://h:0/db", InvalidConfig::Port),
            ("postgres://h,[::1]:x/db", InvalidConfig::Port),
            ("postgres://h/db?nonsense=1", InvalidConfig::UnknownOption("nonsense".into())),
            ("postgres://h/db?user", InvalidConfig::NoValue),
            ("postgres://h/db?connect_timeout=soon", InvalidConfig::Value("connect_timeout")),
            ("postgres://h/db?sslmode=maybe", InvalidConfig::Value("sslmode")),
            ("postgres://h/%ff", InvalidConfig::Encoding),
            ("postgres://h/db?sslmode=require", InvalidConfig::Tls("sslmode")),
            ("postgres://h/db?sslmode=verify-full", InvalidConfig::Tls("sslmode")),
            ("postgres://h/db?channel_binding=require", InvalidConfig::Tls("channel_binding")),
        ] {
            assert_eq!(read(url).err(), Some(expected), "{url}");
        }
    }

    #[test]
    fn no_error_shows_the_password() {
        for url in [
            "postgres//u:hunter2@h",
            "postgres://u:hunter2@:h:x/db",
            "postgres://u:a@hunter2@h/db",
            "postgres://u:a@hunter2/b@h/db",
            "postgres://u:hunter2/db",
            "postgres://u:hunter2@h:x/db",
            "postgres://u:hunter2@h/db?nonsense=1",
            "postgres://u:hunter2@h/%ff",
            "postgres://u:hunter2@h/db?password=hunter2&keepalives=hunter2",
            "postgres://u:hunter2@/db",
            "postgres://u:hunter2@h/db?sslmode=require",
        ] {
            let error = read(url).expect_err(url);
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(!error.to_string().contains('\n'));
        }
    }
}

//! Reads a connection URL. The driver's own errors quote the URL, password and all, where it is malformed; ours never do.

use std::{error::Error, fmt};

use tokio_postgres::{Config, config::SslMode};

use crate::tls;

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
    /// This option asks for TLS, which takes one of the features `tls-ring` and `tls-aws-lc-rs`.
    Tls(&'static str),
    /// An [`InsertBatch`](crate::InsertBatch) into this table cannot be.
    Insert {
        /// The table.
        table: Box<str>,
        /// Why.
        why: Box<str>,
    },
    /// The file of `sslrootcert` cannot be used: which, and why.
    RootCertificates(Box<str>),
    /// The pool would have no connections.
    EmptyPool,
    /// The pool may have more connections, with its overflow, than any server can have.
    TooManyConnections(usize),
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
                "the Postgres URL asks for TLS ({option}), which takes the feature tls-ring or tls-aws-lc-rs: \
                 no connection is made without it"
            ),
            Self::Insert { table, why } => write!(f, "no rows can be inserted into `{table}` like this: {why}"),
            Self::RootCertificates(why) => write!(f, "the root certificates of sslrootcert cannot be used: {why}"),
            Self::EmptyPool => f.write_str("a Postgres pool needs at least one connection"),
            Self::TooManyConnections(most) => {
                write!(f, "a Postgres pool of {most} connections is more than a server can have (262143)")
            }
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

/// The options that the driver knows, and `sslrootcert`.
const OPTIONS: [&str; 20] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
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

/// What a URL says.
pub(crate) struct Read {
    /// With the mode that holds.
    pub(crate) driver: Config,
    /// Whether it asks for nothing that has to do with TLS.
    pub(crate) is_silent_about_tls: bool,
    /// The file of root certificates.
    pub(crate) roots: Option<String>,
}

pub(crate) fn read(url: &str) -> Result<Read, InvalidConfig> {
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
    let mut ssl = Ssl::default();
    let mut drivers = Vec::new();
    for pair in options.split('&').filter(|pair| !pair.is_empty()) {
        if check_option(pair, &mut ssl)? {
            drivers.push(pair);
        }
    }

    let before = url[..url.len() - options.len()].trim_end_matches('?');
    let separator = if drivers.is_empty() { "" } else { "?" };
    let for_driver = format!("{before}{separator}{}", drivers.join("&"));
    let mut driver: Config = for_driver.parse().map_err(|_| InvalidConfig::Encoding)?;
    if driver.get_hosts().is_empty() && driver.get_hostaddrs().is_empty() {
        return Err(InvalidConfig::NoHost);
    }
    driver.ssl_mode(ssl.mode()?);
    let is_silent_about_tls = ssl.said.is_none() && ssl.asked_by.is_none();
    Ok(Read { driver, is_silent_about_tls, roots: ssl.roots })
}

/// What the options say of TLS.
#[derive(Default)]
struct Ssl {
    said: Option<SslMode>,
    /// The option that cannot be had without TLS.
    asked_by: Option<&'static str>,
    roots: Option<String>,
}

impl Ssl {
    /// Nothing said is no TLS, with the features as without them: these add up over a whole program, and one that a
    /// stranger turned on must not change whom a connection trusts.
    fn mode(&self) -> Result<SslMode, InvalidConfig> {
        let asked_by = self.asked_by.or(self.roots.as_ref().map(|_| "sslrootcert"));
        match (self.said, asked_by) {
            (Some(SslMode::Disable | SslMode::Prefer), Some(option)) if self.asked_by.is_some() => {
                Err(InvalidConfig::Value(option))
            }
            (Some(SslMode::Disable), _) | (None, None) => Ok(SslMode::Disable),
            (Some(SslMode::Prefer), None) if !tls::OFFERED => Ok(SslMode::Disable),
            (_, asked_by) if !tls::OFFERED => Err(InvalidConfig::Tls(asked_by.unwrap_or("sslmode"))),
            (Some(SslMode::Prefer), _) => Ok(SslMode::Prefer),
            _ => Ok(SslMode::Require),
        }
    }
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

/// Whether the option is one for the driver.
fn check_option(pair: &str, ssl: &mut Ssl) -> Result<bool, InvalidConfig> {
    let (name, value) = pair.split_once('=').ok_or(InvalidConfig::NoValue)?;
    let Some(name) = OPTIONS.into_iter().find(|known| *known == name) else {
        return Err(InvalidConfig::UnknownOption(name.chars().take(40).collect()));
    };
    // Alone, so that it is known whose value is wrong without reading the driver's message.
    let alone = |name: &'static str, as_name: &str| {
        let url = format!("postgres://host?{as_name}={value}");
        url.parse::<Config>().map_err(|_| InvalidConfig::Value(name))
    };
    match (name, value) {
        ("sslmode", mode) => {
            ssl.said = Some(match mode {
                "disable" => SslMode::Disable,
                "prefer" => SslMode::Prefer,
                // What is spoken to is always verified in full.
                "require" | "verify-ca" | "verify-full" => SslMode::Require,
                _ => return Err(InvalidConfig::Value("sslmode")),
            });
            return Ok(false);
        }
        ("sslrootcert", _) => {
            // An option whose value the driver decodes and keeps as it is.
            let decoded = alone(name, "application_name")?;
            ssl.roots = decoded.get_application_name().map(str::to_owned);
            return Ok(false);
        }
        ("sslnegotiation", "direct") | ("channel_binding", "require") => ssl.asked_by = Some(name),
        _ => {}
    }
    alone(name, name).map(|_| true)
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
            assert!(read(url).is_ok(), "{url}: {:?}", read(url).err());
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
            (
                "postgres://h/db?sslmode=disable&channel_binding=require",
                InvalidConfig::Value("channel_binding"),
            ),
            ("postgres://h/db?sslnegotiation=direct&sslmode=prefer", InvalidConfig::Value("sslnegotiation")),
            ("postgres://h/db?sslrootcert=%ff", InvalidConfig::Value("sslrootcert")),
        ] {
            assert_eq!(read(url).err(), Some(expected), "{url}");
        }
    }

    #[test]
    fn tls_is_spoken_where_it_is_asked_for() {
        use SslMode::{Disable, Prefer, Require};
        for (options, offered, without) in [
            ("", Disable, Ok(Disable)),
            ("?connect_timeout=3", Disable, Ok(Disable)),
            ("?sslmode=disable", Disable, Ok(Disable)),
            ("?sslmode=disable&sslrootcert=/ca", Disable, Ok(Disable)),
            ("?sslmode=prefer", Prefer, Ok(Disable)),
            ("?sslmode=prefer&sslrootcert=/ca", Prefer, Err(InvalidConfig::Tls("sslrootcert"))),
            ("?sslmode=require", Require, Err(InvalidConfig::Tls("sslmode"))),
            ("?sslmode=verify-ca", Require, Err(InvalidConfig::Tls("sslmode"))),
            ("?user=u&sslmode=verify-full", Require, Err(InvalidConfig::Tls("sslmode"))),
            ("?sslrootcert=%2Fa%20b", Require, Err(InvalidConfig::Tls("sslrootcert"))),
            ("?sslnegotiation=direct", Require, Err(InvalidConfig::Tls("sslnegotiation"))),
            ("?channel_binding=require", Require, Err(InvalidConfig::Tls("channel_binding"))),
        ] {
            let expected = if tls::OFFERED { Ok(offered) } else { without };
            let found = read(&format!("postgres://h/db{options}"));
            assert_eq!(found.map(|read| read.driver.get_ssl_mode()), expected, "{options}");
        }
        assert!(read("postgres://h").unwrap().is_silent_about_tls);
        assert!(!read("postgres://h?sslmode=disable").unwrap().is_silent_about_tls);
    }

    #[test]
    fn what_is_taken_out_leaves_the_rest_as_it_is() {
        for url in [
            "postgres://u:p%3Fx@h/db?user=v&sslmode=disable&application_name=x",
            "postgres://u:p?x@h/db?sslmode=disable&user=v&application_name=x&",
        ] {
            let driver = read(url).unwrap().driver;
            assert_eq!((driver.get_user(), driver.get_password()), (Some("v"), Some(&b"p?x"[..])), "{url}");
            assert_eq!(
                (driver.get_dbname(), driver.get_application_name()),
                (Some("db"), Some("x")),
                "{url}"
            );
        }
        if tls::OFFERED {
            let read = read("postgres://h?sslrootcert=%2Fetc%2Fmy%20ca.pem").unwrap();
            assert_eq!(read.roots.as_deref(), Some("/etc/my ca.pem"));
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
            "postgres://u:hunter2@h/db?sslmode=hunter2",
            "postgres://u:hunter2@h/db?sslmode=prefer&sslnegotiation=direct",
        ] {
            let error = read(url).err().expect(url);
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(!error.to_string().contains('\n'));
        }
    }
}

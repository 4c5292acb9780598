//! Reads a connection URL. The driver's own errors quote the URL, password and all, where it is malformed; ours never do.

use std::{error::Error, fmt};

use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};

use crate::tls;

/// Why a configuration cannot be. It never shows the password.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// It does not begin with `postgres://` or `postgresql://`.
    Scheme,
    /// There is an `@` behind the host, or what stands before it has a `/` or an option in it.
    UnescapedAt,
    /// There is no host.
    NoHost,
    /// A host's bracket is not closed, or something other than a port stands behind it.
    Brackets,
    /// A port is not a number from 1 to 65535.
    Port,
    /// There is no option of this name.
    UnknownOption(Box<str>),
    /// Behind the option `password` there is something that is no option.
    UnescapedAnd,
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
                "the Postgres URL has an @ behind its host: an @ in the user, password, database or an option is written \
                 %40, and a / in the user or password %2F",
            ),
            Self::NoHost => f.write_str("the Postgres URL has no host: postgres://user@host:5432/database"),
            Self::Brackets => f.write_str("the Postgres URL's IPv6 address must be written [address] or [address]:port"),
            Self::Port => f.write_str("the Postgres URL's port must be a number from 1 to 65535"),
            Self::UnknownOption(name) => write!(f, "the Postgres URL has an unknown option `{name}`"),
            Self::UnescapedAnd => f.write_str(
                "the Postgres URL has something behind its option `password` that is no option: an & in it is written %26",
            ),
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
    let (head, tail) = rest.split_once('@').unwrap_or(("", rest));
    if tail.contains('@') || goes_past_the_host(head) {
        return Err(InvalidConfig::UnescapedAt);
    }
    let hosts = tail.split(['/', '?']).next().unwrap_or_default();
    hosts.split(',').try_for_each(check_port)?;
    let options = tail.split_once('?').map_or("", |(_, options)| options);
    let mut ssl = Ssl::default();
    let mut drivers = Vec::new();
    let mut behind_password = false;
    for pair in options.split('&').filter(|pair| !pair.is_empty()) {
        let is_drivers = check_option(pair, &mut ssl).map_err(|error| match error {
            // It may be the rest of the password.
            InvalidConfig::UnknownOption(_) if behind_password => InvalidConfig::UnescapedAnd,
            error => error,
        })?;
        if is_drivers {
            drivers.push(pair);
        }
        behind_password |= pair.starts_with("password=");
    }

    let before = url[..url.len() - options.len()].trim_end_matches('?');
    let separator = if drivers.is_empty() { "" } else { "?" };
    let for_driver = format!("{before}{separator}{}", drivers.join("&"));
    let mut driver: Config = for_driver.parse().map_err(|_| InvalidConfig::Encoding)?;
    check_hosts(&driver)?;
    let mode = ssl.mode()?;
    driver.ssl_mode(mode);
    let is_silent_about_tls = ssl.said.is_none() && ssl.asked_by.is_none();
    // Where there is no TLS, nobody reads them, nor needs a feature for that.
    let roots = ssl.roots.filter(|_| mode != SslMode::Disable);
    Ok(Read { driver, is_silent_about_tls, roots })
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

/// Whether what stands before the first `@` is more than user and password, so that the driver would take host, options
/// and all for these, and what comes behind for the host.
fn goes_past_the_host(head: &str) -> bool {
    let options = head.split_once('?').map_or("", |(_, options)| options);
    let mut names = options.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, _)| name);
    head.contains('/') || names.any(|name| OPTIONS.contains(&name))
}

fn check_port(host: &str) -> Result<(), InvalidConfig> {
    // The colons of an IPv6 address stand in brackets.
    let after = match host.strip_prefix('[').map(|address| address.split_once(']')) {
        None => host,
        Some(Some((_, after))) if after.is_empty() || after.starts_with(':') => after,
        Some(_) => return Err(InvalidConfig::Brackets),
    };
    match after.split_once(':') {
        Some((_, "")) | None => Ok(()),
        Some((_, port)) => match port.parse::<u16>() {
            Ok(1..) => Ok(()),
            _ => Err(InvalidConfig::Port),
        },
    }
}

/// What the driver would only say whenever it is to connect.
fn check_hosts(driver: &Config) -> Result<(), InvalidConfig> {
    let (hosts, addresses, ports) = (driver.get_hosts(), driver.get_hostaddrs(), driver.get_ports());
    let is_name = |host: &Host, wrong: fn(&str) -> bool| matches!(host, Host::Tcp(name) if wrong(name));
    let most = hosts.len().max(addresses.len());
    if most == 0 || hosts.iter().any(|host| is_name(host, str::is_empty)) {
        return Err(InvalidConfig::NoHost);
    }
    // Of the option of this name the driver takes one alone.
    if hosts.iter().any(|host| is_name(host, |name| name.contains(','))) {
        return Err(InvalidConfig::Value("host"));
    }
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err(InvalidConfig::Value("hostaddr"));
    }
    if ports.contains(&0) || (ports.len() > 1 && ports.len() != most) {
        return Err(InvalidConfig::Value("port"));
    }
    Ok(())
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
mod tests;

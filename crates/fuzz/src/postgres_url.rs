use buttress_postgres::PostgresConfig;

use crate::cost::bounded;

/// A part of a password.
const SECRET: &str = "hunter2";

/// The URL of a database: neither an error nor the configuration shows its password.
///
/// The input: the URL. What has `hunter2` in it is a password.
///
/// # Panics
/// Where that does not hold.
pub fn postgres_url(data: &[u8]) {
    let Ok(url) = std::str::from_utf8(data) else { return };
    // It would be read.
    if url.contains("sslrootcert") {
        return;
    }
    let read = bounded(data, 64 << 10, 64, || PostgresConfig::from_url(url));
    match read {
        Ok(config) => {
            let shown = format!("{config:?} {:?}", config.settings());
            assert!(!is_in_password_alone(url) || !shown.contains(SECRET), "{shown}");
        }
        Err(error) => {
            for shown in [error.to_string(), format!("{error:?}")] {
                assert!(!shown.contains(SECRET) || is_name_of_option(url), "{url:?}: {shown}");
                assert!(!shown.contains('\n') || url.contains('\n'), "{shown:?}");
            }
        }
    }
}

/// Between the first colon and the first `@`, or in the value of an option that is called so, and nowhere else.
fn is_in_password_alone(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (head, tail) = rest.split_once('@').unwrap_or(("", rest));
    let user = head.split(':').next().unwrap_or_default();
    let (hosts, options) = tail.split_once('?').unwrap_or((tail, ""));
    let elsewhere = options.split('&').filter(|option| !option.starts_with("password="));
    [user, hosts].into_iter().chain(elsewhere).all(|part| !part.contains(SECRET))
}

/// An option that there is not is named, but not behind a password, of which it may be the rest.
fn is_name_of_option(url: &str) -> bool {
    let tail = url.split_once('@').map_or(url, |(_, tail)| tail);
    let Some((_, options)) = tail.split_once('?') else { return false };
    options
        .split('&')
        .take_while(|option| option.split('=').next() != Some("password"))
        .any(|option| option.contains(SECRET))
}

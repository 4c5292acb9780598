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
        // The driver would take all that stands before the @ for user and password.
        ("postgres://h/db?sslmode=require&user=me@tenant", InvalidConfig::UnescapedAt),
        ("postgres://h:5432?sslmode=require&application_name=a@b", InvalidConfig::UnescapedAt),
        ("postgres://h?user=me@tenant", InvalidConfig::UnescapedAt),
        ("postgres://h/d@b", InvalidConfig::UnescapedAt),
        ("postgres://:5432/db", InvalidConfig::NoHost),
        ("postgres://h,,i/db", InvalidConfig::NoHost),
        ("postgres:///db?host=", InvalidConfig::NoHost),
        // What the driver would say each time it is to connect.
        ("postgres:///db?host=h,i", InvalidConfig::Value("host")),
        ("postgres://h/db?port=5433", InvalidConfig::Value("port")),
        ("postgres:///db?host=h&port=1,2", InvalidConfig::Value("port")),
        ("postgres:///db?host=h&port=0", InvalidConfig::Value("port")),
        ("postgres://h/db?hostaddr=127.0.0.1,127.0.0.2", InvalidConfig::Value("hostaddr")),
        ("postgres://h:99999/db", InvalidConfig::Port),
        ("postgres://h:0/db", InvalidConfig::Port),
        ("postgres://h,[::1]:x/db", InvalidConfig::Port),
        ("postgres://[::1/db", InvalidConfig::Brackets),
        ("postgres://h,[::1]x/db", InvalidConfig::Brackets),
        ("postgres://h/db?nonsense=1", InvalidConfig::UnknownOption("nonsense".into())),
        ("postgres://h/db?user", InvalidConfig::NoValue),
        ("postgres://h/db?connect_timeout=soon", InvalidConfig::Value("connect_timeout")),
        ("postgres://h/db?sslmode=maybe", InvalidConfig::Value("sslmode")),
        ("postgres://h/%ff", InvalidConfig::Encoding),
        ("postgres://h/db?sslmode=disable&channel_binding=require", InvalidConfig::Value("channel_binding")),
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
        assert_eq!((driver.get_dbname(), driver.get_application_name()), (Some("db"), Some("x")), "{url}");
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
        "postgres://u@h/db?password=a&hunter2=b",
        "postgres://h/db?user=me@tenant&password=hunter2",
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

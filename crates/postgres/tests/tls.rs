//! TLS with a real server, whose certificate an authority of the test's own has signed.
#![cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]

mod support;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use buttress_postgres::{
    Error, Postgres, PostgresConfig, Query, StatementMode,
    rustls::{
        ServerConfig,
        crypto::CryptoProvider,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use buttress_testkit::{PgBouncer, PostgresServer, TestDatabase};
use support::{
    SLEEPING,
    certificates::{Authority, Pair, providers},
    figure, spy, until_backends,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

const IS_ENCRYPTED: &str = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";

/// A server for `localhost` and 127.0.0.1. Whoever is not `postgres` has to prove it, and only `plain` may do so without TLS.
async fn server(authority: &Authority) -> PostgresServer {
    server_for(authority, &["localhost", "127.0.0.1"]).await
}

async fn server_for(authority: &Authority, hosts: &[&str]) -> PostgresServer {
    server_with(&authority.vouches_for(hosts, "server"), authority).await
}

async fn server_with(pair: &Pair, authority: &Authority) -> PostgresServer {
    let access = "local all all trust
        host all plain 127.0.0.1/32 trust
        hostssl all password 127.0.0.1/32 scram-sha-256
        hostssl all certified 127.0.0.1/32 cert
        hostssl all postgres 127.0.0.1/32 trust";
    let settings = ["ssl=on", "ssl_cert_file=mine.crt", "ssl_key_file=mine.key", "ssl_ca_file=authority.crt"];
    let files = [
        ("mine.crt", pair.certificate.as_str()),
        ("mine.key", &pair.key),
        ("authority.crt", &authority.pem()),
        ("pg_hba.conf", access),
    ];
    let server = PostgresServer::start_with(&settings, &files).await;
    let roles =
        "create role plain login; create role certified login; create role password login password 'hunter2'";
    spy(server.config()).await.batch_execute(roles).await.unwrap();
    server
}

fn url(server: &PostgresServer, user: &str, host: &str, options: &str) -> String {
    format!("postgres://{user}@{host}:{}/postgres?{options}", server.port())
}

fn config(url: &str) -> PostgresConfig {
    PostgresConfig::from_url(url).unwrap().with_pool_size(1)
}

async fn is_encrypted(config: PostgresConfig) -> Result<bool, Error> {
    Postgres::new(config).unwrap().query(Query::new(IS_ENCRYPTED)).await?.one()?.get(0)
}

/// Which is not sent, and tells why.
async fn refused(config: PostgresConfig) -> String {
    let error = is_encrypted(config).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }) && !error.sent(), "{error}");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    shown
}

/// With every feature on, two providers are compiled in, and rustls itself would not know which to take.
#[tokio::test]
async fn regression_36_no_set_of_providers_panics_and_certificates_are_verified() {
    let authority = Authority::new();
    let server = server(&authority).await;
    for mode in ["require", "verify-ca", "verify-full"] {
        let url = url(&server, "postgres:hunter2", "localhost", &format!("sslmode={mode}"));
        // Mozilla does not know of our authority.
        let error = refused(config(&url)).await;
        assert!(error.contains("UnknownIssuer"), "{error}");
        for provider in providers() {
            let config = config(&url).with_tls(authority.trusted_by(provider));
            assert!(is_encrypted(config).await.unwrap());
        }
    }
    assert!(CryptoProvider::get_default().is_none(), "nothing was installed for the whole process");
}

#[tokio::test]
async fn the_name_is_verified_be_it_an_address() {
    let authority = Authority::new();
    let trusted = || authority.trusted_by(providers().remove(0));
    let named = server_for(&authority, &["localhost"]).await;
    assert!(
        is_encrypted(config(&url(&named, "postgres", "localhost", "")).with_tls(trusted())).await.unwrap()
    );
    let addressed = server_for(&authority, &["127.0.0.1"]).await;
    assert!(
        is_encrypted(config(&url(&addressed, "postgres", "127.0.0.1", "")).with_tls(trusted()))
            .await
            .unwrap()
    );

    // The address may be given apart from the name, but not without one.
    let apart = url(&named, "postgres", "localhost", "hostaddr=127.0.0.1");
    assert!(is_encrypted(config(&apart).with_tls(trusted())).await.unwrap());
    let nameless =
        format!("postgres://postgres@/postgres?hostaddr=127.0.0.1&port={}&sslmode=require", named.port());
    let error = refused(config(&nameless).with_tls(trusted())).await;
    assert!(error.contains("no hostname provided"), "{error}");

    // Also by `verify-ca`, which elsewhere leaves the name alone.
    let error =
        refused(config(&url(&named, "postgres", "127.0.0.1", "sslmode=verify-ca")).with_tls(trusted()));
    let error = error.await;
    assert!(error.contains("certificate not valid for name \"127.0.0.1\""), "{error}");
    let error =
        refused(config(&url(&addressed, "postgres", "localhost", "sslmode=prefer")).with_tls(trusted()))
            .await;
    assert!(error.contains("certificate not valid for name \"localhost\""), "{error}");
}

#[tokio::test]
async fn a_server_without_tls_is_taken_where_it_need_not_have_it() {
    let test = TestDatabase::new().await;
    let with = |options: &str| config(&format!("{}?{options}", test.url()));
    for config in [
        with("sslmode=require"),
        with("sslmode=verify-full&password=hunter2"),
        with("").with_tls(Authority::new().trusted_by(providers().remove(0))),
    ] {
        let error = refused(config).await;
        assert!(error.contains("server does not support TLS"), "{error}");
    }
    for options in ["", "sslmode=disable", "sslmode=prefer"] {
        assert!(!is_encrypted(with(options)).await.unwrap(), "{options}");
    }
}

#[tokio::test]
async fn nothing_falls_back_to_plain_text() {
    let authority = Authority::new();
    let server = server(&authority).await;
    // This user gets in without TLS, so that a client that tried it would succeed.
    let plain = |options| config(&url(&server, "plain", "localhost", options));
    assert!(!is_encrypted(plain("sslmode=disable")).await.unwrap());
    assert!(!is_encrypted(plain("")).await.unwrap(), "the features change nothing by themselves");
    for options in ["sslmode=prefer", "sslmode=require"] {
        let error = refused(plain(options)).await;
        assert!(error.contains("UnknownIssuer"), "{error}");
    }
    let trusted = authority.trusted_by(providers().remove(0));
    assert!(is_encrypted(plain("sslmode=prefer").with_tls(trusted.clone())).await.unwrap());
    assert!(!is_encrypted(plain("sslmode=disable").with_tls(trusted)).await.unwrap());
}

#[tokio::test]
async fn root_certificates_come_from_a_file() {
    let authority = Authority::new();
    let server = server(&authority).await;
    let folder = server.unix_dir().join("roots");
    std::fs::create_dir(&folder).unwrap();
    let write = |name: &str, content: &str| {
        std::fs::write(folder.join(name), content).unwrap();
        format!("sslrootcert={}", folder.join(name).display())
    };
    let both = Authority::new().pem() + &authority.pem();
    let found = is_encrypted(config(&url(&server, "postgres", "localhost", &write("both", &both)))).await;
    assert!(found.unwrap());
    let other = write("other", &Authority::new().pem());
    let error = refused(config(&url(&server, "postgres", "localhost", &other))).await;
    assert!(error.contains("UnknownIssuer") || error.contains("BadSignature"), "{error}");

    for (options, why) in [
        (write("none", "no certificate"), "there is no certificate in it"),
        (write("broken", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "broken: "),
        ("sslrootcert=/no/such/file".to_owned(), "/no/such/file: "),
    ] {
        let error = PostgresConfig::from_url(&url(&server, "u:hunter2", "localhost", &options)).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(why) && !shown.contains("hunter2"), "{shown}");
    }
}

#[tokio::test]
async fn a_certificate_that_the_server_signed_itself_is_its_own_root() {
    let pair = Pair::self_signed("localhost");
    let server = server_with(&pair, &Authority::new()).await;
    let file = server.unix_dir().join("self.pem");
    std::fs::write(&file, &pair.certificate).unwrap();
    let options = format!("sslrootcert={}", file.display());
    assert!(is_encrypted(config(&url(&server, "postgres", "localhost", &options))).await.unwrap());
    let error = refused(config(&url(&server, "postgres", "127.0.0.1", &options))).await;
    assert!(error.contains("certificate not valid for name \"127.0.0.1\""), "{error}");
}

#[tokio::test]
async fn a_client_shows_its_certificate() {
    let authority = Authority::new();
    let server = server(&authority).await;
    let certified = config(&url(&server, "certified", "localhost", ""));
    let pair = authority.vouches_for(&[], "certified");
    let with = authority.trusted_with(&pair, providers().remove(0));
    assert!(is_encrypted(certified.clone().with_tls(with)).await.unwrap());

    let error = refused(certified.clone().with_tls(authority.trusted_by(providers().remove(0)))).await;
    assert!(error.contains("connection requires a valid client certificate"), "{error}");
    let another = authority.trusted_with(&authority.vouches_for(&[], "somebody"), providers().remove(0));
    let error = refused(certified.with_tls(another)).await;
    assert!(error.contains("certificate authentication failed"), "{error}");
}

#[tokio::test]
async fn a_password_is_bound_to_the_channel() {
    let authority = Authority::new();
    let server = server(&authority).await;
    let trusted = || authority.trusted_by(providers().remove(0));
    let with = |user, options| config(&url(&server, user, "localhost", options));
    let bound = "channel_binding=require";
    assert!(is_encrypted(with("password:hunter2", bound).with_tls(trusted())).await.unwrap());
    // Where the server asks for nothing, there is nothing to bind.
    let error = refused(with("postgres", bound).with_tls(trusted())).await;
    assert!(error.contains("server did not use channel binding"), "{error}");
    let error = refused(with("password:wrong-hunter2", "").with_tls(trusted())).await;
    assert!(error.contains("password authentication failed"), "{error}");
}

#[tokio::test]
async fn what_is_given_up_is_cancelled_over_tls_too() {
    let authority = Authority::new();
    let (server, test) = (server(&authority).await, TestDatabase::new().await);
    let bouncer = PgBouncer::start(test.addr(), 2).await;
    let direct_to = async |addr| {
        let proxy = direct(&authority, addr).await;
        format!("postgres://postgres@localhost:{}/{}?sslnegotiation=direct", proxy.port(), test.name())
    };
    for (mode, url, spied) in [
        (StatementMode::Named, url(&server, "postgres", "localhost", ""), server.config()),
        // A server takes requests to cancel without TLS as well. The proxy takes nothing without.
        (StatementMode::Named, direct_to(test.addr()).await, test.config()),
        (StatementMode::Unnamed, direct_to(bouncer.addr()).await, test.config()),
    ] {
        let config = config(&url).with_tls(authority.trusted_by(providers().remove(0)));
        let db = Postgres::new(config.with_statement_mode(mode)).unwrap();
        let spy = spy(spied).await;
        db.query(Query::new("select 1")).await.unwrap();
        let sleeper = Query::new("select pg_sleep(:seconds)").bind("seconds", 30_f64);
        assert!(timeout(Duration::from_millis(300), db.query(sleeper)).await.is_err());
        let cancelled_after = until_backends(&spy, SLEEPING, 0).await;
        assert!(cancelled_after < Duration::from_secs(1), "{cancelled_after:?}");
        assert_eq!(figure(&db, "cancelled"), 1.0);
        db.query(Query::new("select 1")).await.unwrap();
    }
}

/// As a proxy that ends TLS does, and Postgres itself since 17: no question in plain text comes first.
async fn direct(authority: &Authority, server: SocketAddr) -> SocketAddr {
    let pair = authority.vouches_for(&["localhost"], "proxy");
    let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(providers().remove(0))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut client = acceptor.accept(client).await?;
                // Postgres itself insists on this, and closes what does not name it.
                assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"postgresql"[..]));
                copy_bidirectional(&mut client, &mut TcpStream::connect(server).await?).await
            });
        }
    });
    addr
}

#[tokio::test]
async fn tls_is_spoken_at_once_where_the_url_says_so() {
    let authority = Authority::new();
    let test = TestDatabase::new().await;
    let proxy = direct(&authority, test.addr()).await;
    let url =
        |options: &str| format!("postgres://postgres@localhost:{}/{}?{options}", proxy.port(), test.name());
    let trusted = || authority.trusted_by(providers().remove(0));
    let db = Postgres::new(config(&url("sslnegotiation=direct")).with_tls(trusted())).unwrap();
    db.query(Query::new("select 1")).await.unwrap();
    let error = refused(config(&url("sslnegotiation=direct"))).await;
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[cfg(feature = "cache")]
#[tokio::test]
async fn changes_are_heard_over_tls() {
    use buttress_postgres::QueryCache;

    let authority = Authority::new();
    let server = server(&authority).await;
    let spy = spy(server.config()).await;
    spy.batch_execute("create table users (id int)").await.unwrap();
    let cache = QueryCache::new("users");
    // Without TLS this user is not let in.
    let config = config(&url(&server, "postgres", "localhost", ""));
    cache.listen(&config.with_tls(authority.trusted_by(providers().remove(0))), ["users"]).await.unwrap();
    assert!(cache.is_listening());
    let encrypted =
        "select ssl from pg_stat_ssl join pg_stat_activity using (pid) where query ilike 'listen %'";
    let rows = spy.query(encrypted, &[]).await.unwrap();
    assert!(rows.len() == 1 && rows[0].get::<_, bool>(0));
}

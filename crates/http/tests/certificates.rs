//! Whom a client trusts, and how it shows who it is: on real TLS servers with authorities of their own.
#![cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]

mod support;

use std::net::SocketAddr;

use buttress_http::{Builder, Error, HttpClient, InvalidConfig, Roots, rustls::ClientConfig};
use support::{
    Body, answer,
    authority::{Authority, provider},
    build, server, text,
};
use tokio::io::AsyncReadExt;

/// A server for `localhost`, vouched for by `authority`, which asks for certificates of `clients`, if of anybody.
async fn https(authority: &Authority, clients: Option<&Authority>) -> SocketAddr {
    let acceptor = authority.acceptor("localhost", clients);
    server(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await?;
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            answer(&mut stream, "hello").await
        }
    })
    .await
}

fn url(addr: SocketAddr) -> String {
    format!("https://localhost:{}/", addr.port())
}

fn refused(builder: Builder) -> InvalidConfig {
    builder.build::<Body>().map(drop).unwrap_err()
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_beside_the_others_and_alone() {
    let (own, unknown) = (Authority::new(), Authority::new());
    let addr = https(&own, None).await;
    let pems = format!("a comment\n{}{}", unknown.pem(), own.pem());
    for trusting in [
        HttpClient::builder().root_certificates(own.pem()),
        HttpClient::builder().roots(Roots::Given).root_certificates(own.pem()),
        HttpClient::builder().root_certificates(pems),
        HttpClient::builder().root_certificates(unknown.pem()).root_certificates(own.pem()),
    ] {
        assert_eq!(text(&build(trusting), &url(addr)).await.unwrap(), "hello");
    }
    for not in [
        HttpClient::builder(),
        HttpClient::builder().root_certificates(unknown.pem()),
        HttpClient::builder().roots(Roots::Given).root_certificates(unknown.pem()),
    ] {
        let error = text(&build(not), &url(addr)).await.unwrap_err();
        assert!(matches!(error, Error::Connect { .. }) && !error.sent(), "{error:?}");
        assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_of_another_name_is_refused() {
    let own = Authority::new();
    let addr = https(&own, None).await;
    // The addresses that are dialed have no say in whose certificate is asked for.
    let to = |host: &str| format!("https://{host}:{}/", addr.port());
    let client = build(HttpClient::builder().root_certificates(own.pem()).connect_to([addr]));
    let error = text(&client, &to("stock.internal")).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }) && !error.sent(), "{error:?}");
    assert!(error.to_string().contains("not valid for name \"stock.internal\""), "{error}");
    assert_eq!(text(&client, "https://localhost/").await.unwrap(), "hello");
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_it() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let addr = https(&servers, Some(&clients)).await;
    let trusting = || HttpClient::builder().root_certificates(servers.pem());
    let (chain, key) = clients.issue("worker-7");
    let client = build(trusting().client_certificate(chain, key));
    assert_eq!(text(&client, &url(addr)).await.unwrap(), "hello");

    // In TLS 1.3 a server refuses when the client already takes the handshake for done: the first request meets it.
    let (chain, key) = Authority::new().issue("worker-7");
    for unknown in [trusting(), trusting().client_certificate(chain, key)] {
        let error = text(&build(unknown), &url(addr)).await.unwrap_err();
        assert!(
            matches!(error, Error::Connect { .. } | Error::Canceled { .. } | Error::Closed { .. }),
            "{error:?}"
        );
    }
}

#[test]
fn what_is_no_certificate_is_refused_and_a_key_is_never_shown() {
    let authority = Authority::new();
    let (chain, key) = authority.issue("worker-7");
    let (_, other_key) = authority.issue("worker-8");
    let secret = |key: &str| key.lines().nth(1).unwrap().to_owned();
    let cut = |pem: &str| pem.lines().take(2).collect::<Vec<_>>().join("\n");
    let garbled = key.replacen(&secret(&key), &format!("!{}", secret(&key)), 1);
    let bad_start = key.replacen("-----BEGIN PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY", 1);
    let builder = HttpClient::builder;
    let secrets = [secret(&key), secret(&other_key)];
    for broken in [
        builder().root_certificates(""),
        builder().root_certificates("nothing of the kind"),
        builder().root_certificates(key.as_str()),
        builder().root_certificates(cut(&chain)),
        builder().root_certificates("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        builder().roots(Roots::Given),
        builder().client_certificate("", key.as_str()),
        builder().client_certificate(chain.as_str(), ""),
        builder().client_certificate(chain.as_str(), chain.as_str()),
        builder().client_certificate(key.as_str(), chain.as_str()),
        builder().client_certificate(chain.as_str(), cut(&key)),
        builder().client_certificate(chain.as_str(), garbled),
        builder().client_certificate(chain.as_str(), bad_start.as_str()),
        builder().client_certificate(bad_start, key.as_str()),
        builder().client_certificate(chain.as_str(), other_key),
    ] {
        let shown = format!("{broken:?} {broken:#?}");
        let error = refused(broken);
        assert!(matches!(error, InvalidConfig::Certificates { .. }), "{error:?}");
        let mut shown = format!("{shown} {error} {error:?}");
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            shown += &format!("{error} {error:?}");
            source = error.source();
        }
        assert!(
            !secrets.iter().any(|secret| shown.contains(secret) || shown.contains(&secret[1..40])),
            "{shown}"
        );
        assert!(!shown.contains(&format!("{:?}", secrets[0].as_bytes()[..8].to_vec())[1..20]), "{shown}");
    }
    let client = builder().client_certificate(chain, key);
    assert!(!format!("{client:?}").contains(&secrets[0]));
    build(client);
}

#[test]
fn a_configuration_of_ones_own_excludes_the_knobs_that_would_change_it() {
    let authority = Authority::new();
    let (chain, key) = authority.issue("worker-7");
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    let own = || HttpClient::builder().tls_config(config.clone());
    for (both, knob) in [
        (own().roots(Roots::Mozilla), "roots"),
        (own().root_certificates(authority.pem()), "root_certificates"),
        (own().client_certificate(chain, key), "client_certificate"),
    ] {
        let error = refused(both);
        assert!(matches!(error, InvalidConfig::Conflict("tls_config", other) if other == knob), "{error}");
    }
}

/// What `SSL_CERT_FILE` says is the process's, so each case is a process: this test again, with the variable set.
#[cfg(all(feature = "native-roots", target_os = "linux"))]
#[tokio::test]
async fn the_platforms_roots_are_trusted_or_it_is_said_why_not() {
    const CASE: &str = "BUTTRESS_TEST_PLATFORM";
    let platform = || HttpClient::builder().roots(Roots::Platform);
    match std::env::var(CASE).as_deref() {
        Ok("refused") => {
            let error = refused(platform());
            assert!(matches!(error, InvalidConfig::Certificates { .. }), "{error:?}");
            assert!(error.to_string().starts_with("the platform's roots cannot be used: "), "{error}");
            return;
        }
        Ok(port) => {
            let addr = SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
            assert_eq!(text(&build(platform()), &url(addr)).await.unwrap(), "hello");
            let mozilla = text(&build(HttpClient::builder()), &url(addr)).await.unwrap_err();
            assert!(mozilla.to_string().contains("UnknownIssuer"), "{mozilla}");
            return;
        }
        Err(_) => {}
    }
    let own = Authority::new();
    let addr = https(&own, None).await;
    let dir = std::env::temp_dir().join(format!("buttress-roots-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = |name: &str, pem: &str| {
        let path = dir.join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    let port = addr.port().to_string();
    let cut = own.pem().lines().take(2).collect::<Vec<_>>().join("\n");
    for (roots, case) in [
        (file("own.pem", &own.pem()), port.as_str()),
        (file("cut.pem", &cut), "refused"),
        (file("empty.pem", ""), "refused"),
        (dir.join("none.pem"), "refused"),
    ] {
        let again = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_platforms_roots_are_trusted_or_it_is_said_why_not", "--nocapture"])
            .env("SSL_CERT_FILE", &roots)
            .env_remove("SSL_CERT_DIR")
            .env(CASE, case)
            .output()
            .await
            .unwrap();
        let shown =
            String::from_utf8_lossy(&again.stderr).into_owned() + &String::from_utf8_lossy(&again.stdout);
        assert!(again.status.success() && shown.contains("1 passed"), "{roots:?}: {shown}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

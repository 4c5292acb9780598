//! Through real proxies, written here on TCP: a tunnel, forwarding, SOCKS 5.
#![cfg(feature = "proxy")]

mod support;

use buttress_http::{Error, HttpClient, InvalidConfig, Proxy};
use http::{HeaderValue, header::PROXY_AUTHORIZATION};
use support::{
    Body, build, call, get, ms,
    proxies::{echo, http_proxy, socks_proxy},
    read, server, text,
};
use tokio::net::TcpListener;

/// `alice:hunter2`
const AUTHORIZATION: &str = "Basic YWxpY2U6aHVudGVyMg==";

fn through(url: &str) -> support::Client {
    build(HttpClient::builder().proxy(Proxy::all(url).unwrap()))
}

#[tokio::test]
async fn plain_requests_are_forwarded_with_their_whole_url() {
    let (proxy, heads) = http_proxy(echo().await, None).await;
    // Without a scheme, too.
    for client in [through(&format!("http://{proxy}")), through(&proxy.to_string())] {
        let head = text(&client, "http://stock.invalid:81/items?full=1").await.unwrap();
        assert!(head.starts_with("GET http://stock.invalid:81/items?full=1 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("host: stock.invalid:81\r\n"), "{head}");
    }
    assert_eq!(heads.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn credentials_go_to_the_proxy_and_are_shown_to_nobody() {
    let (proxy, heads) = http_proxy(echo().await, Some(AUTHORIZATION)).await;
    let with = Proxy::all(format!("http://alice:hunter%32@{proxy}")).unwrap();
    let builder = HttpClient::builder().proxy(with.clone());
    let shown = format!("{with:?} {builder:?}");
    assert!(shown.contains(&proxy.to_string()) && !shown.contains("hunter"), "{shown}");
    let client = build(builder);
    text(&client, "http://stock.invalid/").await.unwrap();
    assert!(heads.lock().unwrap()[0].contains(&format!("proxy-authorization: {AUTHORIZATION}\r\n")));

    let without = through(&format!("http://{proxy}"));
    let refused = call(&without, get("http://stock.invalid/")).await.unwrap();
    assert_eq!(refused.status(), 407, "the proxy's own answer");

    let mut own = get("http://stock.invalid/");
    own.headers_mut().insert(PROXY_AUTHORIZATION, HeaderValue::from_static("Basic own"));
    // On the same connection, which the proxy no longer looks into.
    let head = read(call(&client, own).await.unwrap().into_body()).await.unwrap();
    assert!(head.contains("proxy-authorization: Basic own\r\n") && !head.contains(AUTHORIZATION), "{head}");
}

#[tokio::test]
async fn hosts_that_are_excepted_are_called_directly_and_get_no_credentials() {
    let addr = echo().await;
    let (proxy, heads) = http_proxy(addr, Some(AUTHORIZATION)).await;
    let proxy = Proxy::all(format!("http://alice:hunter2@{proxy}")).unwrap().except("localhost, 127.0.0.0/8");
    let client = build(HttpClient::builder().proxy(proxy));
    let head = text(&client, &format!("http://{addr}/items")).await.unwrap();
    assert!(head.starts_with("GET /items HTTP/1.1\r\n"), "{head}");
    assert!(!head.to_lowercase().contains("proxy-authorization"), "{head}");
    assert!(heads.lock().unwrap().is_empty());
    text(&client, "http://stock.invalid/").await.unwrap();
    assert_eq!(heads.lock().unwrap().len(), 1);
}

/// With the environment as it is, and that is asked only when told.
#[tokio::test]
async fn the_environment_is_asked_only_when_told() {
    const CASE: &str = "BUTTRESS_TEST_PROXY";
    if std::env::var_os(CASE).is_some() {
        let from_env = build(HttpClient::builder().proxy(Proxy::from_env().unwrap()));
        let head = text(&from_env, "http://stock.invalid/items").await.unwrap();
        assert!(head.starts_with("GET http://stock.invalid/items"), "{head}");
        let error = text(&support::client(), "http://stock.invalid/items").await.unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error:?}");
        return;
    }
    let (proxy, _) = http_proxy(echo().await, None).await;
    let again = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_environment_is_asked_only_when_told", "--nocapture"])
        .env(CASE, "1")
        .env("HTTP_PROXY", format!("http://{proxy}"))
        .env_remove("REQUEST_METHOD")
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .await
        .unwrap();
    let shown = String::from_utf8_lossy(&again.stderr).into_owned() + &String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success() && shown.contains("1 passed"), "{shown}");
}

#[tokio::test]
async fn a_proxy_that_cannot_be_used_is_named_in_the_error() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error =
        text(&through(&format!("http://alice:hunter2@{nobody}")), "http://stock.invalid/").await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }) && !error.sent(), "{error:?}");
    let expected = format!(
        "no connection to stock.invalid: by the proxy {nobody}: Connection refused (os error 111); the request was not sent"
    );
    assert_eq!(error.to_string(), expected);
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[test]
fn what_is_no_proxy_is_refused_and_not_shown() {
    for url in [
        "",
        "ftp://alice:hunter2@host",
        "socks4://alice:hunter2@host",
        "http://alice:hunter2@ho st",
        "http://alice:hunter2@",
        &format!("socks5://alice:{}hunter2@host", "x".repeat(255)),
    ] {
        let error = Proxy::all(url).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{url}: {error}");
    }
    let proxy = Proxy::all("http://127.0.0.1:1").unwrap();
    let both = HttpClient::builder().proxy(proxy).connect_to([([127, 0, 0, 1], 1).into()]).build::<Body>();
    assert!(matches!(both, Err(InvalidConfig::Conflict("proxy", "connect_to"))));
}

#[tokio::test]
async fn socks_5_resolves_names_here_or_there() {
    let (proxy, asked) = socks_proxy(echo().await, None).await;
    let head = text(&through(&format!("socks5h://{proxy}")), "http://stock.invalid/items").await.unwrap();
    assert!(head.starts_with("GET /items HTTP/1.1\r\n"), "{head}");
    text(&through(&format!("socks5h://{proxy}")), "http://[::1]:81/").await.unwrap();
    text(&through(&format!("socks5://{proxy}")), "http://127.0.0.1:82/").await.unwrap();
    text(&through(&format!("socks5://{proxy}")), "http://localhost:83/").await.unwrap();
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked[..3], ["stock.invalid 80", "::1 81", "127.0.0.1 82"]);
    assert!(["127.0.0.1 83", "::1 83"].contains(&asked[3].as_str()), "{asked:?}");

    let error = text(&through(&format!("socks5://{proxy}")), "http://stock.invalid/").await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }) && !error.sent(), "{error:?}");
}

#[tokio::test]
async fn socks_5_is_told_the_credentials() {
    let (proxy, asked) = socks_proxy(echo().await, Some(("alice", "hunter2"))).await;
    text(&through(&format!("socks5h://alice:hunter2@{proxy}")), "http://stock.invalid/").await.unwrap();
    assert_eq!(asked.lock().unwrap().len(), 1);
    for url in [format!("socks5h://alice:wrong@{proxy}"), format!("socks5h://{proxy}")] {
        let error = text(&through(&url), "http://stock.invalid/").await.unwrap_err();
        assert!(matches!(error, Error::Connect { .. }) && !error.sent(), "{error:?}");
        assert!(error.to_string().contains(&format!("by the proxy {proxy}: ")), "{error}");
        assert!(!format!("{error} {error:?}").contains("wrong"));
    }
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_proxy_that_is_silent_ends_with_the_connect_timeout() {
    let silent = server(|stream, _| async move {
        tokio::time::sleep(ms(5000)).await;
        drop(stream);
        Ok(())
    })
    .await;
    let proxy = Proxy::all(format!("socks5h://{silent}")).unwrap();
    let client = build(HttpClient::builder().connect_timeout(ms(150)).proxy(proxy));
    let error = text(&client, "http://stock.invalid/").await.unwrap_err();
    assert!(matches!(error, Error::ConnectTimeout { .. }) && !error.sent(), "{error:?}");
}

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
mod tls {
    use std::{net::SocketAddr, sync::Arc};

    use buttress_http::Builder;
    use support::{
        answer,
        authority::Authority,
        proxies::{Heads, head_of, serve_http},
    };

    use super::*;

    async fn https(authority: &Authority, name: &str) -> SocketAddr {
        let acceptor = authority.acceptor(name, None);
        server(move |stream, _| {
            let acceptor = acceptor.clone();
            async move {
                let mut stream = acceptor.accept(stream).await?;
                loop {
                    let head = head_of(&mut stream).await?;
                    answer(&mut stream, &head).await?;
                }
            }
        })
        .await
    }

    fn trusting(authority: &Authority) -> Builder {
        HttpClient::builder().root_certificates(authority.pem())
    }

    #[tokio::test]
    async fn https_goes_through_a_tunnel_that_the_proxy_cannot_read() {
        let authority = Authority::new();
        let (proxy, heads) = http_proxy(https(&authority, "stock.invalid").await, Some(AUTHORIZATION)).await;
        let through = |login: &str| {
            build(trusting(&authority).proxy(Proxy::all(format!("http://{login}{proxy}")).unwrap()))
        };
        let client = through("alice:hunter2@");
        for _ in 0..2 {
            let head = text(&client, "https://stock.invalid/items").await.unwrap();
            assert!(head.starts_with("GET /items HTTP/1.1\r\n"), "{head}");
            assert!(!head.to_lowercase().contains("proxy-authorization"), "it is the proxy's: {head}");
        }
        {
            let heads = heads.lock().unwrap();
            assert_eq!(heads.len(), 1, "the tunnel is pooled");
            assert!(heads[0].starts_with("CONNECT stock.invalid:443 HTTP/1.1\r\n"), "{heads:?}");
        }
        let error = text(&through(""), "https://stock.invalid/items").await.unwrap_err();
        assert!(matches!(error, Error::Connect { .. }) && !error.sent(), "{error:?}");
        let expected = format!("by the proxy {proxy}: tunnel error: proxy authorization required");
        assert!(error.to_string().contains(&expected), "{error}");

        let error = text(&client, "https://other.invalid/").await.unwrap_err();
        assert!(error.to_string().contains("not valid for name"), "the server's certificate counts: {error}");
    }

    #[tokio::test]
    async fn a_proxy_can_be_spoken_to_by_tls() {
        let authority = Authority::new();
        let (plain, secure) = (echo().await, https(&authority, "stock.invalid").await);
        let acceptor = authority.acceptor("localhost", None);
        let heads = Heads::default();
        let seen = Arc::clone(&heads);
        let proxy = server(move |stream, number| {
            let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
            async move {
                let stream = acceptor.accept(stream).await?;
                serve_http(stream, if number == 0 { plain } else { secure }, Some(AUTHORIZATION), seen).await
            }
        })
        .await;
        let url = format!("https://alice:hunter2@localhost:{}", proxy.port());
        let client = build(trusting(&authority).proxy(Proxy::all(url).unwrap()));
        let head = text(&client, "http://stock.invalid/items").await.unwrap();
        assert!(head.starts_with("GET http://stock.invalid/items HTTP/1.1\r\n"), "{head}");
        let head = text(&client, "https://stock.invalid/items").await.unwrap();
        assert!(head.starts_with("GET /items HTTP/1.1\r\n"), "{head}");
        assert_eq!(heads.lock().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn https_goes_through_socks_5() {
        let authority = Authority::new();
        let (proxy, asked) = socks_proxy(https(&authority, "stock.invalid").await, None).await;
        let proxy = Proxy::all(format!("socks5h://{proxy}")).unwrap();
        let client = build(trusting(&authority).proxy(proxy));
        let response = call(&client, get("https://stock.invalid/items")).await.unwrap();
        assert!(read(response.into_body()).await.unwrap().starts_with("GET /items HTTP/1.1\r\n"));
        assert_eq!(asked.lock().unwrap()[..], ["stock.invalid 443"]);
    }
}

#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
#[test]
fn a_proxy_by_https_needs_tls() {
    let built = HttpClient::builder().proxy(Proxy::all("https://127.0.0.1:1").unwrap()).build::<Body>();
    assert!(matches!(built, Err(InvalidConfig::NoTls("an https proxy"))));
}

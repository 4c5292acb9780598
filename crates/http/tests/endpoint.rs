//! Where a request goes, and what it says of the time: `connect_to`, `HttpEndpoint`, the deadline's header.

mod support;

use std::net::{Ipv4Addr, SocketAddr};

use buttress_core::Deadline;
use buttress_http::{Builder, EXPECTED_TIMEOUT, Error, HttpClient, HttpEndpoint, InvalidConfig, deadline_of};
use buttress_testkit::{Reply, Upstream};
use http::{HeaderMap, HeaderName, HeaderValue, header::HOST};
use support::{Body, build, client, get, ms, proxies::echo, read, text};
use tokio::net::TcpListener;
use tower::{Service, ServiceExt};

#[tokio::test]
async fn given_addresses_are_dialed_whatever_the_url_names() {
    let addr = echo().await;
    let client = build(HttpClient::builder().connect_to([addr]));
    for host in ["stock.invalid", "stock.invalid:1", "192.0.2.1", "192.0.2.1:1", "[2001:db8::1]:1"] {
        let head = text(&client, &format!("http://{host}/items")).await.unwrap();
        assert!(head.starts_with("GET /items HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("host: {host}\r\n")), "{head}");
    }
}

#[tokio::test]
async fn given_addresses_are_tried_in_their_order() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    first.on("/", Reply::ok("first"));
    second.on("/", Reply::ok("second"));
    let client = build(HttpClient::builder().connect_to([dead, first.addr(), second.addr()]));
    assert_eq!(text(&client, "http://stock.invalid/").await.unwrap(), "first");

    let client = build(HttpClient::builder().connect_to([dead]));
    let error = text(&client, "http://stock.invalid/").await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }) && !error.sent(), "{error:?}");
}

#[test]
fn no_address_and_no_port_are_refused() {
    let no_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    for addresses in [vec![], vec![no_port]] {
        let built = HttpClient::builder().connect_to(addresses).build::<Body>();
        assert!(matches!(built, Err(InvalidConfig::Addresses)));
    }
}

#[tokio::test]
async fn an_endpoint_takes_the_requests_of_any_host() {
    let (one, other) = (echo().await, echo().await);
    let client = client();
    for addr in [one, other] {
        let mut endpoint = HttpEndpoint::try_new(client.clone(), &format!("http://{addr}")).unwrap();
        assert_eq!(endpoint.peer().to_string(), addr.to_string());
        for url in ["http://stock.invalid/items?full=1", "/items?full=1"] {
            let response = endpoint.ready().await.unwrap().call(get(url)).await.unwrap();
            let head = read(response.into_body()).await.unwrap();
            assert!(head.starts_with("GET /items?full=1 HTTP/1.1\r\n"), "{head}");
            assert!(head.contains(&format!("host: {addr}\r\n")), "{head}");
        }
        let mut request = get("http://stock.invalid/");
        request.headers_mut().insert(HOST, HeaderValue::from_static("stock.internal"));
        let response = endpoint.clone().oneshot(request).await.unwrap();
        let head = read(response.into_body()).await.unwrap();
        assert!(head.contains("host: stock.internal\r\n") && head.matches("host:").count() == 1, "{head}");
    }
    assert_eq!(client.connections().opened(), 2, "one pool");
}

/// What the server sees in that header, if it was sent.
async fn seen(builder: Builder, request: http::Request<Body>, name: &str) -> Option<String> {
    let response = build(builder).oneshot(request).await.unwrap();
    let head = read(response.into_body()).await.unwrap();
    let value = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    value.map(str::to_owned)
}

#[tokio::test]
async fn the_deadline_is_sent_on_where_it_is_asked_for() {
    let url = format!("http://{}/", echo().await);
    let name = "x-envoy-expected-rq-timeout-ms";
    let on = || HttpClient::builder().deadline_header(EXPECTED_TIMEOUT);
    let sent = Deadline::after(ms(2000)).scope(seen(on(), get(&url), name)).await.expect("it is sent");
    assert!((1000..=2000).contains(&sent.parse::<u64>().unwrap()), "{sent}");

    let received = HeaderMap::from_iter([(EXPECTED_TIMEOUT, HeaderValue::from_str(&sent).unwrap())]);
    assert!(deadline_of(&received, &EXPECTED_TIMEOUT).unwrap().remaining() <= ms(2000));

    assert_eq!(seen(on(), get(&url), name).await, None, "there is no deadline");
    let off = HttpClient::builder();
    assert_eq!(Deadline::after(ms(2000)).scope(seen(off, get(&url), name)).await, None);

    let mut own = get(&url);
    own.headers_mut().insert(EXPECTED_TIMEOUT, HeaderValue::from_static("7"));
    let sent = Deadline::after(ms(2000)).scope(seen(on(), own, name)).await;
    assert_eq!(sent.as_deref(), Some("7"), "the caller's own is kept");

    let other = HttpClient::builder().deadline_header(HeaderName::from_static("x-time-left"));
    assert!(Deadline::after(ms(2000)).scope(seen(other, get(&url), "x-time-left")).await.is_some());
}

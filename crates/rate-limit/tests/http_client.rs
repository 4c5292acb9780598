//! Whose address counts, and that nobody talks his way out of his own limit.
#![cfg(feature = "http")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use buttress_rate_limit::http::{Client, ClientIp, Forwarding, Proxies};
use http::{HeaderName, HeaderValue, Request};
use proptest::prelude::*;

fn request(peer: &str, lines: &[(&str, &[u8])]) -> Request<()> {
    let mut request = Request::new(());
    request.extensions_mut().insert(SocketAddr::new(ip(peer), 4711));
    for (name, value) in lines {
        let name = HeaderName::try_from(*name).unwrap();
        request.headers_mut().append(name, HeaderValue::from_bytes(value).unwrap());
    }
    request
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn clients() -> ClientIp<impl Fn(&http::Extensions) -> Option<IpAddr> + Clone> {
    ClientIp::new(|extensions| Some(extensions.get::<SocketAddr>()?.ip()))
}

/// Behind proxies in 10.0.0.0/8 and fd00::/8.
fn behind(forwarding: Forwarding, peer: &str, lines: &[(&str, &str)]) -> IpAddr {
    let networks = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
    let lines: Vec<_> = lines.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    clients().behind(Proxies::new(forwarding, networks)).known(&request(peer, &lines)).unwrap()
}

fn x_forwarded_for(peer: &str, value: &str) -> IpAddr {
    behind(Forwarding::XForwardedFor, peer, &[("x-forwarded-for", value)])
}

fn forwarded(peer: &str, value: &str) -> IpAddr {
    behind(Forwarding::Forwarded, peer, &[("forwarded", value)])
}

#[test]
fn without_proxies_the_peer_is_the_client_whatever_it_says() {
    let lines: [(&str, &[u8]); 2] = [("x-forwarded-for", b"6.6.6.6"), ("forwarded", b"for=6.6.6.6")];
    assert_eq!(clients().of(&request("192.0.2.1", &lines)), Client::Address(ip("192.0.2.1")));
}

#[test]
fn a_client_that_nobody_knows_is_one_key() {
    assert_eq!(clients().of(&Request::new(())), Client::Unknown);
    assert_eq!(clients().known(&Request::new(())), None);
}

#[test]
fn only_a_trusted_peer_is_believed() {
    assert_eq!(x_forwarded_for("192.0.2.1", "6.6.6.6"), ip("192.0.2.1"));
    assert_eq!(x_forwarded_for("10.0.0.1", "203.0.113.9"), ip("203.0.113.9"));
    assert_eq!(forwarded("192.0.2.1", "for=6.6.6.6"), ip("192.0.2.1"));
    assert_eq!(forwarded("10.0.0.1", "for=203.0.113.9"), ip("203.0.113.9"));
}

#[test]
fn the_first_address_that_is_no_proxy_is_the_client() {
    assert_eq!(x_forwarded_for("10.0.0.1", "6.6.6.6, 203.0.113.9, 10.0.0.3, 10.0.0.2"), ip("203.0.113.9"));
    assert_eq!(
        forwarded("10.0.0.1", r#"for=6.6.6.6, for="203.0.113.9:80";proto=https, for="[fd00::2]""#),
        ip("203.0.113.9")
    );
    let lines = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "203.0.113.9, 10.0.0.2")];
    assert_eq!(behind(Forwarding::XForwardedFor, "10.0.0.1", &lines), ip("203.0.113.9"));
}

#[test]
fn where_all_are_proxies_the_farthest_is_the_client() {
    assert_eq!(x_forwarded_for("10.0.0.1", "10.0.0.3, 10.0.0.2"), ip("10.0.0.3"));
    assert_eq!(behind(Forwarding::XForwardedFor, "10.0.0.1", &[]), ip("10.0.0.1"));
}

#[test]
fn what_is_malformed_ends_the_search() {
    assert_eq!(x_forwarded_for("10.0.0.1", "6.6.6.6, unknown, 10.0.0.2"), ip("10.0.0.2"));
    assert_eq!(x_forwarded_for("10.0.0.1", "6.6.6.6,, 10.0.0.2"), ip("10.0.0.2"));
    assert_eq!(x_forwarded_for("10.0.0.1", "6.6.6.6, "), ip("10.0.0.1"));
    assert_eq!(forwarded("10.0.0.1", "for=6.6.6.6, for=_hidden, for=10.0.0.2"), ip("10.0.0.2"));
}

#[test]
fn the_field_that_the_proxies_do_not_write_is_the_clients_own() {
    let both = [("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=6.6.6.6")];
    assert_eq!(behind(Forwarding::XForwardedFor, "10.0.0.1", &both), ip("203.0.113.9"));
    let both = [("forwarded", "for=203.0.113.9"), ("x-forwarded-for", "6.6.6.6")];
    assert_eq!(behind(Forwarding::Forwarded, "10.0.0.1", &both), ip("203.0.113.9"));
}

#[test]
fn no_more_than_sixteen_proxies_are_passed() {
    let chain = |proxies: usize| format!("6.6.6.6{}", ", 10.0.0.2".repeat(proxies));
    assert_eq!(x_forwarded_for("10.0.0.1", &chain(Proxies::MAX - 1)), ip("6.6.6.6"));
    assert_eq!(x_forwarded_for("10.0.0.1", &chain(Proxies::MAX)), ip("10.0.0.2"));
    assert_eq!(x_forwarded_for("10.0.0.1", &chain(100_000)), ip("10.0.0.2"));
}

#[test]
fn an_ipv6_client_has_one_key_for_its_whole_network() {
    let of = |peer| clients().known(&request(peer, &[])).unwrap();
    assert_eq!(of("2001:db8:1:2:3:4:5:6"), ip("2001:db8:1:2::"));
    assert_eq!(of("2001:db8:1:2:ffff::"), of("2001:db8:1:2::1"));
    assert_ne!(of("2001:db8:1:3::1"), of("2001:db8:1:2::1"));
    let of = |bits| clients().ipv6_prefix(bits).unwrap().known(&request("2001:db8:1:2::6", &[])).unwrap();
    assert_eq!(of(48), ip("2001:db8:1::"));
    assert_eq!(of(128), ip("2001:db8:1:2::6"));
    for bits in [0, 129] {
        assert_eq!(clients().ipv6_prefix(bits).unwrap_err().bits, bits);
    }
}

#[test]
fn an_ipv4_address_is_one_key_however_it_comes() {
    let mapped = clients().known(&request("::ffff:192.0.2.1", &[])).unwrap();
    assert_eq!(mapped, ip("192.0.2.1"));
    assert_eq!(x_forwarded_for("::ffff:10.0.0.1", "::ffff:203.0.113.9"), ip("203.0.113.9"));
}

proptest! {
    /// The last trusted proxy appends the address that it sees. Whatever its client sent before that, it is that client.
    #[test]
    fn nobody_escapes_its_own_address(
        sent in proptest::collection::vec(
            "[ -~]{0,40}|((for=)?\"?10\\.0\\.0\\.[1-9]\"?[,;] ?){0,6}|(for=\"|\\\\|,|\"){0,9}", 0..5,
        ),
        hops in 0..4_usize,
        one_line in any::<bool>(),
        client in any::<u32>().prop_filter("no proxy", |bits| bits >> 24 != 10),
    ) {
        let client = IpAddr::V4(Ipv4Addr::from_bits(client));
        for (forwarding, name, wrap) in [
            (Forwarding::XForwardedFor, "x-forwarded-for", ""),
            (Forwarding::Forwarded, "forwarded", "for="),
        ] {
            let mut appended = vec![format!("{wrap}{client}")];
            appended.extend((0..hops).map(|hop| format!("{wrap}10.0.1.{hop}")));
            let appended = appended.join(", ");
            let mut lines = sent.clone();
            match lines.last_mut() {
                // As proxies do that know one line alone.
                Some(last) if one_line => *last = format!("{last}, {appended}"),
                _ => lines.push(appended),
            }
            let lines: Vec<_> = lines.iter().map(|line| (name, line.as_str())).collect();
            prop_assert_eq!(behind(forwarding, "10.0.0.1", &lines), client);
        }
    }

    #[test]
    fn no_field_panics(
        lines in proptest::collection::vec(
            proptest::collection::vec(any::<u8>().prop_filter("it is a header's", |b| *b >= 32 && *b != 127), 0..60),
            0..6,
        ),
    ) {
        for (forwarding, name) in
            [(Forwarding::XForwardedFor, "x-forwarded-for"), (Forwarding::Forwarded, "forwarded")]
        {
            let proxies = Proxies::new(forwarding, ["0.0.0.0/0", "::/0"].map(|network| network.parse().unwrap()));
            let lines: Vec<_> = lines.iter().map(|line| (name, line.as_slice())).collect();
            prop_assert!(clients().behind(proxies).known(&request("10.0.0.1", &lines)).is_some());
        }
    }
}

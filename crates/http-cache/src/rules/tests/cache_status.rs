//! RFC 9211.

use http::{HeaderMap, StatusCode};

use super::super::{CacheName, CacheStatus, Forward};

fn text(status: CacheStatus, name: &str) -> String {
    let mut headers = HeaderMap::new();
    status.add_to(&mut headers, &CacheName::try_new(name).unwrap());
    headers["cache-status"].to_str().unwrap().to_owned()
}

#[test]
fn a_hit_and_its_time() {
    assert_eq!(text(CacheStatus::hit(37), "edge"), "edge;hit;ttl=37");
    assert_eq!(text(CacheStatus::hit(-412), "edge"), "edge;hit;ttl=-412");
    assert_eq!(
        text(CacheStatus::hit(i64::MIN), "edge"),
        "edge;hit;ttl=-999999999999999",
        "as far as the field goes"
    );
}

#[test]
fn a_forward_and_all_that_is_known_of_it() {
    let status = CacheStatus::forward(Forward::Stale)
        .forward_status(StatusCode::NOT_MODIFIED)
        .stored()
        .collapsed()
        .detail("no-store")
        .ttl(60);
    assert_eq!(text(status, "edge"), "edge;fwd=stale;fwd-status=304;ttl=60;stored;collapsed;detail=no-store");
    assert_eq!(
        text(CacheStatus::forward(Forward::UriMiss).detail("two words"), "e"),
        "e;fwd=uri-miss;detail=\"two words\""
    );
    assert_eq!(text(CacheStatus::forward(Forward::Miss).detail("\n"), "e"), "e;fwd=miss");
}

#[test]
fn every_forward_is_a_token_of_its_own() {
    use Forward::*;
    let all = [Bypass, Method, UriMiss, VaryMiss, Miss, Request, Stale, Partial].map(Forward::as_str);
    assert_eq!(all, ["bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"]);
}

#[test]
fn it_stands_behind_those_nearer_to_the_origin() {
    let mut headers = HeaderMap::new();
    headers.insert("cache-status", "origin; hit".parse().unwrap());
    CacheStatus::hit(1).add_to(&mut headers, &CacheName::try_new("edge").unwrap());
    let all: Vec<_> = headers.get_all("cache-status").iter().collect();
    assert_eq!(all, ["origin; hit", "edge;hit;ttl=1"]);
}

#[test]
fn a_name_is_a_token_or_a_string() {
    assert_eq!(text(CacheStatus::hit(1), "a.example:80"), "a.example:80;hit;ttl=1");
    assert_eq!(text(CacheStatus::hit(1), "1 \"a\\"), "\"1 \\\"a\\\\\";hit;ttl=1");
    for wrong in ["", "a\n", "\u{00e9}", "a\0b", "\u{7f}"] {
        assert!(CacheName::try_new(wrong).is_err(), "{wrong:?}");
    }
}

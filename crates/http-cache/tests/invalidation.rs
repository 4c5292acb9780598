//! Changes that let go of what is stored (RFC 9111, section 4.4).

mod support;

use std::{future::pending, time::Duration};

use support::{Cached, Origin, URI, ask, ask_for, behind, get, numbered, read, request, response, shared};
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

const LONG: &[(&str, &str)] = &[("cache-control", "max-age=60")];

/// `GET`s are numbered; what changes something is answered as given.
fn origin(status: u16, headers: &'static [(&'static str, &'static str)]) -> Origin {
    Origin::new(move |request, number| async move {
        match request.method.as_str() {
            "GET" | "HEAD" => Ok(numbered(LONG, number)),
            _ => Ok(response(status, headers, "")),
        }
    })
}

async fn is_stored(cached: &Cached, uri: &str) -> bool {
    ask_for(cached, "GET", uri, &[("cache-control", "only-if-cached")]).await.status() == 200
}

#[tokio::test(start_paused = true)]
async fn a_change_lets_go_of_its_address() {
    for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH"] {
        for status in [200, 201, 204, 303] {
            let cached = behind(&shared(), &origin(status, &[]));
            get(&cached).await;
            ask(&cached, method, &[]).await;
            assert!(!is_stored(&cached, URI).await, "{method} {status}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_was_refused_and_a_safe_method_do_not() {
    for (method, status) in [("POST", 400), ("PUT", 404), ("DELETE", 500), ("OPTIONS", 200), ("TRACE", 200)] {
        let cached = behind(&shared(), &origin(status, &[]));
        get(&cached).await;
        ask(&cached, method, &[]).await;
        assert!(is_stored(&cached, URI).await, "{method} {status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_lets_go_of_the_addresses_it_names_in_its_own_origin() {
    let headers = &[("location", "/other?x"), ("content-location", "http://origin.example:80/third")];
    let cached = behind(&shared(), &origin(201, headers));
    let addresses = ["http://origin.example/other?x", "http://origin.example/third"];
    let foreign = ["http://origin.example/fourth", "http://else.example/other?x"];
    for uri in addresses.iter().chain(&foreign) {
        ask_for(&cached, "GET", uri, &[]).await;
    }
    ask(&cached, "POST", &[]).await;
    for uri in addresses {
        assert!(!is_stored(&cached, uri).await, "{uri}");
    }
    for uri in foreign {
        assert!(is_stored(&cached, uri).await, "{uri}");
    }
    let cached = behind(
        &shared(),
        &origin(
            201,
            &[("location", "http://else.example/other"), ("content-location", "//else.example/other")],
        ),
    );
    ask_for(&cached, "GET", "http://else.example/other", &[]).await;
    ask(&cached, "POST", &[]).await;
    assert!(is_stored(&cached, "http://else.example/other").await, "another origin's are not its to let go");
}

#[tokio::test(start_paused = true)]
async fn a_change_whose_result_is_not_known_counts_as_one() {
    for dropped in [false, true] {
        let service = Origin::new(move |request, number| async move {
            match request.method.as_str() {
                "GET" => Ok(numbered(LONG, number)),
                _ if dropped => pending().await,
                _ => Err("the connection was lost".into()),
            }
        });
        let cached = behind(&shared(), &service);
        get(&cached).await;
        let change = cached.clone().oneshot(request("POST", URI, &[]));
        assert_eq!(timeout(Duration::from_secs(1), change).await.is_err(), dropped);
        assert!(!is_stored(&cached, URI).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_was_never_sent_is_none() {
    let service = Origin::new(async |request, number| match request.method.as_str() {
        "GET" => Ok(numbered(LONG, number)),
        _ => Err(support::refused()),
    });
    let cached = behind(&shared(), &service);
    get(&cached).await;
    assert!(cached.clone().oneshot(request("POST", URI, &[])).await.is_err());
    assert!(is_stored(&cached, URI).await);
}

#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_while_something_changes_is_not_stored() {
    let service = Origin::new(async |request, number| {
        if request.method == "GET" && number == 0 {
            sleep(Duration::from_secs(2)).await;
        }
        Ok(numbered(LONG, number))
    });
    let cache = shared();
    let cached = behind(&cache, &service);
    let early = cached.clone().oneshot(request("GET", URI, &[]));
    let old = tokio::spawn(async move { read(early.await.unwrap()).await });
    sleep(Duration::from_secs(1)).await;
    ask(&cached, "PUT", &[]).await;
    // Who asks after the change does not wait for what was asked for before it.
    assert_eq!(get(&cached).await.body, "answer 2");
    assert_eq!(old.await.unwrap().body, "answer 0");
    assert_eq!(get(&cached).await.body, "answer 2");
}

#[tokio::test(start_paused = true)]
async fn the_handle_lets_go_of_an_address_and_of_everything() {
    let cache = shared();
    let cached = behind(&cache, &origin(200, &[]));
    let other = "http://origin.example/other";
    get(&cached).await;
    ask_for(&cached, "GET", other, &[]).await;
    cache.invalidate(&URI.parse().unwrap());
    cache.invalidate(&"/thing".parse().unwrap());
    assert!(!is_stored(&cached, URI).await);
    assert!(is_stored(&cached, other).await);
    cache.clear();
    assert!(!is_stored(&cached, other).await);
    assert_eq!(cache.stats().invalidations, 2);
}

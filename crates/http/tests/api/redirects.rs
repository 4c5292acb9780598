//! Where a call goes on, with what, and where it does not.

use buttress_core::{Origin, Reason, Rejectable};
use buttress_http::{ApiClient, ApiError, Body};
use buttress_testkit::{Recorded, Reply, Upstream};
use bytes::Bytes;
use http::{HeaderValue, Method};
use http_body_util::Full;
use tower::ServiceExt;

use crate::{builder, client, get, http, soon};

fn to(status: u16, location: impl AsRef<str>) -> Reply {
    Reply::status(status).header("location", location.as_ref()).body("moved")
}

fn with_credentials(upstream: &Upstream) -> ApiClient {
    let mut own = HeaderValue::from_static("hunter2");
    own.set_sensitive(true);
    builder(upstream.url())
        .bearer("hunter2")
        .credential_header("x-api-key", "hunter2")
        .header("cookie", "hunter2")
        .header("x-own", own)
        .header("x-plain", "p")
        .build(http())
        .unwrap()
}

fn secrets(request: &Recorded) -> usize {
    assert_eq!(request.headers["x-plain"], "p");
    request.headers.values().filter(|value| value.as_bytes().ends_with(b"hunter2")).count()
}

#[tokio::test]
async fn credentials_stay_with_their_origin() {
    let (home, abroad) = (Upstream::start().await, Upstream::start().await);
    home.on("/a", to(302, "/b"));
    home.on("/b", to(302, format!("{}/c", abroad.url())));
    abroad.on("/c", to(302, format!("{}/d", home.url())));
    home.on("/d", Reply::ok("done"));
    let client = with_credentials(&home);
    let request =
        client.get("/a").credential_header("x-call", "hunter2").header("proxy-authorization", "hunter2");
    let answer = soon(request.send()).await.unwrap();
    assert_eq!(answer.url().to_string(), format!("{}/d", home.url()));
    assert_eq!(answer.text().await.unwrap(), "done");
    let counts: Vec<_> = home.requests().iter().map(secrets).collect();
    assert_eq!(counts, [6, 6, 0], "the way home does not bring them back");
    assert_eq!(abroad.requests().iter().map(secrets).collect::<Vec<_>>(), [0]);
    assert_eq!((home.connections(), abroad.connections()), (1, 1), "a redirect's connection is used again");
}

#[tokio::test]
async fn another_name_of_the_same_machine_is_another_origin() {
    let home = Upstream::start().await;
    home.on("/a", to(307, format!("http://localhost:{}/b", home.addr().port())));
    home.on("/b", Reply::ok("done"));
    get(&with_credentials(&home), "/a").await.unwrap();
    assert_eq!(home.requests().iter().map(secrets).collect::<Vec<_>>(), [4, 0]);
}

#[tokio::test]
async fn method_and_body_are_kept_or_left_behind_as_the_rfc_says() {
    let upstream = Upstream::start().await;
    upstream.on("/end", Reply::ok("done"));
    for status in [301, 302, 303, 307, 308] {
        upstream.on(&format!("/{status}"), to(status, "end"));
    }
    let client = builder(upstream.url()).header("content-type", "text/default").build(http()).unwrap();
    for (method, kept) in [
        (Method::GET, [true, true, true, true, true]),
        (Method::HEAD, [true, true, true, true, true]),
        (Method::POST, [false, false, false, true, true]),
        (Method::PUT, [true, true, false, true, true]),
    ] {
        for (status, kept) in [301, 302, 303, 307, 308].into_iter().zip(kept) {
            let path = format!("/{status}");
            let mut request = client.request(method.clone(), &path);
            let body = method == Method::POST || method == Method::PUT;
            if body {
                request = request.json(&[1]);
            }
            assert_eq!(soon(request.send()).await.unwrap().status(), 200, "{method} {status}");
            let seen = upstream.requests().pop().unwrap();
            assert_eq!(seen.path, "/end");
            assert_eq!(seen.method, if kept { method.clone() } else { Method::GET }, "{method} {status}");
            assert_eq!(&seen.body[..], if body && kept { &b"[1]"[..] } else { b"" }, "{method} {status}");
            if !kept {
                assert!(!seen.headers.contains_key("content-type"), "{method} {status}");
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_sent_again_makes_the_redirect_the_answer() {
    let upstream = Upstream::start().await;
    upstream.on("/a", to(307, "/b"));
    upstream.on("/see", to(303, "/b"));
    upstream.on("/b", Reply::ok("done"));
    let client = client(&upstream);
    let streamed = |length| Body::new(Full::new(Bytes::from(vec![b'x'; length])));
    let answer = soon(client.put("/a").body(streamed(65_536)).send()).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "done", "so much is kept");
    assert_eq!(upstream.requests()[1].body.len(), 65_536);
    let answer = soon(client.put("/a").body(streamed(65_537)).send()).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["location"]),
        (307, &HeaderValue::from_static("/b"))
    );
    assert_eq!(answer.text().await.unwrap(), "moved");
    let answer = soon(client.put("/see").body(streamed(65_537)).send()).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "done", "a GET needs no body");
}

#[tokio::test]
async fn a_circle_ends_with_the_limit_and_zero_follows_none() {
    let upstream = Upstream::start().await;
    upstream.on("/a", to(302, "/a"));
    for (limit, sent) in [(None, 11), (Some(2), 3), (Some(0), 1)] {
        let before = upstream.requests().len();
        let mut builder = builder(upstream.url());
        if let Some(limit) = limit {
            builder = builder.redirects(limit);
        }
        let answer = get(&builder.build(http()).unwrap(), "/a").await.unwrap();
        assert_eq!(answer.status(), 302);
        assert_eq!(upstream.requests().len() - before, sent);
        let error = answer.error_for_status().await.unwrap_err();
        assert_eq!(error.status().map(|status| status.as_u16()), Some(302));
    }
}

#[tokio::test]
async fn a_location_that_leads_nowhere_is_an_answer() {
    let upstream = Upstream::start().await;
    let client = client(&upstream);
    let userinfo = format!("http://alice:hunter2@{}/", upstream.addr());
    for location in ["ftp://a/", "http://", "file:///etc/passwd", &userinfo] {
        upstream.on("/a", to(302, location));
        assert_eq!(get(&client, "/a").await.unwrap().status(), 302, "{location}");
    }
    upstream.on("/a", Reply::status(302));
    assert_eq!(get(&client, "/a").await.unwrap().status(), 302);
    upstream.on("/a", to(304, "/b"));
    assert_eq!(get(&client, "/a").await.unwrap().status(), 304);
    upstream.on("/a", to(201, "/b"));
    assert_eq!(get(&client, "/a").await.unwrap().status(), 201);
    assert_eq!(upstream.requests().len(), 7, "nothing was followed");
}

/// A server that is not there.
async fn nowhere() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}/", listener.local_addr().unwrap())
}

#[tokio::test]
async fn regression_37_a_call_that_was_answered_by_a_redirect_is_sent_whatever_becomes_of_the_next_hop() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", to(303, nowhere().await));
    let error = soon(client(&upstream).post("/orders").json(&[1]).send()).await.unwrap_err();
    assert!(matches!(&error, ApiError::Redirected(below) if !below.sent()), "{error:?}");
    assert_eq!(upstream.requests().len(), 1);
    assert!(error.sent(), "the order may have been placed: {error:?}");

    let refuse = tower::service_fn(|request: http::Request<Body>| async move {
        if request.uri().path() == "/refused" {
            return Err(Origin::new("timeout", "hops").reject(Reason::Overloaded).into());
        }
        http().oneshot(request).await
    });
    let client = builder(upstream.url()).build(refuse).unwrap();
    upstream.on("/orders", to(303, "/refused"));
    let error = soon(client.post("/orders").json(&[1]).send()).await.unwrap_err();
    assert_eq!(
        error.rejected().map(|rejected| (rejected.reason(), rejected.sent())),
        Some((Reason::Overloaded, true))
    );
    assert!(error.sent(), "the order may have been placed: {error:?}");
    let error = soon(client.post("/refused").send()).await.unwrap_err();
    assert!(!error.sent(), "{error:?}");
}

#[tokio::test]
async fn layers_see_what_was_given_along_on_every_hop() {
    #[derive(Clone, Debug, PartialEq)]
    struct Template(&'static str);
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let stack = tower::service_fn(move |request: http::Request<Body>| {
        let is_first = request.uri().path() == "/items/7";
        sender.send(request.extensions().get::<Template>().cloned()).unwrap();
        let answer = http::Response::builder().status(if is_first { 302 } else { 200 });
        let answer = answer.header("location", "/elsewhere").body(Full::<Bytes>::default());
        std::future::ready(answer.map_err(buttress_core::BoxError::from))
    });
    let api = ApiClient::builder("stock").base_url("http://stock").build(stack).unwrap();
    let asked = api.get("/items/{id}").param("id", 7).extension(Template("/items/{id}"));
    assert_eq!(asked.send().await.unwrap().status(), 200);
    assert_eq!(seen.recv().await.unwrap(), Some(Template("/items/{id}")));
    assert_eq!(seen.recv().await.unwrap(), Some(Template("/items/{id}")));
    api.get("/items/7").send().await.unwrap();
    assert_eq!(seen.recv().await.unwrap(), None, "it was that call's alone");
}

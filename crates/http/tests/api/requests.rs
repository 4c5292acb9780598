//! What is sent, and what is refused before anything is.

use buttress_http::{ApiClient, ApiError, Body, IdempotencyKey, Multipart, Part};
use buttress_testkit::{Reply, Upstream};
use http::{HeaderValue, Method};
use serde::{Serialize, Serializer};

use crate::{assert_discreet, builder, client, http, ms, soon};

#[tokio::test]
async fn each_method_is_sent_below_the_base_with_what_it_was_given() {
    let upstream = Upstream::start().await;
    upstream.on("/v1/items/a%2Fb/parts", Reply::status(204));
    let client = builder(format!("{}/v1/", upstream.url()))
        .header("accept-language", "en")
        .header("x-team", "a")
        .bearer("hunter2")
        .build(http())
        .unwrap();
    let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD];
    let requests = [
        client.get("/items/{id}/parts"),
        client.post("/items/{id}/parts"),
        client.put("/items/{id}/parts"),
        client.patch("items/{id}/parts"),
        client.delete("/items/{id}/parts"),
        client.head("/items/{id}/parts"),
    ];
    for request in requests {
        let request =
            request.param("id", "a/b").query(&[("q", "x y&z")]).query(&[("n", 1)]).header("x-team", "b");
        assert_eq!(soon(request.send()).await.unwrap().status(), 204);
    }
    let seen = upstream.requests();
    assert_eq!(seen.iter().map(|request| request.method.clone()).collect::<Vec<_>>(), methods);
    for request in seen {
        assert_eq!(request.path, "/v1/items/a%2Fb/parts?q=x+y%26z&n=1");
        assert_eq!(request.headers["accept-language"], "en");
        assert_eq!(request.headers["authorization"], "Bearer hunter2");
        assert_eq!(request.headers.get_all("x-team").iter().collect::<Vec<_>>(), ["b"]);
    }
    assert_eq!(upstream.connections(), 1, "one client, one pool");
}

#[tokio::test]
async fn bodies_come_with_their_type_and_length_and_the_last_one_counts() {
    let upstream = Upstream::start().await;
    upstream.on("/a", Reply::status(200));
    let client = builder(upstream.url()).header("content-type", "text/default").build(http()).unwrap();
    let post = || client.post("/a");
    let order = [("item", 7), ("count", 1)];
    for request in [
        post().json(&order),
        post().form(&order),
        post().header("content-type", "application/vnd.stock+json").json(&order),
        post().json(&order).body("plain"),
        post().body(Body::empty()).form(&order).json(&[1]),
    ] {
        soon(request.send()).await.unwrap();
    }
    let seen: Vec<_> = upstream
        .requests()
        .iter()
        .map(|seen| {
            let header = |name| seen.headers[name].to_str().unwrap().to_owned();
            assert_eq!(header("content-length"), seen.body.len().to_string());
            (header("content-type"), String::from_utf8(seen.body.to_vec()).unwrap())
        })
        .collect();
    let json = r#"[["item",7],["count",1]]"#;
    let expected = [
        ("application/json", json),
        ("application/x-www-form-urlencoded", "item=7&count=1"),
        ("application/vnd.stock+json", json),
        ("text/default", "plain"),
        ("application/json", "[1]"),
    ]
    .map(|(kind, body)| (kind.to_owned(), body.to_owned()));
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_form_of_parts_says_its_boundary_whatever_else_was_said() {
    let upstream = Upstream::start().await;
    upstream.on("/a", Reply::status(200));
    let client = builder(upstream.url()).header("content-type", "text/default").build(http()).unwrap();
    let form = || Multipart::new().text("order", "7").part("scan", Part::new("pixels").file_name("a.jpg"));
    for request in [
        client.post("/a").multipart(form()),
        client.post("/a").json(&[1]).header("content-type", "multipart/form-data").multipart(form()),
        client.post("/a").multipart(form()).header("content-type", "multipart/form-data"),
        client.post("/a").multipart(form()).json(&[1]),
    ] {
        soon(request.send()).await.unwrap();
    }
    let mut seen = upstream.requests();
    let json = seen.pop().unwrap();
    assert_eq!(
        (&json.headers["content-type"], &json.body[..]),
        (&"application/json".parse().unwrap(), &b"[1]"[..])
    );
    for request in seen {
        let kind = request.headers["content-type"].to_str().unwrap();
        let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
        let body = String::from_utf8(request.body.to_vec()).unwrap();
        assert_eq!(body.matches(&format!("--{boundary}")).count(), 3, "{body}");
        assert_eq!(request.headers["content-length"], body.len().to_string());
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_one_is_a_mistake_of_the_call() {
    async fn order(client: &ApiClient, key: &str) -> Result<(), ApiError> {
        client.post("/a").idempotency_key(IdempotencyKey::try_new(key)?).send().await.map(drop)
    }
    let upstream = Upstream::start().await;
    let error = order(&client(&upstream), "hunter2\r\nx-b: c").await.unwrap_err();
    let ApiError::Invalid(invalid) = &error else { panic!("{error:?}") };
    assert_eq!(invalid.knob(), "idempotency_key");
    assert_discreet(&error, &["hunter2"]);
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn an_idempotency_key_is_the_same_header_however_it_is_given() {
    // Not by a server, which cannot see what is marked as sensitive.
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = std::sync::Arc::clone(&seen);
    let stack = tower::service_fn(move |request: http::Request<Body>| {
        log.lock().unwrap().push(request.headers()[IdempotencyKey::HEADER].clone());
        std::future::ready(Ok::<_, ApiError>(http::Response::new(
            http_body_util::Empty::<bytes::Bytes>::new(),
        )))
    });
    let client = builder("http://stock").build(stack).unwrap();
    let (post, key) = (|| client.post("/a"), "7-1".to_owned());
    for request in [
        post().idempotency_key("7-1"),
        post().idempotency_key(key.clone()),
        post().idempotency_key(&key),
        post().idempotency_key(IdempotencyKey::try_new("7-1").unwrap()),
        post().header(IdempotencyKey::HEADER, IdempotencyKey::try_new("7-1").unwrap()),
    ] {
        soon(request.send()).await.unwrap();
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 5);
    assert!(seen.iter().all(|key| key == "\"7-1\"" && key.is_sensitive()), "{seen:?}");
}

#[tokio::test]
async fn a_call_has_credentials_of_its_own_or_none() {
    let upstream = Upstream::start().await;
    upstream.on("/a", Reply::status(200));
    let client = builder(upstream.url())
        .basic("alice", "wonder:land")
        .credential_header("x-api-key", "k1")
        .header("x-plain", "p")
        .build(http())
        .unwrap();
    let get = || client.get("/a");
    for request in [
        get(),
        get().bearer("t"),
        get().credential_header("x-api-key", "k2"),
        get().no_credentials(),
        get().no_credentials().basic("", ""),
        get().no_credentials().idempotency_key(IdempotencyKey::try_new("7-1").unwrap()),
    ] {
        soon(request.send()).await.unwrap();
    }
    let seen: Vec<_> = upstream
        .requests()
        .iter()
        .map(|seen| {
            assert_eq!(seen.headers["x-plain"], "p");
            ["authorization", "x-api-key", "idempotency-key"]
                .map(|name| seen.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned())
                .join("|")
        })
        .collect();
    let alice = "Basic YWxpY2U6d29uZGVyOmxhbmQ=";
    assert_eq!(
        seen,
        [
            format!("{alice}|k1|"),
            "Bearer t|k1|".to_owned(),
            format!("{alice}|k2|"),
            "||".to_owned(),
            "Basic Og==||".to_owned(),
            "||\"7-1\"".to_owned(),
        ]
    );
}

struct Spiteful;

impl Serialize for Spiteful {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not today"))
    }
}

#[tokio::test]
async fn a_call_made_wrong_says_its_first_mistake_and_sends_nothing() {
    let upstream = Upstream::start().await;
    let client = client(&upstream);
    let get = || client.get("/a/{id}").param("id", "hunter2");
    for (request, knob) in [
        (client.get("/a/{id}"), "param `id`"),
        (client.get("/a").param("id", 1), "param `id`"),
        (get().param("id", 2), "param `id`"),
        (client.get("/a/{id}").param("id", ""), "path"),
        (client.get("/a/{id}").param("id", ".."), "path"),
        (client.get("/a/{id}").param("id", "../../hunter2"), "path"),
        (client.get("//evil/hunter2"), "path"),
        (client.get("http://evil/hunter2"), "path"),
        (client.get("/hunter2?a=b"), "path"),
        (client.get("/a/{id}").param("id", "a".repeat(70_000)), "path"),
        (get().query("hunter2"), "query"),
        (get().query(&7), "query"),
        (get().header("x a", "hunter2"), "header"),
        (get().header("x-a", "hunter2\r\nx-b: c"), "header `x-a`"),
        (get().header("host", "hunter2"), "header `host`"),
        (get().credential_header("x-a", "hunter2\0"), "header `x-a`"),
        (get().bearer("hunter2\n"), "bearer"),
        (get().basic("hunter2:", ""), "basic"),
        (get().idempotency_key("hunter2\r"), "idempotency_key"),
        (get().idempotency_key(""), "idempotency_key"),
        (get().header("idempotency-key", "hunter2\r"), "header `idempotency-key`"),
        (get().json(&Spiteful), "json"),
        (get().form(&7), "form"),
        (get().timeout(ms(0)), "timeout"),
        (get().timeout(ms(0)).bearer(""), "timeout"),
        (client.request(Method::CONNECT, "/"), "method"),
    ] {
        assert!(!format!("{request:?}").contains("hunter2"));
        let error = soon(request.send()).await.unwrap_err();
        let ApiError::Invalid(invalid) = &error else { panic!("{error:?}") };
        assert_eq!(invalid.knob(), knob);
        assert!(!error.sent() && error.to_string().ends_with("; nothing was sent"), "{error}");
        assert_discreet(&error, &["hunter2"]);
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_client_made_wrong_says_its_first_mistake() {
    let ok = || builder("http://stock/v1");
    for (wrong, knob) in [
        (ApiClient::builder("stock"), "base_url"),
        (builder("http://alice:hunter2@stock"), "base_url"),
        (builder("/hunter2"), "base_url"),
        (ok().bearer("hunter2 "), "bearer"),
        (ok().basic("alice", "hunter2\r\n"), "basic"),
        (ok().credential_header("x-api-key", "hunter2\n"), "header `x-api-key`"),
        (ok().header("hunter2 ", "x"), "header"),
        (ok().header("transfer-encoding", "chunked"), "header `transfer-encoding`"),
        (ok().header("idempotency-key", "hunter2"), "header `idempotency-key`"),
        (ok().credential_header("Idempotency-Key", "hunter2"), "header `idempotency-key`"),
        (ok().timeout(ms(0)), "timeout"),
        (ok().bearer("").base_url("hunter2"), "bearer"),
    ] {
        assert!(!format!("{wrong:?}").contains("hunter2"));
        let error = wrong.build(http()).unwrap_err();
        assert_eq!(error.knob(), knob);
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        assert!(!error.to_string().contains("sent"), "nobody wanted to send: {error}");
    }
    let client = ok().bearer("hunter2").basic("alice", "hunter2").build(http()).unwrap();
    assert_eq!(format!("{client:?}"), "ApiClient { origin: api-client `stock`, base: http://stock, .. }");
    let mut given = HeaderValue::from_static("hunter2");
    given.set_sensitive(true);
    let shown = format!("{:?} {:?}", ok().header("x-a", given), client.get("/hunter2").bearer("hunter2"));
    assert!(!shown.contains("hunter2"), "{shown}");
}

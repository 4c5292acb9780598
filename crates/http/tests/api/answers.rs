//! What an answer is read as, and what the errors about it tell and hide.

use buttress_core::Rejectable;
use buttress_http::{ApiError, Error};
use buttress_testkit::{Reply, Upstream};
use http_body_util::BodyExt;
use serde::Deserialize;

use crate::{assert_discreet, client, get};

#[derive(Debug, Deserialize, PartialEq)]
struct Item {
    id: u32,
    name: String,
}

#[tokio::test]
async fn an_answer_is_read_whole_or_piece_by_piece() {
    let upstream = Upstream::start().await;
    upstream.on("/a", Reply::ok(r#"{"id":7,"name":"sponge"}"#).header("x-kind", "item"));
    let client = client(&upstream);
    let answer = get(&client, "/a").await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["x-kind"]), (200, &"item".parse().unwrap()));
    assert_eq!((answer.version(), answer.url().path()), (http::Version::HTTP_11, "/a"));
    let item: Item = answer.json().await.unwrap();
    assert_eq!(item, Item { id: 7, name: "sponge".to_owned() });
    let whole = r#"{"id":7,"name":"sponge"}"#;
    assert_eq!(get(&client, "/a").await.unwrap().text().await.unwrap(), whole);
    assert_eq!(get(&client, "/a").await.unwrap().bytes().await.unwrap(), whole);
    let collected = get(&client, "/a").await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(collected.to_bytes(), whole);
    let mut answer = get(&client, "/a").await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), whole);
    assert_eq!(answer.chunk().await.unwrap(), None);
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_long_answer_is_put_together_from_its_pieces() {
    let upstream = Upstream::start().await;
    let long: String = (0..200_000).map(|number| char::from(b'a' + (number % 26) as u8)).collect();
    upstream.on("/a", Reply::ok(long.clone()));
    assert_eq!(get(&client(&upstream), "/a").await.unwrap().text().await.unwrap(), long);
}

#[tokio::test]
async fn a_refusal_keeps_status_headers_and_body_and_shows_only_what_is_harmless() {
    let upstream = Upstream::start().await;
    let refusal = Reply::status(503)
        .header("retry-after", "3")
        .header("set-cookie", "hunter2")
        .header("x-token", "hunter2")
        .header("location", "/hunter2")
        .body(r#"{"id":1,"name":"hunter2"}"#);
    upstream.on("/a", refusal);
    let client = client(&upstream);
    for error in [
        get(&client, "/a").await.unwrap().json::<Item>().await.unwrap_err(),
        get(&client, "/a").await.unwrap().error_for_status().await.unwrap_err(),
    ] {
        assert_discreet(&error, &["hunter2"]);
        assert!(format!("{error:?}").contains(r#""retry-after": "3""#), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!("{} answered 503 Service Unavailable; it asks to wait 3s", upstream.addr())
        );
        assert!(error.sent());
        let ApiError::Status(refused) = error else { panic!("{error:?}") };
        assert_eq!(refused.headers()["set-cookie"], "hunter2");
        assert_eq!(refused.text(), r#"{"id":1,"name":"hunter2"}"#);
        assert_eq!(refused.json::<Item>().unwrap().id, 1);
        assert!(!refused.is_truncated());
    }
    let answer = get(&client, "/a").await.unwrap();
    assert!(!format!("{answer:?}").contains("hunter2"), "{answer:?}");
    assert!(answer.text().await.unwrap().contains("hunter2"), "text is for any status");
}

#[tokio::test]
async fn what_is_not_the_json_expected_is_told_by_its_place() {
    let upstream = Upstream::start().await;
    let client = client(&upstream);
    for (body, kind, line, column) in [
        ("{\n  \"id\": \"hunter2\",\n  \"name\": \"a\"}", "JSON of another shape", 2, 17),
        ("{\"id\": 7,\n hunter2", "no JSON", 2, 2),
        ("{\"id\": 7, \"name\": \"hunter2", "it ends too early", 1, 26),
        ("", "it ends too early", 1, 0),
    ] {
        upstream.on("/a", Reply::status(201).body(body));
        let error = get(&client, "/a").await.unwrap().json::<Item>().await.unwrap_err();
        let addr = upstream.addr();
        let expected = format!(
            "the answer of {addr} (201 Created) is not the JSON expected: {kind} at line {line}, column {column}"
        );
        assert_eq!(error.to_string(), expected);
        assert_discreet(&error, &["hunter2"]);
        let ApiError::Content(content) = &error else { panic!("{error:?}") };
        assert_eq!((content.line(), content.column()), (line, column));
        assert_eq!(content.excerpt(), body);
        assert!(!content.detail().to_string().is_empty());
    }
    // Far behind, between the long and the longer.
    let body = format!("[\n{}hunter2{}]", " ".repeat(20_000), " ".repeat(20_000));
    upstream.on("/a", Reply::ok(body));
    let error = get(&client, "/a").await.unwrap().json::<Item>().await.unwrap_err();
    let ApiError::Content(content) = &error else { panic!("{error:?}") };
    assert_eq!(content.excerpt().len(), 8192);
    let error = get(&client, "/a").await.unwrap().json::<Vec<Item>>().await.unwrap_err();
    let ApiError::Content(content) = &error else { panic!("{error:?}") };
    assert!(content.excerpt().contains("hunter2"), "the place is in it");
}

#[tokio::test]
async fn text_is_utf8_or_an_error_that_says_where_not() {
    let upstream = Upstream::start().await;
    upstream.on("/a", Reply::ok(&b"hunter2\nab\xff"[..]));
    let client = client(&upstream);
    let error = get(&client, "/a").await.unwrap().text().await.unwrap_err();
    assert!(error.to_string().ends_with("is not UTF-8: other bytes at line 2, column 3"), "{error}");
    assert_discreet(&error, &["hunter2"]);
    assert_eq!(get(&client, "/a").await.unwrap().bytes().await.unwrap(), &b"hunter2\nab\xff"[..]);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_the_connections_error() {
    let upstream = Upstream::start().await;
    upstream.on("/a", Reply::ok("x".repeat(100)).cut_after(10));
    upstream.on("/refused", Reply::status(500).body("x".repeat(100)).cut_after(10));
    let client = client(&upstream);
    let error = get(&client, "/a").await.unwrap().bytes().await.unwrap_err();
    assert!(matches!(&error, ApiError::Call(Error::Body { .. })), "{error:?}");
    assert!(error.sent() && error.rejected().is_none());
    let error = get(&client, "/refused").await.unwrap().error_for_status().await.unwrap_err();
    let ApiError::Status(refused) = &error else { panic!("{error:?}") };
    assert_eq!((refused.body(), refused.is_truncated()), (&b"xxxxxxxxxx"[..], true));
    assert_eq!(refused.json::<String>(), None);
}

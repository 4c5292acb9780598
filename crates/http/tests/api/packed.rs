//! Answers that come packed.

use buttress_http::{ApiError, Error};
use buttress_testkit::{Reply, Upstream};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use tower::{Service, service_fn};
use tower_http::compression::Compression;

use crate::{assert_discreet, builder, client, get, http, soon};

async fn packed(encoding: &str, body: impl Into<Bytes>) -> Bytes {
    let body: Bytes = body.into();
    let mut packing = Compression::new(service_fn(move |_: Request<()>| {
        let answer = http::Response::new(Full::new(body.clone()));
        async { Ok::<_, std::convert::Infallible>(answer) }
    }));
    let request = Request::builder().header("accept-encoding", encoding).body(()).unwrap();
    let answer = packing.call(request).await.unwrap();
    assert_eq!(answer.headers()["content-encoding"], encoding);
    answer.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn packed_answers_are_asked_for_and_unpacked() {
    let upstream = Upstream::start().await;
    let client = client(&upstream);
    let long = "sponge ".repeat(10_000);
    for encoding in ["gzip", "br", "zstd"] {
        let body = packed(encoding, long.clone()).await;
        assert!(body.len() < 1000);
        upstream.on("/a", Reply::ok(body.clone()).header("content-encoding", encoding));
        let answer = get(&client, "/a").await.unwrap();
        assert!(!answer.headers().contains_key("content-encoding"));
        assert!(!answer.headers().contains_key("content-length"));
        assert_eq!(answer.text().await.unwrap(), long, "{encoding}");

        for (name, value) in [("accept-encoding", encoding), ("range", "bytes=0-")] {
            let answer = soon(client.get("/a").header(name, value).send()).await.unwrap();
            assert_eq!(answer.headers()["content-encoding"], encoding);
            assert_eq!(answer.bytes().await.unwrap(), body, "as it came");
        }
        let seen: Vec<_> = upstream.requests();
        let asked = |back: usize| seen[seen.len() - back].headers.get("accept-encoding");
        assert_eq!(asked(3).unwrap(), "zstd, br, gzip");
        assert_eq!((asked(2).unwrap().to_str().unwrap(), asked(1)), (encoding, None));

        // Half of it, and nothing of it.
        upstream.on("/a", Reply::ok(body.slice(..body.len() / 2)).header("content-encoding", encoding));
        let error = get(&client, "/a").await.unwrap().bytes().await.unwrap_err();
        assert!(matches!(&error, ApiError::Call(Error::Body { .. })), "{encoding}: {error:?}");
        upstream.on("/a", Reply::ok("").header("content-encoding", encoding));
        assert_eq!(get(&client, "/a").await.unwrap().bytes().await.unwrap(), "");
    }
    upstream.on("/a", Reply::ok("as is").header("content-encoding", "gzip, gzip"));
    let answer = get(&client, "/a").await.unwrap();
    assert_eq!(answer.headers()["content-encoding"], "gzip, gzip", "what is not known is left to the caller");
    assert_eq!(answer.text().await.unwrap(), "as is");
    let body = packed("gzip", long.clone()).await;
    upstream.on(
        "/a",
        Reply::ok(body.clone()).header("content-encoding", "gzip").header("content-encoding", "br"),
    );
    let answer = get(&client, "/a").await.unwrap();
    assert_eq!(answer.headers().get_all("content-encoding").iter().count(), 2);
    assert_eq!(answer.bytes().await.unwrap(), body, "nor is one taken off of two");
    for coding in ["GZIP", "x-gzip"] {
        upstream.on("/a", Reply::ok(body.clone()).header("content-encoding", coding));
        let answer = get(&client, "/a").await.unwrap();
        assert!(!answer.headers().contains_key("content-encoding"));
        assert_eq!(answer.text().await.unwrap(), long, "{coding}");
    }
    upstream.on("/a", Reply::ok("hunter2").header("content-encoding", "gzip"));
    let error = get(&client, "/a").await.unwrap().bytes().await.unwrap_err();
    assert_discreet(&error, &["hunter2"]);
    assert_eq!(soon(client.head("/a").send()).await.unwrap().bytes().await.unwrap(), "");

    for (name, value) in [("accept-encoding", "identity"), ("range", "bytes=0-6")] {
        let client = builder(upstream.url()).header(name, value).build(http()).unwrap();
        assert_eq!(get(&client, "/a").await.unwrap().text().await.unwrap(), "hunter2");
    }
}

#[tokio::test]
async fn a_bomb_ends_at_the_limit_whole_or_as_a_refusal() {
    let upstream = Upstream::start().await;
    let client = builder(upstream.url()).max_answer(100_000).build(http()).unwrap();
    for encoding in ["gzip", "br", "zstd"] {
        let bomb = packed(encoding, vec![b' '; 4 << 20]).await;
        assert!(bomb.len() < 10_000);
        upstream.on(
            "/a",
            [Reply::ok(bomb.clone()), Reply::status(500).body(bomb)]
                .map(|reply| reply.header("content-encoding", encoding)),
        );
        let error = get(&client, "/a").await.unwrap().bytes().await.unwrap_err();
        assert!(matches!(error, ApiError::TooLong { limit: 100_000, .. }), "{error:?}");
        let error = get(&client, "/a").await.unwrap().error_for_status().await.unwrap_err();
        let ApiError::Status(refused) = &error else { panic!("{error:?}") };
        assert_eq!((refused.body().len(), refused.is_truncated()), (8192, true));
    }
}

/// A frame of that head with `blocks` blocks of 128 KiB, each of one repeated byte.
fn frame(head: &[u8], blocks: usize) -> Vec<u8> {
    let mut frame = [&[0x28, 0xb5, 0x2f, 0xfd], head].concat();
    for number in 1..=blocks {
        let header = (128_u32 << 10) << 3 | 1 << 1 | u32::from(number == blocks);
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(b'x');
    }
    frame
}

#[tokio::test]
async fn regression_39_a_few_bytes_of_zstd_ask_for_no_window_above_8_mib() {
    let upstream = Upstream::start().await;
    let client = builder(upstream.url()).max_answer(usize::MAX).build(http()).unwrap();
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let real = packed("zstd", "sponge ".repeat(100_000)).await;
    let window = |descriptor: u8, blocks| frame(&[0, descriptor], blocks);
    // One segment, its length in four bytes.
    let single = |length: u32, blocks| frame(&[&[0xa0][..], &length.to_le_bytes()].concat(), blocks);
    let (widest, wider) = (13 << 3, 13 << 3 | 1);
    for (body, length) in [
        (window(widest, 100), Some(100 << 17)),
        (single(8 << 20, 64), Some(8 << 20)),
        ([&real[..], &skippable, &window(widest, 3), &real].concat(), Some(2 * 700_000 + (3 << 17))),
        (window(wider, 1), None),
        (window(17 << 3, 1023), None),
        (single(128 << 20, 1024), None),
        ([&real[..], &window(17 << 3, 1)].concat(), None),
        ([&window(widest, 3)[..], &skippable, &single(9 << 20, 72)].concat(), None),
    ] {
        upstream.on("/a", Reply::ok(body).header("content-encoding", "zstd"));
        match (get(&client, "/a").await.unwrap().bytes().await, length) {
            (Ok(body), Some(length)) => assert_eq!(body.len(), length),
            (Err(error), None) => assert!(error.to_string().contains("8 MiB"), "{error:?}"),
            (read, length) => panic!("{:?}, not {length:?}", read.map(|body| body.len())),
        }
    }
}

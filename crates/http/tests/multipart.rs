//! Forms of several parts: what a server gets to read.

mod support;

use std::collections::HashSet;

use buttress_core::Backoff;
use buttress_http::{Body, Error, HttpClient, Idempotent, Multipart, Part, StatusClassifier};
use buttress_retry::RetryLayer;
use buttress_testkit::{Recorded, Reply, Upstream};
use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http::{HeaderValue, Request, StatusCode, header::CONTENT_TYPE};
use http_body::Body as _;
use http_body_util::BodyExt;
use proptest::prelude::*;
use support::ms;
use tower::{ServiceBuilder, ServiceExt};

/// The headers of each part, line by line, and its content. It knows nothing of escapes.
fn parse(content_type: &HeaderValue, body: &[u8]) -> Vec<(Vec<String>, Vec<u8>)> {
    let boundary = content_type.to_str().unwrap().strip_prefix("multipart/form-data; boundary=").unwrap();
    let find = |text: &[u8], what: &[u8]| text.windows(what.len()).position(|window| window == what);
    let delimiter = format!("\r\n--{boundary}");
    // As if what stands before the first one were a part, too.
    let body = [b"\r\n", body].concat();
    let (mut rest, mut parts) = (&body[..], Vec::new());
    assert_eq!(find(rest, delimiter.as_bytes()), Some(0));
    loop {
        rest = &rest[delimiter.len()..];
        if rest == b"--\r\n" {
            return parts;
        }
        rest = rest.strip_prefix(b"\r\n").expect("a delimiter is a line of its own");
        let end = find(rest, delimiter.as_bytes()).expect("each part is delimited");
        let head = find(rest, b"\r\n\r\n").unwrap();
        let lines = String::from_utf8(rest[..head].to_vec()).unwrap();
        parts.push((lines.split("\r\n").map(str::to_owned).collect(), rest[head + 4..end].to_vec()));
        rest = &rest[end..];
    }
}

fn bytes(body: Body) -> Bytes {
    body.collect().now_or_never().expect("nothing has to be waited for").unwrap().to_bytes()
}

fn parts(form: Multipart) -> Vec<(Vec<String>, Vec<u8>)> {
    let content_type = form.content_type();
    let body = form.into_body();
    let length = body.size_hint().exact();
    let bytes = bytes(body);
    assert!(length.is_none_or(|length| length == bytes.len() as u64));
    parse(&content_type, &bytes)
}

#[test]
fn a_form_reads_as_the_rfc_says() {
    let form = Multipart::new()
        .text("order", "7 \u{20ac}")
        .part("scan", Part::new(vec![0xff, 0x00]).file_name("scan.jpg"))
        .part("note", Part::new("<p>").content_type(HeaderValue::from_static("text/html")));
    assert_eq!(format!("{form:?}"), "Multipart { parts: 3, .. }");
    let boundary = form.content_type().to_str().unwrap().split_once('=').unwrap().1.to_owned();
    assert!(boundary.len() == 32 && boundary.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let expected = [
        format!("--{boundary}\r\ncontent-disposition: form-data; name=\"order\"\r\n\r\n7 \u{20ac}\r\n").into_bytes(),
        format!("--{boundary}\r\ncontent-disposition: form-data; name=\"scan\"; filename=\"scan.jpg\"\r\n").into_bytes(),
        b"content-type: application/octet-stream\r\n\r\n\xff\x00\r\n".to_vec(),
        format!("--{boundary}\r\ncontent-disposition: form-data; name=\"note\"\r\ncontent-type: text/html\r\n\r\n<p>\r\n")
            .into_bytes(),
        format!("--{boundary}--\r\n").into_bytes(),
    ];
    assert_eq!(bytes(form.into_body()), expected.concat());
    assert!(parts(Multipart::new()).is_empty());
    assert_eq!(
        format!("{:?}", Part::new("hunter2").file_name("secret")),
        "Part { body: Body { length: Some(7) }, .. }"
    );
}

#[test]
fn boundaries_are_their_own() {
    let all: HashSet<_> = (0..1000).map(|_| Multipart::new().content_type()).collect();
    assert_eq!(all.len(), 1000);
}

#[test]
fn neither_name_nor_file_name_can_add_a_header_or_a_part() {
    let wicked = "a\"\r\nx-admin: 1\r\n\r\n--b\n\"; filename=\"b";
    let form = Multipart::new().part(wicked, Part::new("1").file_name(wicked));
    let escaped = "a%22%0D%0Ax-admin: 1%0D%0A%0D%0A--b%0A%22; filename=%22b";
    let head = [
        format!("content-disposition: form-data; name=\"{escaped}\"; filename=\"{escaped}\""),
        "content-type: application/octet-stream".to_owned(),
    ];
    assert_eq!(parts(form), [(head.to_vec(), b"1".to_vec())]);
}

async fn send(upstream: &Upstream, form: Multipart) -> Result<(StatusCode, Vec<Recorded>), Error> {
    let client = HttpClient::builder().build().unwrap();
    let backoff = Backoff::exponential(ms(1), ms(10)).unwrap();
    let layer = RetryLayer::new("scans").classify(StatusClassifier).requests(Idempotent).backoff(backoff);
    let request = Request::put(upstream.url() + "/scans")
        .header(CONTENT_TYPE, form.content_type())
        .body(form.into_body())
        .unwrap();
    let response = ServiceBuilder::new().layer(layer).service(client).oneshot(request).await?;
    Ok((response.status(), upstream.requests()))
}

#[tokio::test]
async fn lengths_that_are_known_are_announced() {
    let upstream = Upstream::start().await;
    upstream.on("/scans", Reply::ok("done"));
    let file = || stream::iter([Ok::<_, Error>("first "), Ok("second")]);
    for (part, known) in [(Body::sized_stream(12, file()), true), (Body::stream(file()), false)] {
        let form = Multipart::new().text("order", "7").part("log", Part::new(part).file_name("log"));
        let requests = send(&upstream, form).await.unwrap().1;
        let Recorded { headers, body, .. } = requests.last().unwrap();
        let length = headers.get("content-length").map(|length| length.to_str().unwrap().parse().unwrap());
        assert_eq!(length, known.then_some(body.len()));
        let parts = parse(&headers["content-type"], body);
        assert_eq!((&*parts[0].1, &*parts[1].1), (&b"7"[..], &b"first second"[..]));
    }
}

#[tokio::test]
async fn a_held_form_is_sent_again_at_any_size_and_a_streamed_one_as_any_stream() {
    let upstream = Upstream::start().await;
    let file = Bytes::from(vec![7; 200_000]);
    let pieces = |count: usize| {
        Body::stream(stream::iter(vec![Ok::<_, std::convert::Infallible>(Bytes::from(vec![7; 1000])); count]))
    };
    for (part, attempts) in [(Body::from(file), 3), (pieces(50), 3), (pieces(200), 1)] {
        upstream.on("/scans", [Reply::status(503), Reply::status(503), Reply::ok("done")]);
        let before = upstream.requests().len();
        let (_, requests) = send(&upstream, Multipart::new().part("scan", Part::new(part))).await.unwrap();
        let sent = &requests[before..];
        assert_eq!(sent.len(), attempts);
        assert!(sent.iter().all(|request| request.body == sent[0].body));
        assert_eq!(parse(&sent[0].headers["content-type"], &sent[0].body).len(), 1);
    }
}

#[tokio::test]
async fn a_stream_of_another_length_than_announced_breaks_the_request_off() {
    let upstream = Upstream::start().await;
    upstream.on("/scans", Reply::ok("done"));
    for (length, why) in [(9, "longer than was announced"), (99, "shorter than was announced")] {
        let file = stream::iter([Ok::<_, Error>("first "), Ok("second")]);
        let form = Multipart::new().part("log", Part::new(Body::sized_stream(length, file)));
        let error = send(&upstream, form).await.unwrap_err();
        assert!(matches!(error, Error::Aborted { .. }) && error.to_string().contains(why), "{error}");
    }
    assert!(upstream.requests().is_empty());
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(
        fields in proptest::collection::vec(
            (any::<String>(), proptest::option::of(any::<String>()), any::<Vec<u8>>(), any::<bool>()),
            0..6,
        ),
    ) {
        let mut form = Multipart::new();
        for (name, file_name, content, streamed) in &fields {
            let content = content.clone();
            let mut part = Part::new(match streamed {
                true => Body::stream(stream::iter([Ok::<_, Error>(content)])),
                false => Body::from(content),
            });
            if let Some(file_name) = file_name {
                part = part.file_name(file_name.clone());
            }
            form = form.part(name, part);
        }
        let read = parts(form);
        prop_assert_eq!(read.len(), fields.len());
        let escaped = |name: &str| name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A");
        for ((name, file_name, content, _), (lines, read)) in fields.iter().zip(&read) {
            prop_assert_eq!(content, read);
            let mut head = format!("content-disposition: form-data; name=\"{}\"", escaped(name));
            if let Some(file_name) = file_name {
                head += &format!("; filename=\"{}\"", escaped(file_name));
            }
            prop_assert_eq!(&lines[0], &head);
            prop_assert_eq!(lines.len(), 1 + usize::from(file_name.is_some()));
        }
    }
}

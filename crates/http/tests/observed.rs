//! What the handles tell, and what a client says of its decisions.

mod support;

use std::{net::SocketAddr, time::Duration};

use buttress_core::{Deadline, Observe, Setting, SettingValue};
use buttress_http::{EXPECTED_TIMEOUT, HttpClient};
use buttress_testkit::observed::{said, settings, watched};
use support::{Client, answer, build, call, client, get, ms, read, read_head, server, text};
use tokio::{
    io::AsyncWriteExt,
    time::{sleep, timeout},
};

#[test]
fn settings_are_those_in_force_and_no_address() {
    let client: Client = HttpClient::builder()
        .pool_idle_timeout(Duration::ZERO)
        .max_connections(7)
        .http2(false)
        .read_timeout(ms(300))
        .connect_to(["127.0.0.1:80".parse().unwrap()])
        .deadline_header(EXPECTED_TIMEOUT)
        .build()
        .unwrap();
    let seen = settings(&client.connections());
    let expected = [
        Setting::new("connect_timeout", SettingValue::Duration(ms(5_000))),
        Setting::new("pool_idle_timeout", SettingValue::Duration(Duration::ZERO)),
        Setting::new("pool_max_idle_per_host", SettingValue::Count(0)),
        Setting::new("max_connections_per_host", SettingValue::Count(100)),
        Setting::new("max_connections", SettingValue::Count(7)),
        Setting::new("max_waiting", SettingValue::Count(1_000)),
        Setting::new("http2", SettingValue::Off),
        Setting::new("first_byte_timeout", SettingValue::Off),
        Setting::new("read_timeout", SettingValue::Duration(ms(300))),
        Setting::new("max_response_body", SettingValue::Off),
        Setting::new("connect_to", SettingValue::Word("on")),
    ];
    assert_eq!(seen[..expected.len()], expected);
    for expected in [
        Setting::new("roots", SettingValue::Word("mozilla")),
        Setting::new("root_certificates", SettingValue::Count(0)),
        Setting::new("client_certificate", SettingValue::Off),
        Setting::new("deadline_header", SettingValue::Word("on")),
    ] {
        assert!(seen.contains(&expected), "{seen:?}");
    }
}

/// Answers each request on a connection after so long.
async fn slow(after: Duration) -> SocketAddr {
    server(move |mut stream, _| async move {
        loop {
            read_head(&mut stream).await?;
            sleep(after).await;
            answer(&mut stream, "late").await?;
        }
    })
    .await
}

#[tokio::test]
async fn who_waits_for_a_connection_is_told_why() {
    let url = format!("http://{}/", slow(ms(400)).await);
    let client =
        build(HttpClient::builder().max_connections_per_host(1).max_waiting(1).connect_timeout(ms(100)));
    let holder = tokio::spawn({
        let (client, url) = (client.clone(), url.clone());
        async move { text(&client, &url).await }
    });
    while client.connections().open() == 0 {
        sleep(ms(1)).await;
    }
    let one = "1 of 1000 connections are there, at most 1 to one host";
    let waiter = tokio::spawn({
        let (client, url) = (client.clone(), url.clone());
        async move { watched(call(&client, get(&url))).await }
    });
    while client.connections().waiting() == 0 {
        sleep(ms(1)).await;
    }
    let (refused, why) = watched(call(&client, get(&url))).await;
    assert!(refused.is_err());
    assert_eq!(why, [said("refused", &format!("{one}, 1 waiting"))]);
    let (late, why) = waiter.await.unwrap();
    assert!(late.is_err());
    let queued = said("queued", &format!("{one}, 1 waiting"));
    assert_eq!(why[0], queued);
    let (what, gave_up) = &why[1];
    assert_eq!(*what, "gave_up");
    assert!(gave_up.starts_with(&format!("no connection became free within 100.0ms: {one}")), "{gave_up}");
    assert_eq!(holder.await.unwrap().unwrap(), "late");
}

#[tokio::test]
async fn what_is_cut_off_says_so() {
    let url = format!("http://{}/", slow(ms(2_000)).await);
    let (late, why) = watched(Deadline::after(ms(50)).scope(call(&client(), get(&url)))).await;
    assert!(late.is_err());
    assert_eq!(why, [said("gave_up", "the caller's deadline passed before the answer came")]);
    let impatient = build(HttpClient::builder().first_byte_timeout(ms(50)));
    let (silent, why) = watched(call(&impatient, get(&url))).await;
    assert!(silent.is_err());
    assert_eq!(why, [said("gave_up", "the server was silent for 50.0ms after the request")]);
}

#[tokio::test]
async fn an_answer_that_is_too_long_or_too_slow_says_so() {
    let addr = server(|mut stream, _| async move {
        read_head(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n").await?;
        sleep(ms(2_000)).await;
        Ok(())
    })
    .await;
    let url = format!("http://{addr}/");
    let bounded = build(HttpClient::builder().max_response_body(4).read_timeout(ms(50)));
    let body = call(&bounded, get(&url)).await.unwrap().into_body();
    let (long, why) = watched(read(body)).await;
    assert!(long.is_err());
    assert_eq!(why, [said("gave_up", "the answer's body has more than 4 bytes")]);
    let bounded = build(HttpClient::builder().read_timeout(ms(50)));
    let body = call(&bounded, get(&url)).await.unwrap().into_body();
    let (slow, why) = watched(read(body)).await;
    assert!(slow.is_err());
    assert_eq!(why, [said("gave_up", "no piece of the answer's body came for 50.0ms")]);
    let late = Deadline::after(ms(50));
    let body = call(&client(), get(&url)).await.unwrap().into_body();
    let (slow, why) = watched(late.scope(read(body))).await;
    assert!(slow.is_err());
    assert_eq!(why, [said("gave_up", "the caller's deadline passed before the answer's end")]);
}

#[tokio::test]
async fn a_weak_handle_keeps_neither_the_client_nor_its_connections() {
    let client = client();
    let url = format!("http://{}/", slow(ms(0)).await);
    let (answered, none) = watched(text(&client, &url)).await;
    assert_eq!((answered.unwrap(), none), ("late".to_owned(), vec![]));
    let weak = client.connections().downgrade();
    assert!(weak.is_same(&client.connections().downgrade()));
    assert_eq!(settings(&*weak.upgrade().unwrap()), settings(&client.connections()));
    drop(client);
    let gone = async {
        while weak.upgrade().is_some() {
            sleep(ms(1)).await;
        }
    };
    timeout(ms(3_000), gone).await.expect("the idle connection ends with the client");
}

#[cfg(feature = "api")]
mod api {
    use buttress_core::Rejectable;
    use buttress_http::ApiClient;

    use super::*;

    fn api(url: &str) -> buttress_http::ApiBuilder {
        ApiClient::builder("observed").base_url(url)
    }

    #[tokio::test]
    async fn settings_are_those_in_force() {
        let client = api("http://secret.example")
            .bearer("hunter2")
            .timeout(ms(900))
            .redirects(3)
            .max_answer(64)
            .build(HttpClient::builder().build().unwrap())
            .unwrap();
        let weak = client.downgrade();
        assert_eq!(
            settings(&*weak.upgrade().unwrap()),
            [
                Setting::new("timeout", SettingValue::Duration(ms(900))),
                Setting::new("redirects", SettingValue::Count(3)),
                Setting::new("max_answer", SettingValue::Count(64)),
            ]
        );
        drop(client);
        assert!(weak.upgrade().is_none());
    }

    #[tokio::test]
    async fn redirects_and_limits_are_decisions() {
        let addr = server(|mut stream, number| async move {
            read_head(&mut stream).await?;
            if number == 0 {
                let moved = "HTTP/1.1 302 Found\r\nlocation: /hunter2\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(moved.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n").as_bytes()).await
            } else {
                answer(&mut stream, "too long").await
            }
        })
        .await;
        let url = format!("http://{addr}");
        let client =
            api(&url).redirects(3).max_answer(4).build(HttpClient::builder().build().unwrap()).unwrap();
        let (answered, why) = watched(client.get("/a").send()).await;
        assert_eq!(why, [said("redirected", "302 to another URL, 2 more may follow")]);
        let (long, why) = watched(answered.unwrap().text()).await;
        assert!(long.is_err());
        assert_eq!(why, [said("gave_up", "the answer's body has more than 4 bytes")]);
    }

    #[tokio::test]
    async fn its_timeout_is_a_decision_of_its_own() {
        let url = format!("http://{}", slow(ms(2_000)).await);
        let client = api(&url).timeout(ms(50)).build(HttpClient::builder().build().unwrap()).unwrap();
        let (late, why) = watched(client.get("/").send()).await;
        assert!(late.unwrap_err().rejected().is_some());
        assert_eq!(why.last(), Some(&said("gave_up", "its timeout was up")));
    }
}

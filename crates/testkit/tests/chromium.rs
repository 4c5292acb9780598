//! Nothing of a browser is left when its chromedriver is dropped.

use std::{env, fs};

use buttress_testkit::{Chromium, Screen};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

async fn post(chromium: &Chromium, path: &str, body: Value) -> Value {
    let authority = chromium.url().trim_start_matches("http://").to_owned();
    let stream = TcpStream::connect(&authority).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post(path)
        .header("host", &authority)
        .header("content-type", "application/json")
        .body(Full::<bytes::Bytes>::from(body.to_string()))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    connection.abort();
    serde_json::from_slice(&answer).unwrap()
}

/// The processes that came with a home of this name.
fn processes(home: &str) -> usize {
    let environ = |process: fs::DirEntry| fs::read(process.path().join("environ")).ok();
    let all = fs::read_dir("/proc").unwrap().filter_map(|process| environ(process.ok()?));
    all.filter(|environ| String::from_utf8_lossy(environ).contains(home)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_ends_with_its_driver() {
    let chromium = match Chromium::try_start().await {
        Ok(chromium) => chromium,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && env::var_os("CI").is_none() => {
            eprintln!("\n!!! SKIPPED: Chromium is NOT tested: {error}\n");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let wanted = json!({ "capabilities": { "alwaysMatch": chromium.capabilities(Screen::PHONE.dark()) } });
    let session = post(&chromium, "/session", wanted).await;
    let id = session["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("{session}"));
    let script = json!({ "script": "return [screen.width, matchMedia('(prefers-color-scheme: dark)').matches]", "args": [] });
    let seen = post(&chromium, &format!("/session/{id}/execute/sync"), script).await;
    assert_eq!(seen["value"], json!([360, true]));

    let profile = session["value"]["capabilities"]["chrome"]["userDataDir"].as_str().unwrap();
    let dir = profile.rsplit_once('/').unwrap().0.to_owned();
    assert!(dir.contains("/chromium-"), "{dir}");
    let home = format!("HOME={dir}");
    assert!(processes(&home) > 2, "chromedriver, the browser, its children");
    drop(chromium);
    assert_eq!(processes(&home), 0);
    assert!(!fs::exists(dir).unwrap());
}

//! What becomes of a connection whose answer is dropped before its end.

mod support;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use buttress_http::ResponseBody;
use http_body_util::BodyExt;
use support::{call, client, get, ms, read_head, server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::{Instant, sleep},
};

const SIZED: &str = "HTTP/1.1 503 Busy\r\ncontent-length: 20000\r\n\r\n";
const CHUNKED: &str = "HTTP/1.1 503 Busy\r\ntransfer-encoding: chunked\r\n\r\n";

/// How many connections three calls open whose answers, sent in these parts with a gap between, are treated so.
async fn connections(parts: &[&str], gap: u64, treat: impl AsyncFn(ResponseBody)) -> usize {
    let opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    let parts: Arc<[String]> = parts.iter().map(|part| (*part).to_owned()).collect();
    let addr = server(move |mut stream: TcpStream, _| {
        count.fetch_add(1, Relaxed);
        let parts = Arc::clone(&parts);
        async move {
            stream.set_nodelay(true)?;
            loop {
                read_head(&mut stream).await?;
                for part in parts.iter() {
                    stream.write_all(part.as_bytes()).await?;
                    sleep(ms(gap)).await;
                }
            }
        }
    })
    .await;
    let (client, url) = (client(), format!("http://{addr}/"));
    for _ in 0..3 {
        treat(call(&client, get(&url)).await.unwrap().into_body()).await;
        sleep(ms(100)).await;
    }
    opened.load(Relaxed)
}

#[tokio::test]
async fn a_short_rest_is_read_so_that_the_connection_is_used_again() {
    let body = "x".repeat(20_000);
    let whole = format!("{SIZED}{body}");
    let halves: [&[&str]; 4] = [
        &[&whole],
        &[SIZED, &body],
        &[CHUNKED, "5\r\nhello\r\n", "0\r\n\r\n"],
        &[CHUNKED, "5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"],
    ];
    for parts in halves {
        assert_eq!(connections(parts, 20, async |body| drop(body)).await, 1, "in {} parts", parts.len());
    }
    let begun = async |mut body: ResponseBody| drop(body.frame().await);
    assert_eq!(connections(&[SIZED, &body[..5], &body[5..]], 20, begun).await, 1);
}

#[tokio::test]
async fn a_rest_that_is_known_to_be_long_is_not_read() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 70000\r\n\r\n";
    let rest = "x".repeat(70_000);
    assert_eq!(connections(&[head, &rest], 1, async |body| drop(body)).await, 3);
}

#[tokio::test]
async fn a_body_dropped_where_there_is_no_runtime_closes_its_connection() {
    let elsewhere = async |body| std::thread::spawn(move || drop(body)).join().unwrap();
    assert_eq!(connections(&[SIZED, &"x".repeat(20_000)], 20, elsewhere).await, 3);
}

/// How long after the drop the server sees the connection closed, and how much it has sent by then.
async fn endless(gap: u64, chunk: usize) -> (std::time::Duration, usize) {
    let (ended, mut end) = mpsc::unbounded_channel();
    let addr = server(move |mut stream: TcpStream, _| {
        let ended = ended.clone();
        async move {
            read_head(&mut stream).await?;
            stream.write_all(CHUNKED.as_bytes()).await?;
            let (mut reader, mut writer) = stream.into_split();
            let sent = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&sent);
            let writing = async move {
                loop {
                    let text = format!("{chunk:x}\r\n{}\r\n", "x".repeat(chunk));
                    writer.write_all(text.as_bytes()).await?;
                    count.fetch_add(chunk, Relaxed);
                    sleep(ms(gap)).await;
                }
            };
            let result: io::Result<()> = tokio::select! {
                result = writing => result,
                _ = reader.read_u8() => Ok(()),
            };
            let _ = ended.send(sent.load(Relaxed));
            result
        }
    })
    .await;
    let response = call(&client(), get(&format!("http://{addr}/"))).await.unwrap();
    let start = Instant::now();
    drop(response);
    let sent = tokio::time::timeout(ms(5000), end.recv()).await.expect("it is never closed").unwrap();
    (start.elapsed(), sent)
}

#[tokio::test]
async fn an_endless_answer_is_given_up_after_a_time_or_a_length() {
    let (after, _) = endless(20, 10).await;
    assert!((ms(240)..ms(1500)).contains(&after), "{after:?}");
    // In 250 ms it could send 400 KiB.
    let (_, sent) = endless(20, 32 * 1024).await;
    assert!(sent <= 200 * 1024, "{sent}");
}

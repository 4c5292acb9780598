//! HTTP endpoints that are not as they should be.
#![cfg(feature = "http")]

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress_health::{Health, Part, PartReport, Probe, State};
use buttress_http::HttpClient;
use buttress_testkit::{Reply, Upstream};
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::Empty;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{sleep, timeout},
};

fn client() -> HttpClient<Empty<&'static [u8]>> {
    HttpClient::builder().name("hostile").build().unwrap()
}

/// What the first result of this probe is.
async fn first(probe: Probe) -> PartReport {
    let part = Part::new("stock", probe).interval(Duration::from_secs(5)).timeout(Duration::from_secs(1));
    let health = Health::builder().part(part).start().unwrap();
    let mut watch = health.watch();
    while watch.report().parts()[0].state == State::Unknown {
        let changed = timeout(Duration::from_secs(20), watch.changed());
        changed.await.expect("it is bounded").expect("the health runs");
    }
    watch.report().parts()[0].clone()
}

async fn first_of(url: String) -> (State, String) {
    let report = first(Probe::http(client(), url).unwrap()).await;
    (report.state, report.cause.map(|cause| cause.to_string()).unwrap_or_default())
}

#[tokio::test]
async fn the_status_decides_and_the_body_is_not_shown() {
    let stock = Upstream::start().await;
    let down = |cause: &str| (State::Down, cause.to_owned());
    stock.on("/ok", Reply::ok("well"));
    assert_eq!(first_of(format!("{}/ok", stock.url())).await, (State::Up, String::new()));
    assert_eq!(stock.requests()[0].method, "GET");
    stock.on("/busy", Reply::status(503).body("hunter2"));
    assert_eq!(first_of(format!("{}/busy", stock.url())).await, down("it answered 503 Service Unavailable"));
    stock.on("/odd", Reply::status(799));
    let (_, cause) = first_of(format!("{}/odd", stock.url())).await;
    assert!(cause.starts_with("it answered 799"), "{cause}");

    let teapot = Probe::http_expecting(client(), format!("{}/tea", stock.url()), |status| status == 418);
    stock.on("/tea", Reply::status(418));
    assert_eq!(first(teapot.unwrap()).await.state, State::Up);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let stock = Upstream::start().await;
    stock.on("/there", Reply::status(302).header("location", "/elsewhere"));
    stock.on("/elsewhere", Reply::ok("well"));
    let (state, cause) = first_of(format!("{}/there", stock.url())).await;
    assert_eq!((state, cause.as_str()), (State::Down, "it answered 302 Found"));
    assert!(stock.requests().iter().all(|request| request.path == "/there"));
}

#[tokio::test]
async fn a_body_that_breaks_off_or_does_not_come_is_a_failure() {
    let stock = Upstream::start().await;
    stock.on("/cut", Reply::ok("well and good").cut_after(4));
    let (state, cause) = first_of(format!("{}/cut", stock.url())).await;
    assert_eq!(state, State::Down);
    assert!(cause.contains("broke off") && cause.contains(&stock.addr().to_string()), "{cause}");
    stock.on("/stuck", Reply::ok("well and good").stall_after(4));
    assert_eq!(first_of(format!("{}/stuck", stock.url())).await, (State::Down, "no answer within 1s".into()));
    stock.on("/never", Reply::never());
    assert_eq!(first_of(format!("{}/never", stock.url())).await, (State::Down, "no answer within 1s".into()));
}

/// A server that says this once and then that for ever, and counts what it could get rid of.
async fn endless(head: &'static [u8], then: &'static [u8]) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(head).await;
                while !then.is_empty() && stream.write_all(then).await.is_ok() {
                    count.fetch_add(then.len() as u64, SeqCst);
                }
            });
        }
    });
    (url, sent)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_answer_has_an_end() {
    const CHUNK: &[u8] = &{
        let mut chunk = [b'x'; 4096 + 8];
        chunk[0] = b'1';
        chunk[1] = b'0';
        chunk[2] = b'0';
        chunk[3] = b'0';
        chunk[4] = b'\r';
        chunk[5] = b'\n';
        chunk[4102] = b'\r';
        chunk[4103] = b'\n';
        chunk
    };
    let (url, sent) = endless(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", CHUNK).await;
    assert_eq!(first_of(url).await.0, State::Up, "the status says so");
    // What the sockets of both sides hold, beside the 64 KiB.
    assert!(sent.load(SeqCst) < 32 * 1024 * 1024, "{}", sent.load(SeqCst));

    for (head, then) in [
        (&b""[..], &b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"[..]),
        (b"HTTP/1.1 200 OK\r\n", b"x-more: hunter2\r\n"),
        (b"", b"SSH-2.0-hunter2\r\n"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello", b""),
        (b"HTTP/1.1 099 hunter2\r\n\r\n", b""),
        (b"", b""),
    ] {
        let (url, sent) = endless(head, then).await;
        let (state, cause) = first_of(url).await;
        assert_eq!(state, State::Down);
        assert!(!cause.is_empty() && !cause.contains("hunter2"), "{cause}");
        // hyper looks up when tokio makes it yield, after 128 reads of some hundred KiB each, and has parsed them by then: a
        // matter of milliseconds, but for a build without optimisation on a busy machine.
        let settles = timeout(Duration::from_secs(60), async {
            let mut taken = u64::MAX;
            while taken != sent.load(SeqCst) {
                taken = sent.load(SeqCst);
                sleep(Duration::from_millis(300)).await;
            }
        });
        settles.await.unwrap_or_else(|_| panic!("{head:?} {then:?}"));
    }
}

/// A body that always has another frame ready, with nothing in it.
struct Nothing(Arc<AtomicU64>);

impl Body for Nothing {
    type Data = &'static [u8];
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Infallible>>> {
        // Else no timeout would end the test.
        let more = self.0.fetch_add(1, SeqCst) < 10_000_000;
        Poll::Ready(more.then(|| Ok(Frame::data(&[][..]))))
    }
}

#[tokio::test]
async fn endless_frames_of_nothing_do_not_hold_the_thread() {
    let taken = Arc::new(AtomicU64::new(0));
    let count = taken.clone();
    let service = tower::service_fn(move |_: Request<Empty<&[u8]>>| {
        std::future::ready(Ok::<_, Infallible>(Response::new(Nothing(count.clone()))))
    });
    assert_eq!(first(Probe::http(service, "http://stock/").unwrap()).await.state, State::Up);
    assert!(taken.load(SeqCst) < 100_000, "{taken:?}");
}

//! A gigabyte down and a gigabyte up through a whole client, to a real nginx: memory stays flat.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_bulkhead::{BulkheadLayer, Limit};
use buttress_circuit_breaker::CircuitBreakerLayer;
use buttress_http::{ApiClient, Body, HttpClient, Idempotent, StatusClassifier};
use buttress_rate_limit::{Rate, RateLimitLayer};
use buttress_retry::RetryLayer;
use buttress_testkit::Nginx;
use buttress_timeout::TimeoutLayer;
use futures_util::{StreamExt, stream};
use tower::ServiceBuilder;

const GIGABYTE: u64 = 1 << 30;
const PIECE: usize = 64 * 1024;
/// Beyond what it had before.
const MOST: u64 = 32 << 20;

/// Of this process, in bytes.
fn memory() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn client(nginx: &Nginx) -> ApiClient {
    let stack = ServiceBuilder::new()
        .layer(RateLimitLayer::new("bulk", Rate::try_new(1_000, Duration::from_secs(1)).unwrap()))
        .layer(RetryLayer::new("bulk").classify(StatusClassifier).requests(Idempotent))
        .layer(CircuitBreakerLayer::builder("bulk").classify(StatusClassifier).build())
        .layer(TimeoutLayer::new(Duration::from_secs(60)).name("bulk attempt"))
        .layer(BulkheadLayer::new("bulk", Limit::fixed(10).unwrap()))
        .service(
            HttpClient::builder().name("bulk").read_timeout(Duration::from_secs(20)).build::<Body>().unwrap(),
        );
    ApiClient::builder("bulk").base_url(nginx.url()).timeout(Duration::from_secs(300)).build(stack).unwrap()
}

/// Looks at the memory now and then.
struct Watch {
    start: u64,
    most: u64,
    pieces: u64,
}

impl Watch {
    fn new() -> Self {
        Self { start: memory(), most: 0, pieces: 0 }
    }

    fn piece(&mut self) {
        self.pieces += 1;
        if self.pieces.is_multiple_of(64) {
            self.most = self.most.max(memory().saturating_sub(self.start));
        }
    }

    fn check(&self, what: &str) {
        eprintln!("{what}: at most {:.1} MiB over the start", self.most as f64 / (1 << 20) as f64);
        assert!(self.most < MOST, "{what}: {} bytes over the start", self.most);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gigabyte_each_way_leaves_memory_flat() {
    let nginx =
        Nginx::start("client_max_body_size 0; location /up/ { dav_methods PUT; } location / { }").await;
    // It has no blocks on the disk.
    let sparse = File::create(nginx.dir().join("gigabyte")).unwrap();
    sparse.set_len(GIGABYTE).unwrap();
    fs::create_dir(nginx.dir().join("up")).unwrap();
    fs::set_permissions(nginx.dir().join("up"), fs::Permissions::from_mode(0o777)).unwrap();
    let client = client(&nginx);
    // What the first call builds up is no part of it.
    client.get("/gigabyte").header("range", "bytes=0-9").send().await.unwrap().bytes().await.unwrap();

    let mut watch = Watch::new();
    let mut answer = client.get("/gigabyte").send().await.unwrap();
    let mut length = 0;
    while let Some(piece) = answer.chunk().await.unwrap() {
        length += piece.len() as u64;
        watch.piece();
    }
    assert_eq!(length, GIGABYTE);
    watch.check("down");

    let watch = Arc::new(Mutex::new(Watch::new()));
    let watched = Arc::clone(&watch);
    let pieces = stream::iter(0..GIGABYTE / PIECE as u64).map(move |_| {
        watched.lock().unwrap().piece();
        Ok::<_, std::io::Error>(vec![7; PIECE])
    });
    let answer = client.put("/up/copy").body(Body::sized_stream(GIGABYTE, pieces)).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    assert_eq!(fs::metadata(nginx.dir().join("up/copy")).unwrap().len(), GIGABYTE);
    watch.lock().unwrap().check("up");
}

//! Three servers behind one service: one is slow, one fails; then the slow one is taken out of the list.
//!
//! `cargo run --example balance` starts the servers itself; nothing else is needed.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, io, net::SocketAddr, time::Duration};

use buttress_balance::{Balance, Change, Ejection, Endpoint};
use buttress_http::{HttpClient, StatusClassifier, is_idempotent};
use buttress_retry::RetryLayer;
use http::Request;
use http_body_util::{BodyExt, Empty};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::{Layer, Service, ServiceExt};

type Body = Empty<&'static [u8]>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let client = HttpClient::builder().name("stock").build::<Body>()?;
    let ms = Duration::from_millis;
    let mut endpoints = Vec::new();
    for (name, delay, status) in
        [("fast", ms(5), "200 OK"), ("slow", ms(50), "200 OK"), ("broken", ms(0), "500 Broken")]
    {
        let addr = start_server(delay, status).await?;
        // Whatever the request's URL says, it goes to this server.
        let server = buttress_http::HttpEndpoint::try_new(client.clone(), &format!("http://{addr}"))?;
        endpoints.push((name, Endpoint::new(server)));
    }
    let balance = Balance::builder("stock")
        .classify(StatusClassifier)
        .ejection(Ejection::try_new(3, Duration::from_secs(10), 0.5)?)
        .build(endpoints);
    let (members, balancer) = (balance.members(), balance.balancer());
    let retry = RetryLayer::new("stock")
        .classify(StatusClassifier)
        .requests(|request: &Request<Body>| is_idempotent(request.method()).then(|| request.clone()));
    let stock = retry.layer(balance);

    for round in ["all three", "without the slow one"] {
        let began = Instant::now();
        let mut callers = JoinSet::new();
        for _ in 0..8 {
            let mut stock = stock.clone();
            callers.spawn(async move {
                for _ in 0..50 {
                    let request = Request::get("/items/7").body(Body::new())?;
                    let response = stock.ready().await?.call(request).await?;
                    assert!(response.status().is_success(), "the retries hide the broken one");
                    response.into_body().collect().await?;
                }
                Ok::<_, Box<dyn Error + Send + Sync>>(())
            });
        }
        while let Some(caller) = callers.join_next().await {
            caller??;
        }
        println!("{round}: 400 calls in {:.0?}", began.elapsed());
        for endpoint in balancer.snapshot().endpoints {
            println!(
                "  {:6} {:?}: {} successes, {} failures",
                endpoint.key, endpoint.state, endpoint.successes, endpoint.failures
            );
        }
        members.apply(Change::Remove("slow"));
    }
    Ok(())
}

async fn start_server(delay: Duration, status: &'static str) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, delay, status));
        }
    });
    Ok(addr)
}

async fn serve(mut stream: TcpStream, delay: Duration, status: &str) -> io::Result<()> {
    let mut request = [0; 4096];
    while stream.read(&mut request).await? > 0 {
        sleep(delay).await;
        stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await?;
    }
    Ok(())
}

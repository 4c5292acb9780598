//! An HTTP API as a tower service: what an answer says about the server, what may be repeated, a deadline.
//!
//! `cargo run --example http` starts a server of its own; nothing else is needed.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, io, net::SocketAddr, time::Duration};

use buttress_core::{Classify, Deadline};
use buttress_http::{HttpClient, StatusClassifier, is_idempotent};
use http::Request;
use http_body_util::{BodyExt, Empty};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tower::{Service, ServiceExt};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let addr = start_server().await?;
    let mut client = HttpClient::builder()
        .name("stock-api")
        .connect_timeout(Duration::from_secs(1))
        .build::<Empty<&[u8]>>()?;

    let nobody = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    for url in [
        format!("http://{addr}/ok"),
        format!("http://{addr}/busy"),
        format!("http://{addr}/hangs"),
        format!("http://user:secret@{nobody}/private?token=7"),
    ] {
        let request = Request::get(&url).body(Empty::new())?;
        let repeatable = is_idempotent(request.method());

        let call = client.ready().await?.call(request);
        let result = Deadline::after(Duration::from_millis(200)).scope(call).await;

        let outcome = StatusClassifier.classify(&result);
        match result {
            Ok(response) => {
                let status = response.status();
                // Read to the end, so that the connection serves the next call.
                let body = response.into_body().collect().await?.to_bytes();
                println!("{status} {body:?}: {outcome:?}");
            }
            Err(error) => println!("{error}: {outcome:?}, may be repeated: {}", repeatable || !error.sent()),
        }
    }
    println!(
        "connections opened: {}, failed: {}",
        client.connections().opened(),
        client.connections().failed()
    );
    Ok(())
}

async fn start_server() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    Ok(addr)
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    let mut request = [0; 4096];
    loop {
        let length = stream.read(&mut request).await?;
        let answer: &[u8] = match &request[..length] {
            [] => return Ok(()),
            [b'G', b'E', b'T', b' ', b'/', b'o', ..] => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            [b'G', b'E', b'T', b' ', b'/', b'b', ..] => {
                b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\ncontent-length: 0\r\n\r\n"
            }
            _ => {
                sleep(Duration::from_secs(60)).await;
                return Ok(());
            }
        };
        stream.write_all(answer).await?;
    }
}

//! A reverse proxy that caches: whatever asks it gets the responses of one origin, by the rules of RFC 9111 for shared caches.
//!
//! ```sh
//! cargo run --example cache_proxy -- --listen 127.0.0.1:8080 --origin http://127.0.0.1:8000
//! ```
//!
//! `Cache-Status` tells of each answer how the cache came to it. Ctrl-C lets the requests on their way finish.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

mod proxy;

use std::{env, process::ExitCode};

use http::Uri;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use self::proxy::Proxy;

const USAGE: &str = "usage: cache_proxy --listen ADDR --origin URL";

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cache_proxy: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<(), String> {
    let (mut listen, mut origin) = (None, None);
    let mut args = env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next();
        match name.as_str() {
            "--listen" => listen = value,
            "--origin" => origin = value,
            _ => return Err(USAGE.into()),
        }
    }
    let listen = listen.ok_or(USAGE)?;
    let origin = origin.ok_or(USAGE)?;
    let uri: Uri = origin.parse().map_err(|error| format!("--origin {origin}: {error}"))?;
    let proxy = Proxy::to(&uri).map_err(|error| format!("--origin {origin}: {error}"))?;
    let listener =
        TcpListener::bind(&listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    println!("Listening on http://{address}, for {origin}");
    let stopped = async {
        // Without the signal there is no other end than the process's.
        let _ = tokio::signal::ctrl_c().await;
    };
    proxy.serve(listener, stopped).await.map_err(|error| error.to_string())
}

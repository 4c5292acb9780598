//! `ApiClient` against real servers.

#![cfg(feature = "api")]

mod answers;
mod limits;
#[cfg(all(feature = "gzip", feature = "brotli", feature = "zstd"))]
mod packed;
mod redirects;
mod requests;
mod stacks;
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
mod tls;
mod uploads;
mod wire;

use std::{future::Future, time::Duration};

use buttress_http::{ApiBuilder, ApiClient, ApiError, ApiResponse, Body, HttpClient};
use buttress_testkit::Upstream;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn http() -> HttpClient<Body> {
    HttpClient::builder().build().unwrap()
}

fn builder(base: impl AsRef<str>) -> ApiBuilder {
    ApiClient::builder("stock").base_url(base)
}

fn client(upstream: &Upstream) -> ApiClient {
    builder(upstream.url()).build(http()).unwrap()
}

/// Fails a test that would hang.
async fn soon<T>(future: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    tokio::time::timeout(ms(5000), future).await.expect("it hangs")
}

async fn get(client: &ApiClient, path: &str) -> Result<ApiResponse, ApiError> {
    soon(client.get(path).send()).await
}

/// Neither of an error's forms shows what must not be seen, down to its last source.
#[track_caller]
fn assert_discreet(error: &ApiError, secrets: &[&str]) {
    let mut shown = format!("{error} {error:?} {error:#?}");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        shown += &format!("{error} {error:?}");
        source = error.source();
    }
    assert!(!secrets.iter().any(|secret| shown.contains(secret)), "{shown}");
}

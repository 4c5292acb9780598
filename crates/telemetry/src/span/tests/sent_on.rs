use buttress_http::HttpClient;
use buttress_testkit::{Reply, Upstream};
use http::Request;
use http_body_util::Full;
use opentelemetry::global;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tower::ServiceExt;

use super::support::{call, setup};
use crate::{Side, source::End};

/// What the client of `buttress-http` sends on inside a call, and that call's ids if it has a span.
async fn sent_on(share: f64, end: End) -> (String, Option<String>) {
    global::set_text_map_propagator(TraceContextPropagator::new());
    let setup = setup(share).await;
    let upstream = Upstream::start().await;
    upstream.on("/", [Reply::ok("")]);
    let request = Request::get(upstream.url() + "/").body(Full::<&[u8]>::default()).unwrap();
    let client = HttpClient::builder().trace_context(true).build().unwrap();
    let (answer, ids) = call(Side::Client, "GET", end, client.oneshot(request)).await;
    assert!(answer.unwrap().status().is_success());
    setup.flush().await;
    let header = upstream.requests()[0].headers["traceparent"].to_str().unwrap().to_owned();
    let ids = ids
        .map(|ids| format!("{:032x}-{:016x}", u128::from_be_bytes(ids.trace), u64::from_be_bytes(ids.span)));
    (header, ids)
}

#[tokio::test]
async fn a_server_that_is_called_is_told_the_span_of_the_call() {
    let (header, ids) = sent_on(1.0, End::Success).await;
    assert_eq!(header, format!("00-{}-01", ids.unwrap()));
}

#[tokio::test]
async fn a_server_is_told_of_an_unsampled_call_as_well_by_the_ids_under_which_it_is_kept() {
    let (header, ids) = sent_on(0.0, End::Failure).await;
    assert_eq!(header, format!("00-{}-00", ids.unwrap()));
    let (header, ids) = sent_on(0.0, End::Success).await;
    assert!(header.ends_with("-00") && ids.is_none(), "{header}");
}

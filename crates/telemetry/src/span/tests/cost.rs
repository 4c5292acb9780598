use std::{hint::black_box, time::Duration};

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use tokio::time::Instant;

use super::support::{settings, setup};
use crate::{Label, Side, source::End, span::CallSpan};

/// Of a call that is ready at once: its beginning, `call`, one poll, and its end. The best of several rounds.
fn cost() -> Duration {
    const CALLS: u32 = 2000;
    let settings = settings(Side::Client);
    let attributes = [("http.request.method", Label::Text("GET".into()))];
    let round = |_| {
        let began = Instant::now();
        for _ in 0..CALLS {
            let span = CallSpan::begin(black_box(&settings), black_box("GET /users/{id}"), &attributes);
            span.enter(|| black_box(()));
            span.enter(|| black_box(()));
            assert!(!black_box(&span).wants_end(End::Success, false));
        }
        began.elapsed() / CALLS
    };
    (0..30).map(round).min().unwrap()
}

/// Without optimization much that is free is not.
fn most(nanos: u64) -> Duration {
    Duration::from_nanos(if cfg!(debug_assertions) { 100 * nanos } else { nanos })
}

#[tokio::test]
async fn an_unsampled_call_costs_next_to_nothing() {
    let nobody = cost();
    let setup = setup(0.0).await;
    let first = cost();
    let unsampled =
        SpanContext::new(TraceId::from(1), SpanId::from(1), TraceFlags::NOT_SAMPLED, true, TraceState::NONE);
    let guard = Context::current().with_remote_span_context(unsampled).attach();
    let part = cost();
    drop(guard);
    setup.flush().await;
    let figures = format!("nobody listens: {nobody:?}, first of a trace: {first:?}, part of one: {part:?}");
    assert!(nobody <= most(50) && first <= most(250) && part <= most(100), "{figures}");
    // For those who look, with --nocapture.
    eprintln!("{figures}");
}

use std::time::Duration;

use buttress_core::{Decision, Origin};
use opentelemetry::{Context, trace::TraceContextExt};
use opentelemetry_proto::tonic::trace::v1::{span::SpanKind, status::StatusCode};

use super::{
    received::{Received, text},
    support::{Ends, call, setup},
};
use crate::{Side, source::End};

#[tokio::test]
async fn of_unsampled_calls_those_that_went_wrong_or_were_slow_are_kept() {
    let setup = setup(0.0).await;
    let slow = |end| Ends { end, error: None, is_slow: true };
    for (name, ends, is_kept) in [
        ("success", End::Success.into(), false),
        ("ignored", End::Ignored.into(), false),
        ("cancelled", End::Cancelled.into(), false),
        ("failure", End::Failure.into(), true),
        ("throttled", End::Throttled.into(), true),
        ("rejected", Ends { end: End::Rejected, error: Some("circuit_open"), is_slow: false }, true),
        ("slow", slow(End::Success), true),
        ("slow and cancelled", slow(End::Cancelled), true),
    ] {
        let ids = call(Side::Client, name, ends, async {}).await.1;
        assert_eq!(ids.is_some(), is_kept, "{name}");
    }
    let panics = tokio::task::LocalSet::new();
    let panics = panics.run_until(async {
        tokio::task::spawn_local(call(Side::Client, "panicked", End::Success, async {
            panic!("on purpose");
        }))
        .await
    });
    assert!(panics.await.unwrap_err().is_panic());

    let collector = setup.flush().await;
    let mut names: Vec<_> = collector.spans().into_iter().map(|span| span.name).collect();
    names.sort();
    assert_eq!(names, ["failure", "panicked", "rejected", "slow", "slow and cancelled", "throttled"]);
    for span in collector.spans() {
        assert_eq!(text(&span.attributes, "buttress.kept").as_deref(), Some("true"));
        assert_eq!(text(&span.attributes, "buttress.name").as_deref(), Some("orders"));
        assert_eq!(span.kind(), SpanKind::Client);
        let is_error = span.status.clone().unwrap_or_default().code() == StatusCode::Error;
        assert_eq!(is_error, !span.name.starts_with("slow"));
    }
    let rejected = collector.named("rejected");
    assert_eq!(text(&rejected.attributes, "error.type").as_deref(), Some("circuit_open"));
    assert_eq!(text(&collector.named("failure").attributes, "error.type").as_deref(), Some("_OTHER"));
}

#[tokio::test]
async fn a_kept_span_has_the_time_of_its_call_and_of_each_decision() {
    let setup = setup(0.0).await;
    let origin = Origin::new("circuit-breaker", "span_kept");
    let before = opentelemetry::time::now();
    let refused = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        Decision::note(origin, "refused", || "open since 2.1 s: 62 % of 100 failed".into());
        tokio::time::sleep(Duration::from_millis(60)).await;
    };
    call(Side::Client, "refused", End::Rejected, refused).await;
    let span = setup.flush().await.named("refused");
    let before = before.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let began = span.start_time_unix_nano - before;
    assert!(began < 20_000_000, "{began}");
    assert!(span.end_time_unix_nano - span.start_time_unix_nano >= 90_000_000);
    let [event] = &*span.events else { panic!("{:?}", span.events) };
    let after = event.time_unix_nano - span.start_time_unix_nano;
    assert!((28_000_000..85_000_000).contains(&after), "{after}");
    assert_eq!(text(&event.attributes, "what").as_deref(), Some("refused"));
    let why = text(&event.attributes, "why").unwrap();
    assert_eq!(why, "open since 2.1 s: 62 % of 100 failed");
}

#[tokio::test]
async fn what_is_kept_of_one_call_fits_together_and_goes_by_the_ids_that_were_sent_on() {
    let setup = setup(0.0).await;
    let inner = async {
        let sent_on = Context::map_current(|context| context.span().span_context().clone());
        assert!(sent_on.is_valid() && !sent_on.is_sampled());
        call(Side::Client, "inner", End::Failure, async {}).await;
        sent_on
    };
    let (sent_on, ids) = call(Side::Server, "outer", End::Failure, inner).await;
    let ids = ids.unwrap();
    assert_eq!((ids.trace, ids.span), (sent_on.trace_id().to_bytes(), sent_on.span_id().to_bytes()));
    assert!(!Context::map_current(Context::has_active_span), "what surrounds it is restored");

    let collector = setup.flush().await;
    let (outer, inner) = (collector.named("outer"), collector.named("inner"));
    assert_eq!((outer.trace_id.clone(), outer.span_id.clone()), (ids.trace.to_vec(), ids.span.to_vec()));
    assert_eq!((inner.trace_id, inner.parent_span_id), (outer.trace_id, outer.span_id.clone()));
    assert_ne!(inner.span_id, outer.span_id);
    assert!(outer.parent_span_id.is_empty());
}

//! What every layer owes, and what the gate itself promises.

use std::{pin::pin, time::Duration};

use buttress_core::{BoxError, Reason, Rejectable};
use buttress_testkit::probe::{
    Backend, calls_only_ready, cancel_everywhere, drop_after, ready, releases_readiness, survives_panic,
};
use tokio::time::timeout;
use tower_layer::Layer;
use tower_service::Service;

use super::Gate;

fn gate() -> Gate {
    Gate::new("app")
}

fn is_closed(error: &BoxError) -> bool {
    error.rejected().is_some_and(|rejected| rejected.reason() == Reason::Closed)
}

#[tokio::test(start_paused = true)]
async fn it_is_a_layer_as_any_other() {
    calls_only_ready(gate()).await;
    releases_readiness(gate()).await;
    survives_panic(gate()).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_anywhere_has_left() {
    let gate = gate();
    cancel_everywhere(gate.clone(), |_| {}, |_| assert_eq!(gate.inside(), 0)).await;
}

#[tokio::test(start_paused = true)]
async fn it_is_empty_when_the_last_call_has_ended_and_closed() {
    let (gate, backend) = (gate(), Backend::new());
    let mut service = gate.layer(backend.service::<BoxError>());
    backend.hold();
    ready(&mut service).await.unwrap();
    let mut call = pin!(service.call(1));
    assert!(timeout(Duration::from_secs(1), &mut call).await.is_err());

    gate.close();
    assert!(timeout(Duration::from_secs(1), gate.empty()).await.is_err());
    backend.release();
    call.as_mut().await.unwrap();
    // The future is there still.
    timeout(Duration::from_secs(1), gate.empty()).await.unwrap();
    assert_eq!(gate.inside(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_waits_for_no_readiness() {
    let (gate, backend) = (gate(), Backend::new());
    backend.ready_after(1_000);
    let mut service = gate.layer(backend.service::<BoxError>());
    gate.close();
    let call = async {
        ready(&mut service).await?;
        service.call(1).await
    };
    let refused: Option<Result<u32, BoxError>> = drop_after(1, false, call).await;
    assert!(is_closed(&refused.expect("it ends at once").unwrap_err()));
    assert_eq!(backend.calls(), 0);

    // One that was ready before is refused as well.
    let (gate, backend) = (self::gate(), Backend::new());
    let mut service = gate.layer(backend.service::<BoxError>());
    ready(&mut service).await.unwrap();
    gate.close();
    let error = service.call(1).await.unwrap_err();
    assert!(is_closed(&error), "{error}");
    assert_eq!((backend.calls(), gate.inside()), (0, 0));
}

//! What one endpoint of a balancer inside refuses is repeated: the next attempt may go to another.

mod script;

use std::io;

use buttress_core::{Origin, Outcome, Reason, Rejectable, Rejected};
use script::{Script, layer};
use std::time::Duration;
use tokio::time::Instant;
use tower::{Layer, ServiceExt};

fn open() -> Rejected {
    // An endpoint's own time says nothing about the others.
    Origin::new("circuit-breaker", "endpoint")
        .reject(Reason::CircuitOpen)
        .with_retry_after(Duration::from_secs(30))
}

#[tokio::test(start_paused = true)]
async fn a_refusal_by_one_of_several_is_repeated_and_its_hint_is_not_kept() {
    let script = Script::of([Err(io::Error::from(open().by_one_of_several())), Ok(7)]);
    let start = Instant::now();
    assert_eq!(layer("one_of_several").layer(script.clone()).oneshot(()).await.unwrap(), 7);
    assert_eq!(script.attempts(start), [0, 100]);
}

#[tokio::test(start_paused = true)]
async fn so_it_is_where_the_classifier_ignores_refusals_or_not() {
    for outcome in [Outcome::Ignored, Outcome::Failure, Outcome::Throttled(open().retry_after())] {
        let classify =
            move |result: &io::Result<u32>| if result.is_ok() { Outcome::Success } else { outcome };
        let script = Script::of([Err(io::Error::from(open().by_one_of_several())), Ok(7)]);
        let service = layer("one_of_several_classified").classify(classify).layer(script.clone());
        assert_eq!(service.oneshot(()).await.unwrap(), 7);
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_no_more_than_the_attempts_and_any_other_refusal_stands() {
    let (script, start) =
        (Script::of([(); 9].map(|()| Err(io::Error::from(open().by_one_of_several())))), Instant::now());
    let error = layer("all_of_several").retries(2).layer(script.clone()).oneshot(()).await.unwrap_err();
    assert!(error.rejected().is_some_and(|rejected| !rejected.sent()));
    assert_eq!(script.attempts(start).len(), 3);

    let (script, start) = (Script::of([Err(io::Error::from(open())), Ok(7)]), Instant::now());
    assert!(layer("the_only_one").layer(script.clone()).oneshot(()).await.is_err());
    assert_eq!(script.attempts(start), [0]);
}

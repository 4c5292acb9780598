//! What a call comes to, of what its attempts came to.

mod script;

use buttress_core::{Outcome, Reason, Rejectable};
use proptest::prelude::*;
use script::{
    End::{self, Answers, Broken, Busy, NotFound, Refused, TimedOut},
    Failure, MS, Script, figure, layer,
};
use tokio::time::Instant;
use tower::{Layer, ServiceExt};

/// The result, when attempts were made, and when the call ended, with a hedge after 100 ms.
async fn call(most: u32, attempts: &[(u32, End)]) -> (Result<usize, Failure>, Vec<u128>, u128) {
    let (script, start) = (Script::of(attempts.iter().copied()), Instant::now());
    let result = layer("outcomes", 100).attempts(most).layer(script.clone()).oneshot(()).await;
    assert_eq!(script.running(), 0);
    (result, script.started(), start.elapsed().as_millis())
}

#[tokio::test(start_paused = true)]
async fn any_result_before_the_delay_stands() {
    for end in [Answers, Broken, NotFound, Busy, Refused, TimedOut] {
        assert_eq!(call(2, &[(50, end)]).await, (end.result(0), vec![0], 50));
        assert_eq!(call(2, &[(0, end)]).await, (end.result(0), vec![0], 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_of_any_attempt_ends_the_call() {
    let by_first = call(2, &[(150, NotFound), (1000, Answers)]).await;
    assert_eq!(by_first, (Err(Failure::NotFound(0)), vec![0, 100], 150));
    let by_hedge = call(2, &[(1000, Answers), (20, NotFound)]).await;
    assert_eq!(by_hedge, (Err(Failure::NotFound(1)), vec![0, 100], 120));
}

#[tokio::test(start_paused = true)]
async fn a_failure_waits_for_the_others() {
    assert_eq!(call(2, &[(150, Broken), (100, Answers)]).await, (Ok(1), vec![0, 100], 200));
    assert_eq!(call(2, &[(300, Answers), (50, Broken)]).await, (Ok(0), vec![0, 100], 300));
}

#[tokio::test(start_paused = true)]
async fn when_all_have_failed_it_is_the_last_failure() {
    let (result, ..) = call(2, &[(300, Broken), (50, TimedOut)]).await;
    assert_eq!(result, Err(Failure::Broken(0)));
    let (result, started, end) = call(2, &[(150, Broken), (100, Broken)]).await;
    assert_eq!((result, started, end), (Err(Failure::Broken(1)), vec![0, 100], 200));
    // The third could still start, but a repetition is not for the hedge to decide.
    assert_eq!(call(3, &[(150, Broken), (60, Broken)]).await.1, [0, 100]);
}

/// The one that fails must not hide the other, which nobody would wake again.
#[tokio::test(start_paused = true)]
async fn hedges_that_end_at_the_same_time_are_all_looked_at() {
    for ends in [[(200, Broken), (100, Answers)], [(200, Answers), (100, Broken)]] {
        let attempts = [(1000, Answers), ends[0], ends[1]];
        let (result, started, end) = call(3, &attempts).await;
        assert_eq!((result.is_ok(), started, end), (true, vec![0, 100, 200], 300));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_leaves_the_next_hedge_to_its_time() {
    let (result, started, end) = call(3, &[(150, Broken), (500, Answers), (10, Answers)]).await;
    assert_eq!((result, started, end), (Ok(2), vec![0, 100, 200], 210));
}

#[tokio::test(start_paused = true)]
async fn who_is_throttled_sends_no_more() {
    for throttled in [[(150, Busy), (500, Answers)], [(600, Answers), (50, Busy)]] {
        let (result, started, end) = call(4, &throttled).await;
        assert_eq!((result.is_ok(), started, end), (true, vec![0, 100], 600));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_a_hedge_costs_the_call_nothing() {
    // And no other is tried: it would be refused as well.
    assert_eq!(call(4, &[(600, Answers), (0, Refused)]).await, (Ok(0), vec![0, 100], 600));
    assert_eq!(call(4, &[(600, Broken), (0, Refused)]).await.0, Err(Failure::Broken(0)));
    // The first attempt may be refused as well, after it has waited for a permit.
    assert_eq!(call(4, &[(150, Refused), (500, Answers)]).await, (Ok(1), vec![0, 100], 600));
}

#[tokio::test(start_paused = true)]
async fn a_failure_says_more_than_a_refusal() {
    for attempts in [[(150, Broken), (200, Refused)], [(150, Refused), (200, Broken)]] {
        let (result, ..) = call(2, &attempts).await;
        assert!(matches!(result, Err(Failure::Broken(_))), "{result:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_as_not_sent_only_where_no_attempt_was() {
    let sent = async |attempts: &[(u32, End)]| {
        let error = call(2, attempts).await.0.unwrap_err();
        let rejected = *error.rejected().unwrap();
        (rejected.reason(), rejected.sent())
    };
    assert_eq!(sent(&[(10, Refused)]).await, (Reason::Overloaded, false));
    assert_eq!(sent(&[(150, Refused), (100, Refused)]).await, (Reason::Overloaded, false));
    assert_eq!(sent(&[(150, TimedOut), (100, Refused)]).await, (Reason::TimedOut, true));
    assert_eq!(sent(&[(150, Refused), (100, TimedOut)]).await, (Reason::TimedOut, true));
}

/// A classifier may say what it wants: what was refused on this side is no answer.
#[tokio::test(start_paused = true)]
async fn no_classifier_makes_a_refusal_an_answer() {
    for outcome in [Outcome::Success, Outcome::Ignored, Outcome::Failure, Outcome::Throttled(None)] {
        let all = move |result: &Result<usize, Failure>| {
            if result.is_ok() { Outcome::Success } else { outcome }
        };
        let layer = layer("refusals", 100).classify(all);
        let script = Script::of([(300, Answers), (0, Refused)]);
        assert_eq!(layer.layer(script).oneshot(()).await, Ok(0));
        assert_eq!(figure(&layer.hedger(), "hedge_wins"), 0.0);
    }
}

/// What a call comes to, told without futures: the result's number of attempt, the starts and the end.
fn naive(attempts: &[(u32, End)], most: usize, delay: u32) -> (usize, Vec<u128>, u128) {
    let mut started = vec![0];
    let mut running = vec![0];
    let mut next = delay;
    let mut may_start = true;
    let mut failed: Option<usize> = None;
    loop {
        let ends = |&attempt: &usize| started[attempt] + attempts[attempt].0;
        let first = *running.iter().min_by_key(|attempt| ends(attempt)).unwrap();
        if may_start && started.len() < most && next < ends(&first) {
            running.push(started.len());
            started.push(next);
            next += delay;
            continue;
        }
        let now = ends(&first);
        running.retain(|attempt| *attempt != first);
        let end = attempts[first].1;
        if matches!(end, Answers | NotFound) {
            failed = Some(first);
            running.clear();
        } else if failed.is_none_or(|failed| end != Refused || attempts[failed].1 == Refused) {
            failed = Some(first);
        }
        may_start &= !matches!(end, Busy | Refused);
        if running.is_empty() {
            return (failed.unwrap(), started.into_iter().map(u128::from).collect(), now.into());
        }
    }
}

fn ends() -> impl Strategy<Value = End> {
    prop::sample::select(vec![Answers, Broken, NotFound, Busy, Refused, TimedOut])
}

proptest! {
    #[test]
    fn comes_to_what_the_naive_model_comes_to(
        attempts in prop::collection::vec((0..100_u32, ends()), 5), most in 1..=5_u32, delay in 1..40_u32,
    ) {
        // No two things happen in the same millisecond: starts at whole tens, ends between them.
        let times = attempts.iter().zip(1..).map(|((after, end), number)| (after * 10 + number, *end));
        let attempts: Vec<_> = times.collect();
        let delay = delay * 10;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        runtime.block_on(async {
            let (script, start) = (Script::of(attempts.clone()), Instant::now());
            let layer = layer("naive", 1).delay(delay * MS).attempts(most);
            let result = layer.layer(script.clone()).oneshot(()).await;
            let (attempt, started, end) = naive(&attempts, usize::try_from(most)?, delay);
            prop_assert_eq!(start.elapsed().as_millis(), end);
            prop_assert_eq!(figure(&layer.hedger(), "hedges") as usize, started.len() - 1);
            prop_assert_eq!(script.started(), started);
            prop_assert_eq!(result, attempts[attempt].1.result(attempt));
            prop_assert_eq!(script.running(), 0);
            Ok(())
        })?;
    }
}

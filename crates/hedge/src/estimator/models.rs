//! Every interleaving of a few threads, by loom.

use loom::{sync::Arc, thread};

use super::*;

/// The histogram has two places here.
const FAST: Duration = Duration::ZERO;
const SLOW: Duration = Duration::from_secs(1);

/// Few enough switches to end in seconds, and enough for the protocol to break where a step is left out.
fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.check(f);
}

/// An estimator whose window ends with the next call that is recorded at the second instant.
fn nearly_full() -> (Arc<Estimator>, Instant) {
    let estimator = Estimator::new(0.5, 1);
    let start = Instant::now();
    estimator.record(FAST, start);
    estimator.record(FAST, start);
    (Arc::new(estimator), start + SHORTEST)
}

#[test]
fn loom_nothing_is_lost_or_counted_twice_when_the_window_changes() {
    model(|| {
        let (estimator, now) = nearly_full();
        let others = [(); 2].map(|()| {
            let estimator = Arc::clone(&estimator);
            thread::spawn(move || {
                estimator.at_once();
                estimator.record(FAST, now);
            })
        });
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(estimator.running.load(Relaxed), 1, "it has changed, and only once");
        assert_eq!(estimator.total(), 2 + 2 * 2);
        let turn = estimator.turn.lock().unwrap();
        assert!(turn.at_once_before <= turn.at_once_then && turn.at_once_then <= 2);
    });
}

#[test]
fn loom_there_is_a_percentile_whoever_refreshes() {
    model(|| {
        let estimator = Arc::new(Estimator::new(0.5, 1));
        let start = Instant::now();
        let other = {
            let estimator = Arc::clone(&estimator);
            thread::spawn(move || estimator.record(FAST, start))
        };
        estimator.record(FAST, start);
        other.join().unwrap();
        assert!(estimator.quantile().is_some());
    });
}

/// State that is lent again, while a call of before still records: that call may be counted or not, and nothing that was
/// recorded before is.
#[test]
fn loom_a_straggler_brings_nothing_back() {
    model(|| {
        let (estimator, now) = nearly_full();
        let of_before = estimator.quantile();
        let straggler = {
            let estimator = Arc::clone(&estimator);
            thread::spawn(move || estimator.record(SLOW, now))
        };
        estimator.renew();
        straggler.join().unwrap();
        assert!(estimator.total() <= 1);
        assert!(of_before.is_some() && estimator.quantile() != of_before);
        estimator.record(SLOW, now);
        assert!(estimator.quantile() > of_before);
    });
}

//! A transaction is shared by the futures of its closure, which may be polled on several threads.

use std::sync::Arc;

use buttress_testkit::models::model;
use loom::thread;

use super::*;

#[test]
fn loom_a_statement_that_was_given_up_is_unfinished_or_the_transaction_is_abandoned() {
    model(3, || {
        let progress = Arc::new(Progress::default());
        let begun = progress.start(0).unwrap();
        mem::forget(begun);
        let other = {
            let progress = Arc::clone(&progress);
            thread::spawn(move || drop(Unfinished(&progress)))
        };
        if !progress.is_running() {
            assert_eq!(progress.health(), Health::Abandoned);
        }
        if let Ok(alone) = progress.start_stream(0) {
            assert_eq!(progress.health(), Health::Abandoned, "it is not alone before that");
            alone.finish();
        }
        other.join().unwrap();
        assert_eq!(progress.at_the_end_of(0), Health::Abandoned);
    });
}

#[test]
fn loom_a_stream_is_alone() {
    model(3, || {
        let progress = Arc::new(Progress::default());
        let other = {
            let progress = Arc::clone(&progress);
            thread::spawn(move || {
                let begun = progress.start_stream(0).map(Unfinished::finish);
                assert!(matches!(begun, Ok(()) | Err(QueryError::NotAlone | QueryError::InnerTransaction)));
            })
        };
        match progress.start(0) {
            Ok(statement) => {
                assert!(!progress.lock().streams);
                statement.finish();
            }
            Err(refused) => assert_eq!(refused, QueryError::NotAlone),
        }
        if let Ok(level) = progress.descend(0) {
            assert!(!progress.is_running() && progress.start(0).is_err());
            level.close();
        }
        other.join().unwrap();
        assert_eq!(progress.at_the_end_of(0), Health::Sound);
    });
}

/// What fails in a level is cured with it, and nobody outside is let in before that.
#[test]
fn loom_nobody_outside_of_a_level_gets_in_before_it_is_cured() {
    model(3, || {
        let progress = Arc::new(Progress::default());
        let level = progress.descend(0).unwrap();
        progress.worsen(Health::Failed);
        let other = {
            let progress = Arc::clone(&progress);
            thread::spawn(move || {
                if let Ok(statement) = progress.start(0) {
                    assert_eq!(progress.health(), Health::Sound);
                    statement.finish();
                }
            })
        };
        level.cure();
        other.join().unwrap();
        assert_eq!(progress.at_the_end_of(0), Health::Sound);
    });
}

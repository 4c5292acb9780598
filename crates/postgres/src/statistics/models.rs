//! One place, and one part of a histogram: no recording is lost, and none counted twice.

use buttress_testkit::models::model;
use loom::thread;

use super::*;

fn run(entry: &Entry) {
    entry.figures().record(Duration::from_millis(1), Some(1));
}

/// Of these and of all others together: how many were recorded, how many rows, in the histogram, and how long they took.
fn sum(all: &[&Figures]) -> (u64, u64, Duration) {
    let all = all.iter().map(|figures| figures.snapshot(None));
    all.fold((0, 0, Duration::ZERO), |(count, rows, total), figures| {
        assert_eq!(figures.count() == 0, figures.p50().is_zero(), "in the histogram too");
        (count + figures.count(), rows + figures.rows(), total + figures.total())
    })
}

#[test]
fn loom_what_is_recorded_while_a_text_is_displaced_is_counted_once() {
    let origin = Origin::new("postgres", "displaced");
    model(2, move || {
        let statistics = sync::Arc::new(Statistics::new(origin, Duration::MAX));
        let entry = statistics.entry("select a");
        let other = thread::spawn(move || {
            run(&entry);
            run(&entry);
        });
        let new = statistics.entry("select b");
        run(&new);
        other.join().unwrap();
        let told = sum(&[&new.figures, &statistics.home.other]);
        assert_eq!(told, (3, 3, Duration::from_millis(3)));
        assert_eq!(statistics.lock().len(), 1);
    });
}

#[test]
fn loom_two_that_ask_for_a_new_text_have_one_entry() {
    let origin = Origin::new("postgres", "shared");
    model(2, move || {
        let statistics = sync::Arc::new(Statistics::new(origin, Duration::MAX));
        let other = {
            let statistics = sync::Arc::clone(&statistics);
            thread::spawn(move || run(&statistics.entry("select 1")))
        };
        let entry = statistics.entry("select 2");
        run(&entry);
        other.join().unwrap();
        assert_eq!(sum(&[&entry.figures, &statistics.home.other]).0, 2);
        assert_eq!(statistics.home.other.count(), 0);
    });
}

#[test]
fn loom_what_is_recorded_while_all_begins_anew_is_there_once() {
    let origin = Origin::new("postgres", "anew");
    model(2, move || {
        let statistics = sync::Arc::new(Statistics::new(origin, Duration::MAX));
        let entry = statistics.entry("select a");
        run(&entry);
        let other = {
            let entry = sync::Arc::clone(&entry);
            thread::spawn(move || run(&entry))
        };
        let gone = Figures::default();
        statistics.begin_anew(&gone);
        other.join().unwrap();
        assert_eq!(gone.count() + entry.figures.count(), 2);
        assert!(gone.count() >= 1 && entry.uses() >= 2, "it stays as hard to displace");
        assert_eq!(gone.total() + entry.figures.total(), 2_000_000);
    });
}

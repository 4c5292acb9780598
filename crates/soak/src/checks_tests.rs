use std::collections::BTreeMap;

use super::*;
use crate::{
    recovery::{Happened, effects},
    sample::{Class, tests::read},
    schedule::Planned,
    upstream::Counted,
};

const LASTS: Duration = Duration::from_secs(60);

fn books() -> Books {
    let mut books = Books::default();
    for (ledger, key) in [(&mut books.orders, "a"), (&mut books.jobs, "job-1")] {
        ledger.sent(key);
        ledger.acknowledged(key, true);
    }
    let once = |key: &str| BTreeMap::from([(key.to_owned(), 1)]);
    (books.order_rows, books.order_jobs, books.job_rows) = (once("a"), once("a"), once("job-1"));
    books
}

fn look(at: u64, memory: u64, files: u64, tasks: u64) -> Look {
    let held = Held { memory, threads: 4, files, sockets: files / 2, tasks: Some(tasks) };
    let at = Duration::from_secs(at);
    Look { at, gateway: Some(held), workers: Some(held), postgres: Some(20), redis: Some(4) }
}

/// One in which everything held.
fn well() -> Soaked {
    let mut samples: Vec<_> = (0..6_000).map(|n| read(n * 10, 5)).collect();
    samples.push(Sample { class: Class::Burst, outcome: Outcome::Limited, ..read(30_000, 1) });
    samples.sort_by_key(Sample::end);
    let lasts = Duration::from_secs(2);
    let planned = Planned { at: Duration::ZERO, kind: Kind::RedisKilled, lasts, delay: None, pick: 0 };
    let (from, until) = (Duration::from_secs(20), Duration::from_secs(22));
    let end = |name: &str| Ended {
        name: name.into(),
        code: Some(0),
        took: from / 20,
        last_word: "Stopped.".into(),
    };
    Soaked {
        seed: 7,
        lasts: LASTS,
        samples,
        bursts: vec![Duration::from_secs(30)],
        words: BTreeMap::new(),
        faults: vec![Happened { planned, from, until, wrong: None }],
        looks: (0..60).map(|at| look(at, 40_000, 60, 50)).collect(),
        upstream: Counted {
            requests: 100,
            most_at_once: BULKHEAD,
            most_at_once_in_faults: BULKHEAD + 1,
            most_in_window: RATE,
            most_in_window_in_faults: RATE + 1,
        },
        books: books(),
        ends: vec![end("gateway"), end("worker-0")],
    }
}

/// Names of the checks that do not hold.
fn fails(soaked: &Soaked) -> Vec<String> {
    let effects = effects(&soaked.faults, &soaked.samples);
    let failed = checks(soaked, &effects).into_iter().filter(|check| !check.held);
    failed.map(|check| check.name).collect()
}

#[track_caller]
fn assert_fails(expected: &[&str], spoil: impl FnOnce(&mut Soaked)) {
    let mut soaked = well();
    spoil(&mut soaked);
    soaked.samples.sort_by_key(Sample::end);
    assert_eq!(fails(&soaked), expected);
}

#[test]
fn what_is_well_holds() {
    assert_eq!(fails(&well()), [""; 0]);
}

#[test]
fn a_write_that_is_lost_or_doubled_is_found_wherever_it_is() {
    assert_fails(&["orders, in Postgres"], |it| it.books.order_rows.clear());
    assert_fails(&["orders, in Postgres"], |it| _ = it.books.order_rows.insert("a".into(), 2));
    assert_fails(&["orders, in the workers' ledger"], |it| _ = it.books.order_jobs.insert("a".into(), 2));
    assert_fails(&["orders, in the workers' ledger"], |it| it.books.order_jobs.clear());
    assert_fails(&["jobs, in the workers' ledger"], |it| _ = it.books.job_rows.insert("b".into(), 1));
    assert_fails(&["orders that were said to be new twice"], |it| it.books.orders.acknowledged("a", true));
    assert_fails(&["jobs that are dead"], |it| it.books.dead = 1);
    assert_fails(&["jobs that are not done in the end"], |it| it.books.open = 1);
}

#[test]
fn an_answer_after_its_deadline_is_found_even_in_a_fault() {
    let late = |it: &mut Soaked, outcome| it.samples.push(Sample { outcome, ..read(19_000, 3_501) });
    assert_fails(&["the longest answer, whatever the fault"], |it| late(it, Outcome::Failed(503)));
    assert_fails(&["the longest answer, whatever the fault"], |it| late(it, Outcome::Hung));
}

#[test]
fn an_error_outside_of_faults_is_found() {
    let failed = Sample { outcome: Outcome::Failed(500), ..read(50_000, 1) };
    assert_fails(&["errors outside of faults and their recovery"], |it| it.samples.push(failed));
}

#[test]
fn a_recovery_that_does_not_come_is_found() {
    let slow = |it: &mut Soaked| {
        let times = Duration::from_secs(21)..Duration::from_secs(50);
        for sample in it.samples.iter_mut().filter(|it| times.contains(&it.at)) {
            sample.took = Duration::from_millis(200);
        }
    };
    assert_fails(&["the slowest recovery of the reads' p99"], slow);
}

#[test]
fn what_gets_slower_from_fault_to_fault_is_found_although_each_was_recovered_from() {
    let slower = |it: &mut Soaked| {
        let first = it.faults[0].clone();
        let later = |from: u64| {
            let (from, until) = (Duration::from_secs(from), Duration::from_secs(from + 2));
            Happened { from, until, ..first.clone() }
        };
        it.faults = vec![later(20), later(30), later(40)];
        for sample in &mut it.samples {
            let took = match sample.at.as_secs() {
                ..22 => 5,
                22..32 => 90,
                _ => 200,
            };
            sample.took = Duration::from_millis(took);
        }
    };
    assert_fails(&["the reads' p99 at the end"], slower);
}

#[test]
fn a_soak_without_a_fault_is_none() {
    assert_fails(&["kinds of faults"], |it| it.faults.clear());
}

#[test]
fn a_fault_that_did_not_come_about_is_found() {
    let nobody = ["faults of Postgres and the upstream that nobody noticed"];
    assert_fails(&nobody, |it| it.faults[0].planned.kind = Kind::PostgresFrozen);
}

#[test]
fn a_limit_that_is_passed_or_never_reached_is_found() {
    assert_fails(&["requests at once at the upstream while it is well"], |it| it.upstream.most_at_once += 1);
    assert_fails(&["requests at once at the upstream while it is well"], |it| it.upstream.most_at_once = 3);
    assert_fails(&["requests at the upstream while it is well"], |it| it.upstream.most_in_window += 1);
    assert_fails(&["requests at the upstream while it is well"], |it| it.upstream.most_in_window = 60);
    assert_fails(&["requests at once at the upstream in its faults"], |it| {
        it.upstream.most_at_once_in_faults = 2 * BULKHEAD + 1;
    });
    assert_fails(&["requests at the upstream in its faults"], |it| {
        it.upstream.most_in_window_in_faults = 400
    });
    assert_fails(&["requests that a limit refused"], |it| {
        it.samples.retain(|sample| sample.outcome != Outcome::Limited);
    });
}

#[test]
fn what_is_held_in_the_end_and_was_not_in_the_beginning_is_found() {
    let end = |it: &mut Soaked, end: &dyn Fn(u64) -> Look| {
        it.looks.iter_mut().skip(50).enumerate().for_each(|(n, look)| *look = end(50 + n as u64));
    };
    let both = |what: &str| ["gateway", "workers"].map(|it| format!("{it}: {what}"));
    let [gateway, workers] = both("resident memory");
    assert_fails(&[&*gateway, &*workers], |it| end(it, &|at| look(at, 80_000, 60, 50)));
    let ([gateway, workers], sockets) = (both("open files"), both("sockets"));
    assert_fails(&[&*gateway, &*sockets[0], &*workers, &*sockets[1]], |it| {
        end(it, &|at| look(at, 40_000, 100, 50));
    });
    assert_fails(&["gateway: tokio's tasks"], |it| end(it, &|at| look(at, 40_000, 60, 70)));
    assert_fails(&["connections to Postgres"], |it| {
        end(it, &|at| Look { postgres: Some(30), ..look(at, 40_000, 60, 50) });
    });
    assert_fails(&["connections to Redis"], |it| {
        end(it, &|at| Look { redis: None, ..look(at, 40_000, 60, 50) });
    });
}

#[test]
fn an_end_that_is_late_or_wrong_is_found_and_so_is_a_reload_that_is_not_taken() {
    assert_fails(&["worker-0: its end after SIGTERM"], |it| it.ends[1].code = Some(2));
    assert_fails(&["gateway: its end after SIGTERM"], |it| it.ends[0].took = Duration::from_secs(9));
    assert_fails(&["faults and reloads that went otherwise than they should"], |it| {
        it.faults[0].wrong = Some("it was not taken".into());
    });
}

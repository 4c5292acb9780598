//! Callers, whoever closes, and the worker that looks after both, in all orders of three threads.

use std::sync::Arc;

use loom::thread;

use super::{Subject, callers::Callers, desk::Desk, keys::Keys, queue::Queue};

fn model(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

#[test]
fn loom_what_is_put_in_while_the_worker_ends_is_looked_at() {
    model(|| {
        let queue = Arc::new(Queue::new());
        let number = queue.hire(|| ()).unwrap();
        let works = {
            let queue = queue.clone();
            thread::spawn(move || {
                let mut seen = queue.take();
                while !queue.resign(number) {
                    seen.append(&mut queue.take());
                }
                queue.leave(number);
                seen.len()
            })
        };
        // As `Shared::ring` does.
        let mut seen = 0;
        if !queue.push(1)
            && let Some(next) = queue.hire(|| ())
        {
            seen += queue.take().len();
            assert!(next != number && queue.is_worker(next) && queue.resign(next));
        }
        seen += works.join().unwrap();
        assert_eq!(seen, 1);
    });
}

#[test]
fn loom_there_is_one_worker_whoever_wants_one() {
    model(|| {
        let queue = Arc::new(Queue::<u8>::new());
        let other = queue.clone();
        let hires = thread::spawn(move || other.hire(|| ()));
        let hired = [queue.hire(|| ()), hires.join().unwrap()];
        assert_eq!(hired.iter().flatten().count(), 1);
        let first = hired.into_iter().flatten().next().unwrap();
        let other = queue.clone();
        let replaces = thread::spawn(move || {
            other.dismiss();
            other.hire(|| ())
        });
        // The one who was dismissed, on its way out.
        queue.leave(first);
        let second = replaces.join().unwrap();
        assert!(second.is_some_and(|second| queue.is_worker(second)));
    });
}

#[test]
fn loom_the_last_caller_that_leaves_tells_the_worker_of_a_closed_limiter() {
    model(|| {
        let callers = Arc::new(Callers::new());
        let bell = Arc::new(loom::sync::Notify::new());
        assert!(callers.enter(1) && !callers.enter(1));
        let leaves = {
            let (callers, bell) = (callers.clone(), bell.clone());
            thread::spawn(move || {
                if callers.leave() {
                    bell.notify();
                }
            })
        };
        let closes = {
            let (callers, bell) = (callers.clone(), bell.clone());
            thread::spawn(move || {
                callers.close();
                bell.notify();
            })
        };
        while !callers.is_closing() || callers.waiting() > 0 {
            bell.wait();
        }
        leaves.join().unwrap();
        closes.join().unwrap();
    });
}

/// A desk is forgotten while somebody who has it in hand gives units back.
#[test]
fn loom_no_desk_is_forgotten_that_has_units_to_give_back() {
    let subject = |key| Subject::of_key("test".into(), key);
    model(move || {
        let keys = Arc::new(Keys::new(1));
        let desk = move |keys: &Keys| keys.desk(b"key", |key| Desk::new(subject(key), 1, true));
        let (mine, his) = (desk(&keys).unwrap(), desk(&keys).unwrap());
        let others = keys.clone();
        let forgets = thread::spawn(move || drop(others.forget(mine)));
        his.slow().give_back(1, 1);
        drop(his);
        forgets.join().unwrap();
        assert_eq!(desk(&keys).unwrap().slow().returned, 1);
    });
}

#[test]
fn loom_what_is_rung_for_is_looked_at_after_it_was_changed() {
    let subject = |key| Subject::of_key("test".into(), key);
    model(move || {
        let desk = Arc::new(Desk::new(subject(b"key".as_slice().into()), 1, true));
        let queue = Arc::new(Queue::new());
        let ring = |desk: &Arc<Desk>, queue: &Queue<Arc<Desk>>| {
            if desk.slow().ring() {
                queue.push(desk.clone());
            }
        };
        ring(&desk, &queue);
        let changes = {
            let (desk, queue) = (desk.clone(), queue.clone());
            thread::spawn(move || {
                desk.slow().give_back(1, 1);
                ring(&desk, &queue);
            })
        };
        let look = || {
            let due = queue.take();
            due.iter().for_each(|desk| desk.slow().is_rung = false);
            due.iter().map(|desk| desk.slow().returned).max().unwrap_or(0)
        };
        let seen = look();
        changes.join().unwrap();
        assert_eq!(seen.max(look()), 1);
    });
}

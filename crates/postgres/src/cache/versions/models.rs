//! Each method is one critical section, but for one; here they meet each other.

use buttress_testkit::models::model;
use loom::{sync::Arc, thread};

use super::*;

fn versions() -> (Arc<Versions>, Table) {
    // The clock is not read by what is asked here.
    (Arc::new(Versions::new(Instant::now())), Table::from("t"))
}

fn of(versions: &Versions, table: &Table) -> Version {
    versions.of(std::slice::from_ref(table), Instant::now)
}

#[test]
fn loom_who_asks_after_a_change_gets_another_version() {
    model(3, || {
        let (versions, table) = versions();
        versions.hear(std::slice::from_ref(&table));
        let before = of(&versions, &table);
        let others = ["t", "public.t"].map(|name| {
            let (versions, table) = (Arc::clone(&versions), table.clone());
            thread::spawn(move || {
                let before = of(&versions, &table);
                if name == "t" {
                    versions.changed(&[table.clone()])
                } else {
                    versions.all_changed()
                }
                let after = of(&versions, &table);
                assert!(after.epoch > before.epoch);
            })
        });
        assert!(versions.told("public.t"));
        assert!(of(&versions, &table).epoch > before.epoch);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert!(versions.changes() >= before.epoch + 3);
    });
}

/// A listener is replaced just when its connection is lost, and found again.
#[test]
fn loom_a_listener_that_was_replaced_makes_nobody_deaf_and_nobody_hearing() {
    for lost in [false, true] {
        model(3, move || {
            let (versions, table) = versions();
            let first = versions.hear(std::slice::from_ref(&table));
            let old = {
                let versions = Arc::clone(&versions);
                thread::spawn(move || {
                    versions.fall_deaf(first);
                    versions.hear_again(first)
                })
            };
            let second = versions.hear(std::slice::from_ref(&table));
            if lost {
                versions.fall_deaf(second);
            }
            let heard_in_between = old.join().unwrap();
            assert_eq!(versions.is_heard(), !lost);
            assert!(!versions.hear_again(first), "it was replaced: {heard_in_between}");
        });
    }
}

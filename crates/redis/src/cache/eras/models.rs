use std::sync::Arc;

use buttress_testkit::models::model;
use loom::thread;

use super::*;

const fn era(birth: u64, number: u64) -> Era {
    Era { birth, number }
}

/// Redis was asked what came since the first era, and another answer tells of a later one before that is heard.
#[test]
fn loom_what_is_known_does_not_go_back_and_one_forgets() {
    model(3, || {
        let eras = Arc::new(Eras::default());
        assert_eq!(eras.note(era(1, 0)), Heard::Nothing);
        let others = [(); 2].map(|()| {
            let eras = Arc::clone(&eras);
            thread::spawn(move || eras.note(era(5, 0)))
        });
        let asked = eras.known();
        let caught_up = eras.catch_up(asked, era(asked.unwrap().birth, 3));
        let heard = others.map(|other| other.join().unwrap());
        assert_eq!(heard.iter().filter(|heard| **heard == Heard::Forget).count(), 1);
        assert_eq!(eras.known().unwrap().birth, 5);
        assert!(caught_up || asked == Some(era(1, 0)), "somebody was faster");
    });
}

#[test]
fn loom_who_begins_an_era_does_not_undo_a_later_one() {
    model(3, || {
        let eras = Arc::new(Eras::default());
        eras.note(era(1, 0));
        let others = [2, 3].map(|birth| {
            let eras = Arc::clone(&eras);
            thread::spawn(move || eras.began(era(birth, 0)))
        });
        let heard = eras.note(era(1, 1));
        assert_ne!(heard, Heard::Forget);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(eras.known(), Some(era(3, 0)));
    });
}

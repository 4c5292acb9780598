use std::sync::Arc;

use buttress_testkit::models::model;
use loom::thread;

use super::*;

#[test]
fn loom_who_takes_back_his_word_takes_back_nobody_elses() {
    model(3, || {
        let sent = Arc::new(Sent::default());
        let others = [(); 2].map(|()| {
            let sent = Arc::clone(&sent);
            thread::spawn(move || {
                sent.tell();
                assert!(sent.any(), "his own");
                sent.take_back();
            })
        });
        sent.tell();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert!(sent.any());
        sent.take_back();
        assert!(!sent.any());
    });
}

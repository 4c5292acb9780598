use buttress_testkit::models::model;
use loom::{
    sync::atomic::{AtomicUsize as Count, Ordering::SeqCst},
    thread,
};

use super::*;

#[test]
fn loom_never_more_are_unanswered_than_may_be_and_who_is_refused_counts_for_nothing() {
    const MOST: usize = 1;
    model(3, || {
        let (unanswered, inside) = (Arc::new(AtomicUsize::new(0)), Arc::new(Count::new(0)));
        let send = |unanswered: &Arc<AtomicUsize>, inside: &Count| {
            let ticket = Ticket::admit("GET".into(), unanswered, 0, MOST)?;
            assert!(inside.fetch_add(1, SeqCst) < MOST);
            let name = ticket.into_name();
            inside.fetch_sub(1, SeqCst);
            Some(drop(name))
        };
        let others = [(); 2].map(|()| {
            let (unanswered, inside) = (Arc::clone(&unanswered), Arc::clone(&inside));
            thread::spawn(move || send(&unanswered, &inside))
        });
        send(&unanswered, &inside);
        others.into_iter().for_each(|other| {
            let _sent = other.join().unwrap();
        });
        assert_eq!(unanswered.load(SeqCst), 0);
        assert!(send(&unanswered, &inside).is_some(), "there is room");
    });
}

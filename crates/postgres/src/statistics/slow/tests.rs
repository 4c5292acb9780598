use super::*;
use crate::{recent::RecentTexts, statistics::Statistics};

fn state_of(names: impl Iterator<Item = usize>, took: Duration, now: Instant) -> State {
    let mut state = State::default();
    for n in names {
        let (text, ran) = text(n);
        state.keep(&text, &ran, took, Ending::Failed, now);
    }
    state
}

fn text(n: usize) -> (Arc<str>, Arc<Text>) {
    let statistics = Arc::new(Statistics::new(Origin::new("postgres", "slow"), Duration::MAX));
    let name = format!("select a{n}");
    let ran = RecentTexts::new(statistics).parse(&name).unwrap();
    (name.into(), ran)
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_list_is_bounded_and_keeps_the_slowest() {
    let now = Instant::now();
    let mut state = state_of(0..1_000, SECOND, now);
    assert_eq!(state.list.len(), MOST);
    let (text, ran) = text(2_000);
    state.keep(&text, &ran, SECOND, Ending::Failed, now);
    assert!(!state.list.contains_key(&text), "it is not slower than any");
    state.keep(&text, &ran, SECOND * 2, Ending::Failed, now);
    assert!(state.list.contains_key(&text));
    assert_eq!(state.list.len(), MOST);
}

#[test]
fn what_was_not_seen_for_an_hour_gives_way_to_anything() {
    let now = Instant::now();
    let mut state = state_of(0..MOST, SECOND * 60, now);
    let (text, ran) = text(2_000);
    state.keep(&text, &ran, SECOND, Ending::GivenUp, now + STALE);
    assert_eq!((state.list[&text].count, state.list.len()), (1, MOST));
}

#[test]
fn the_log_gets_ten_and_then_one_each_second() {
    let now = Instant::now();
    let mut log = Log::default();
    let told = (0..100).filter(|_| log.tell(now).is_some()).count();
    assert_eq!(told, BURST as usize);
    assert_eq!(log.tell(now + SECOND), Some(90));
    assert_eq!(log.tell(now + SECOND), None);
    let told = (0..100).filter(|_| log.tell(now + SECOND * 100).is_some()).count();
    assert_eq!(told, BURST as usize);
}

#[test]
fn debug_shows_no_literal() {
    let statistics = Arc::new(Statistics::new(Origin::new("postgres", "slow"), Duration::MAX));
    let ran = RecentTexts::new(statistics).parse("select 'hunter2'").unwrap();
    let mut state = State::default();
    state.keep(&"select ?".into(), &ran, SECOND, Ending::Finished(1), Instant::now());
    let kept = &state.list["select ?"];
    assert_eq!(&*kept.original().unwrap().sql, "select 'hunter2'");
    assert!(!format!("{kept:?} {:?}", kept.original()).contains("hunter2"));
}

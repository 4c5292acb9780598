use proptest::prelude::*;

use super::*;

const DOUBT: Duration = Duration::from_secs(5);

fn users() -> [Table; 1] {
    ["users".into()]
}

fn orders() -> [Table; 1] {
    ["orders".into()]
}

fn at(begin: Instant, seconds: f64) -> impl FnOnce() -> Instant {
    move || begin + Duration::from_secs_f64(seconds)
}

fn sure() -> Instant {
    panic!("where nothing can go by unnoticed, the clock is not read")
}

#[test]
fn only_a_change_of_one_of_its_tables_makes_another_version() {
    let versions = Versions::new(Instant::now());
    let both: Vec<Table> = users().into_iter().chain(orders()).collect();
    let of = |tables: &[Table]| versions.of(tables, sure);
    let before = (of(&users()), of(&orders()), of(&both), of(&[]));
    versions.changed(&users());
    assert_ne!(of(&users()), before.0);
    assert_eq!(of(&orders()), before.1);
    assert_ne!(of(&both), before.2);
    assert_eq!(of(&[]), before.3);
    versions.all_changed();
    assert_ne!(of(&orders()), before.1);
    assert_ne!(of(&[]), before.3);
}

#[test]
fn in_doubt_a_version_lasts_for_a_second_and_then_it_is_a_new_one() {
    let begin = Instant::now();
    let versions = Versions::new(begin);
    let before = versions.of(&users(), sure);
    versions.in_doubt(&users(), begin + DOUBT);
    let of = |seconds| versions.of(&users(), at(begin, seconds));
    assert_ne!(of(0.1), before);
    assert_eq!(of(0.1), of(0.9));
    assert_ne!(of(0.9), of(1.0));
    assert_ne!(of(4.9), of(5.0));
    // Over: nothing that was kept meanwhile is asked for again.
    assert_eq!(of(5.0), of(1_000.0));
    assert!((0..50).all(|tenth| of(f64::from(tenth) / 10.0) != of(5.0)));
    assert_eq!(versions.of(&orders(), sure), before);
    // A write that ends well meanwhile does not end the doubt of the other.
    versions.in_doubt(&users(), begin + DOUBT * 2);
    versions.changed(&users());
    assert_ne!(of(8.0), of(9.0));
}

#[test]
fn what_is_not_heard_lasts_for_a_second_and_what_was_missed_counts_as_changed() {
    let begin = Instant::now();
    let versions = Versions::new(begin);
    assert!(!versions.is_heard());
    let listener = versions.hear(&users());
    assert!(versions.is_heard());
    let (heard, other) = (versions.of(&users(), sure), versions.of(&orders(), sure));
    versions.fall_deaf(listener);
    assert!(!versions.is_heard());
    assert_ne!(versions.of(&users(), at(begin, 0.0)), heard);
    assert_ne!(versions.of(&users(), at(begin, 0.5)), versions.of(&users(), at(begin, 1.5)));
    assert_eq!(versions.of(&orders(), sure), other);
    assert!(versions.hear_again(listener));
    assert_ne!(versions.of(&users(), sure), heard);
    assert_eq!(versions.of(&orders(), sure), other);
}

#[test]
fn a_listener_whose_place_was_taken_does_not_count() {
    let versions = Versions::new(Instant::now());
    let first = versions.hear(&users());
    let second = versions.hear(&orders());
    versions.fall_deaf(first);
    assert!(versions.is_heard() && !versions.hear_again(first));
    let mut listened = versions.listened();
    listened.sort_by_key(Table::to_string);
    assert_eq!(listened, [orders(), users()].concat());
    versions.fall_deaf(second);
    assert!(!versions.is_heard());
}

#[test]
fn only_what_is_listened_to_can_be_told() {
    let versions = Versions::new(Instant::now());
    versions.hear(&users());
    let before = (versions.of(&users(), sure), versions.of(&orders(), sure));
    for told in ["public.orders", "", ".", "users", "public.", &"x".repeat(8_000), "public.users ", "\u{0}"] {
        assert!(!versions.told(told));
    }
    assert_eq!((versions.of(&users(), sure), versions.of(&orders(), sure)), before);
    assert_eq!(versions.read().tables.len(), 1);
    assert!(versions.told("public.users"));
    assert_ne!(versions.of(&users(), sure), before.0);
}

#[test]
fn too_many_tables_are_forgotten_and_count_as_changed_or_in_doubt() {
    let begin = Instant::now();
    let versions = Versions::new(begin);
    versions.in_doubt(&users(), begin + DOUBT);
    let before = versions.of(&orders(), sure);
    for number in 0..MOST * 3 {
        versions.changed(&[Table::from(format!("table_{number}"))]);
        assert!(versions.read().tables.len() <= MOST);
    }
    assert_ne!(versions.of(&orders(), at(begin, 6.0)), before);
    assert_ne!(versions.of(&users(), at(begin, 1.0)), versions.of(&users(), at(begin, 2.0)));
    assert_eq!(versions.of(&users(), at(begin, 5.0)), versions.of(&users(), at(begin, 9.0)));
}

#[derive(Debug, Clone)]
enum Step {
    Change(u8),
    Doubt(u8, u8),
    All,
    Deaf,
    Hear,
    Wait(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4_u8).prop_map(Step::Change),
        (0..4_u8, 1..40_u8).prop_map(|(table, tenths)| Step::Doubt(table, tenths)),
        Just(Step::All),
        Just(Step::Deaf),
        Just(Step::Hear),
        (1..30_u8).prop_map(Step::Wait),
    ]
}

proptest! {
    /// An answer is served only to those who ask under its version. Whoever does so asks after no change of its tables, and,
    /// where changes may have gone by unnoticed since it was loaded, within a second.
    #[test]
    fn a_version_is_never_met_again_after_a_change(steps in prop::collection::vec(step(), 1..60)) {
        let begin = Instant::now();
        let versions = Versions::new(begin);
        let table = |number: u8| Table::from(format!("t{number}"));
        let sets: Vec<Vec<Table>> = (1..16_u8).map(|set| (0..4).filter(|n| set & (1 << n) != 0).map(table).collect()).collect();
        // Tables 0 and 1 are listened to.
        let listener = versions.hear(&[table(0), table(1)]);
        let (mut now, mut deaf, mut last_change, mut doubt) = (begin, false, [0_usize; 4], [begin; 4]);
        let mut seen: Vec<(Version, usize, usize, Instant, bool)> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            let number = number + 1;
            match step {
                Step::Change(n) => { versions.changed(&[table(n)]); last_change[usize::from(n)] = number; }
                Step::Doubt(n, tenths) => {
                    let until = now + Duration::from_millis(u64::from(tenths) * 100);
                    versions.in_doubt(&[table(n)], until);
                    let n = usize::from(n);
                    (last_change[n], doubt[n]) = (number, doubt[n].max(until));
                }
                Step::All => { versions.all_changed(); last_change = [number; 4]; }
                Step::Deaf => { versions.fall_deaf(listener); deaf = true; }
                Step::Hear => { versions.hear_again(listener); deaf = false; last_change[..2].fill(number); }
                Step::Wait(tenths) => now += Duration::from_millis(u64::from(tenths) * 100),
            }
            for (index, set) in sets.iter().enumerate() {
                let version = versions.of(set, || now);
                let mask = index + 1;
                let mine = || (0..4).filter(|n| mask & (1 << n) != 0);
                let unsure = mine().any(|n| now < doubt[n] || (deaf && n < 2));
                let changed = mine().map(|n| last_change[n]).max().unwrap();
                for (old, old_mask, loaded, at, was_unsure) in &seen {
                    if *old == version && *old_mask == mask {
                        prop_assert!(*loaded >= changed, "loaded in step {loaded}, changed in step {changed}");
                        prop_assert!(!(unsure || *was_unsure) || now - *at < SLOT);
                    }
                }
                seen.push((version, mask, number, now, unsure));
            }
        }
    }
}

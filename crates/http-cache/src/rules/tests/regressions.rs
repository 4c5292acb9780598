//! Defects seen elsewhere: six of one library, each of which gave a client what it must not get.

use super::{
    super::{Approach, Forward, Slice},
    *,
};

#[test]
fn regression_35_a_post_is_neither_answered_from_the_store_nor_stored() {
    for rules in both() {
        let post = request_by("POST", &[]);
        assert_eq!(rules.approach(&post), Approach::Forward(Forward::Method));
        let answer = response(200, &[("cache-control", "public, max-age=60"), ("content-location", "/x")]);
        assert_eq!(rules.storable(&post, &answer, *START, *START).err(), Some(NotStored::Method));
    }
}

#[test]
fn regression_35_every_vary_line_and_every_line_of_its_fields_is_compared() {
    for rules in both() {
        let request = [("accept", "a/b"), ("accept", "c/d"), ("x-tenant", "1")];
        let fields = [("cache-control", "max-age=60"), ("vary", "accept"), ("vary", "x-tenant")];
        let stored = stored(rules, &request, 200, &fields).unwrap();
        assert!(rules.matches(&stored, &get(&request)));
        assert!(!rules.matches(&stored, &get(&[("accept", "a/b"), ("accept", "c/d"), ("x-tenant", "2")])));
        assert!(!rules.matches(&stored, &get(&[("accept", "a/b"), ("accept", "e/f"), ("x-tenant", "1")])));
    }
}

#[test]
fn regression_35_no_cache_is_validated_in_spite_of_max_stale() {
    for rules in both() {
        let stored = kept(rules, &[("cache-control", "max-age=60, no-cache"), ("etag", "\"1\"")]);
        for later in [0, 90] {
            let verdict = judged(rules, &stored, &[("cache-control", "max-stale")], later);
            assert_eq!(verdict, Verdict::Validate(Forward::Stale));
        }
    }
}

#[test]
fn regression_35_a_range_is_not_answered_with_the_whole() {
    for rules in both() {
        let stored = kept(rules, &[("cache-control", "max-age=60")]);
        assert_eq!(Slice::of(&get(&[("range", "bytes=2-3")]), &stored, 10), Slice::Part(2..=3));
        let several = rules.approach(&get(&[("range", "bytes=0-1, 4-5")]));
        assert_eq!(several, Approach::Forward(Forward::Partial));
    }
}

#[test]
fn regression_35_what_one_principal_got_is_not_given_to_another() {
    let (ann, bob) = ([("authorization", "Bearer ann")], [("authorization", "Bearer bob")]);
    let fields = [("cache-control", "max-age=60")];
    let stored = stored(Rules::private(), &ann, 200, &fields).unwrap();
    assert!(Rules::private().matches(&stored, &get(&ann)));
    assert!(!Rules::private().matches(&stored, &get(&bob)));
    assert!(!Rules::private().matches(&stored, &get(&[])));
    assert_eq!(why_not(Rules::shared(), &ann, 200, &fields), Some(NotStored::Authorization));
}

#[test]
fn regression_35_stale_while_revalidate_is_heeded() {
    for rules in both() {
        let stored = kept(rules, &[("cache-control", "max-age=60, stale-while-revalidate=30")]);
        assert_eq!(judged(rules, &stored, &[], 75), Verdict::WhileRevalidate);
        assert_eq!(judged(rules, &stored, &[], 91), Verdict::Validate(Forward::Stale));
    }
}

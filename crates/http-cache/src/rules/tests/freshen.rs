//! RFC 9111, sections 3.2, 4.3.3 and 4.3.4.

use super::{super::Freshened, *};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

fn freshened(rules: Rules, stored: &Stored, asked: Fields<'_>, told: Fields<'_>) -> Freshened {
    rules.freshen(stored, &get(asked), &response(304, told), after(100), after(103))
}

fn kept_by(rules: Rules, stored: &Stored, asked: Fields<'_>, told: Fields<'_>) -> Stored {
    match freshened(rules, stored, asked, told) {
        Freshened::Kept(stored) => stored,
        other => panic!("{told:?}: {other:?}"),
    }
}

fn is_about(rules: Rules, own: Fields<'_>, asked: Fields<'_>, told: Fields<'_>) -> bool {
    let stored = kept(rules, &[&[FRESH], own].concat());
    !matches!(freshened(rules, &stored, asked, told), Freshened::Unrelated)
}

#[test]
fn a_304_replaces_the_fields_that_it_has() {
    for rules in both() {
        let old = [
            FRESH,
            ("etag", "\"1\""),
            ("x-a", "1"),
            ("x-a", "2"),
            ("x-b", "1"),
            ("last-modified", &*date(-9)),
        ];
        let stored = kept(rules, &old);
        let told =
            [("etag", "\"1\""), ("x-a", "3"), ("x-c", "1"), ("x-c", "2"), ("cache-control", "max-age=7")];
        let new = kept_by(rules, &stored, &[], &told);
        let all = |name| {
            new.headers().get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(all("x-a"), ["3"]);
        assert_eq!(all("x-b"), ["1"]);
        assert_eq!(all("x-c"), ["1", "2"]);
        assert_eq!(all("cache-control"), ["max-age=7"]);
        assert_eq!(all("last-modified"), [date(-9)]);
        assert_eq!(new.status(), 200);
        assert_eq!(stored.headers()["x-a"], "1", "the old one is as it was");
    }
}

#[test]
fn a_304_does_not_change_what_is_about_the_body() {
    for rules in both() {
        let own = [
            FRESH,
            ("etag", "\"1\""),
            ("content-length", "5"),
            ("content-type", "a/b"),
            ("content-encoding", "br"),
        ];
        let told = [
            ("etag", "\"1\""),
            ("content-length", "0"),
            ("content-type", "c/d"),
            ("content-encoding", "gzip"),
            ("content-range", "bytes 0-1/2"),
        ];
        let new = kept_by(rules, &kept(rules, &own), &[], &told);
        assert_eq!(new.content_length(), Some(5));
        assert_eq!(new.headers()["content-type"], "a/b");
        assert_eq!(new.headers()["content-encoding"], "br");
        assert!(!new.headers().contains_key("content-range"));
    }
}

#[test]
fn fields_of_one_connection_in_a_304_are_not_stored() {
    for rules in both() {
        let told = [
            ("etag", "\"1\""),
            ("connection", "x-a"),
            ("x-a", "2"),
            ("keep-alive", "1"),
            ("proxy-authenticate", "Basic"),
        ];
        let new = kept_by(rules, &kept(rules, &[FRESH, ("etag", "\"1\""), ("x-a", "1")]), &[], &told);
        assert_eq!(new.headers()["x-a"], "1");
        for name in ["connection", "keep-alive", "proxy-authenticate"] {
            assert!(!new.headers().contains_key(name), "{name}");
        }
    }
}

#[test]
fn a_304_makes_it_fresh_again() {
    for rules in both() {
        let stored = kept(rules, &[FRESH, ("etag", "\"1\""), ("age", "50")]);
        let told =
            |fields: Fields<'_>| kept_by(rules, &stored, &[], &[&[("etag", "\"1\"")], fields].concat());
        let new = told(&[("date", &date(103))]);
        assert_eq!(new.age(after(110)), secs(10), "three seconds on its way, and seven since");
        assert_eq!(new.headers()["date"], date(103).as_str());
        assert_eq!(new.ttl(after(110)), 50);
        assert_eq!(told(&[]).age(after(103)), secs(3), "without a date, it is of the time it came");
        assert_eq!(told(&[]).headers()["date"], date(103).as_str());
        assert_eq!(told(&[("age", "9")]).age(after(103)), secs(12));
        assert_eq!(told(&[("cache-control", "max-age=5")]).ttl(after(103)), 2);
        assert!(told(&[]).is_newer_than(&stored));
    }
}

#[test]
fn a_strong_tag_says_which_one_it_is() {
    for rules in both() {
        let about = |own, told| is_about(rules, &[("etag", own)], &[], &[("etag", told)]);
        assert!(about("\"1\"", "\"1\""));
        assert!(!about("\"1\"", "\"2\""));
        assert!(!about("W/\"1\"", "\"1\""));
        let dated = [("etag", "\"1\""), ("last-modified", &*date(-9))];
        assert!(
            !is_about(rules, &dated, &[], &[("etag", "\"2\""), ("last-modified", &date(-9))]),
            "the date is the same"
        );
        assert!(!is_about(rules, &[("last-modified", &date(-9))], &[], &[("etag", "\"2\"")]));
    }
}

#[test]
fn a_weak_tag_says_which_one_it_is() {
    for rules in both() {
        let about = |own, told| is_about(rules, &[("etag", own)], &[], &[("etag", told)]);
        assert!(about("W/\"1\"", "W/\"1\""));
        assert!(about("\"1\"", "W/\"1\""));
        assert!(!about("\"1\"", "W/\"2\""));
    }
}

#[test]
fn a_304_without_the_tag_is_not_about_one_with_a_tag() {
    for rules in both() {
        for told in [
            &[][..],
            &[("last-modified", &*date(-9))],
            &[("etag", "1")],
            &[("etag", "\"1\""), ("etag", "\"2\"")],
        ] {
            assert!(
                !is_about(rules, &[("etag", "\"1\""), ("last-modified", &date(-9))], &[], told),
                "{told:?}"
            );
        }
    }
}

#[test]
fn without_tags_the_date_says_which_one_it_is() {
    for rules in both() {
        let modified = |offset| date(offset);
        let own = [("last-modified", &*modified(-9))];
        assert!(is_about(rules, &own, &[], &[("last-modified", &modified(-9))]));
        assert!(!is_about(rules, &own, &[], &[("last-modified", &modified(-8))]));
        assert!(!is_about(rules, &own, &[], &[("last-modified", "x")]));
        assert!(is_about(rules, &own, &[], &[]), "it was asked for by its date");
        assert!(
            !is_about(rules, &own, &[("if-none-match", "\"7\"")], &[]),
            "then the origin looked at no date"
        );
    }
}

/// The origin says that nothing changed since the client's date: that is true of what is stored if it is not older.
#[test]
fn a_response_without_validator_is_freshened_only_by_an_earlier_date_of_the_client() {
    for rules in both() {
        let since =
            |offset| is_about(rules, &[("date", &date(-5))], &[("if-modified-since", &date(offset))], &[]);
        assert!(since(-9) && since(-5));
        assert!(!since(-4));
        assert!(!is_about(rules, &[], &[], &[]));
    }
}

#[test]
fn a_response_that_does_not_match_is_not_freshened() {
    for rules in both() {
        let fields = [FRESH, ("vary", "x-a"), ("etag", "\"1\"")];
        let stored = stored(rules, &[("x-a", "1")], 200, &fields).unwrap();
        let told = [("etag", "\"1\"")];
        assert!(matches!(freshened(rules, &stored, &[("x-a", "2")], &told), Freshened::Unrelated));
        kept_by(rules, &stored, &[("x-a", "1")], &told);
    }
    let (ann, bob) = ([("authorization", "ann")], [("authorization", "bob")]);
    let fields = [FRESH, ("etag", "\"1\"")];
    let stored = stored(Rules::private(), &ann, 200, &fields).unwrap();
    assert!(matches!(freshened(Rules::private(), &stored, &bob, &fields), Freshened::Unrelated));
    kept_by(Rules::private(), &stored, &ann, &fields);
}

#[test]
fn a_304_may_tell_that_it_depends_on_more() {
    for rules in both() {
        let stored = kept(rules, &[FRESH, ("etag", "\"1\"")]);
        let new = kept_by(rules, &stored, &[("x-a", "1")], &[("etag", "\"1\""), ("vary", "x-a")]);
        assert!(rules.matches(&new, &get(&[("x-a", "1")])));
        assert!(!rules.matches(&new, &get(&[("x-a", "2")])));
    }
}

#[test]
fn a_304_that_forbids_to_store_answers_once() {
    for rules in both() {
        let stored = kept(rules, &[FRESH, ("etag", "\"1\"")]);
        for told in [("cache-control", "no-store"), ("vary", "*"), ("cache-control", "x=\"")] {
            let new = freshened(rules, &stored, &[], &[("etag", "\"1\""), told]);
            assert!(matches!(new, Freshened::Once(_)), "{told:?}: {new:?}");
        }
        let asked = [("cache-control", "no-store")];
        assert!(matches!(freshened(rules, &stored, &asked, &[("etag", "\"1\"")]), Freshened::Once(_)));
        let credentials = [("authorization", "a")];
        let new = Rules::shared().freshen(
            &stored,
            &get(&credentials),
            &response(304, &[("etag", "\"1\"")]),
            *START,
            *START,
        );
        assert!(matches!(new, Freshened::Once(_)));
        let told = [("etag", "\"1\""), ("cache-control", "private, max-age=60")];
        let is_once = matches!(freshened(rules, &stored, &[], &told), Freshened::Once(_));
        assert_eq!(is_once, rules == Rules::shared());
    }
}

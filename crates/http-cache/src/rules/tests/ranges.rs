//! RFC 9110, sections 13.1.5 and 14.

use super::{super::Slice, *};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

fn slice(rules: Rules, own: Fields<'_>, asked: Fields<'_>, length: u64) -> Slice {
    Slice::of(&get(asked), &kept(rules, &[&[FRESH], own].concat()), length)
}

#[test]
fn one_range_is_a_part() {
    for rules in both() {
        for (range, expected) in [
            ("bytes=0-0", Slice::Part(0..=0)),
            ("bytes=2-4", Slice::Part(2..=4)),
            ("Bytes=2-", Slice::Part(2..=9)),
            ("bytes=2-99", Slice::Part(2..=9)),
            ("bytes=9-99999999999999999999999", Slice::Part(9..=9)),
            ("bytes=-3", Slice::Part(7..=9)),
            ("bytes=-99", Slice::Part(0..=9)),
            ("bytes=-99999999999999999999999", Slice::Part(0..=9)),
            ("bytes=10-", Slice::Unsatisfiable),
            ("bytes=99999999999999999999999-", Slice::Unsatisfiable),
            ("bytes=-0", Slice::Unsatisfiable),
        ] {
            assert_eq!(slice(rules, &[], &[("range", range)], 10), expected, "{range}");
        }
        assert_eq!(slice(rules, &[], &[("range", "bytes=0-")], 0), Slice::Unsatisfiable);
        assert_eq!(slice(rules, &[], &[("range", "bytes=-5")], 0), Slice::Whole);
        assert_eq!(slice(rules, &[], &[("range", "bytes=1-")], u64::MAX), Slice::Part(1..=u64::MAX - 1));
    }
}

#[test]
fn what_is_not_one_range_of_bytes_is_ignored() {
    for rules in both() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=4-2",
            "bytes=a-b",
            "bytes=1-2-3",
            "bytes=0-1,3-4",
            "bytes=0-1,",
            "lines=0-1",
            "bytes=+1-2",
            "bytes 0-1",
        ] {
            assert_eq!(slice(rules, &[], &[("range", range)], 10), Slice::Whole, "{range}");
        }
        assert_eq!(slice(rules, &[], &[("range", "bytes=0-1"), ("range", "bytes=0-1")], 10), Slice::Whole);
        assert_eq!(slice(rules, &[], &[], 10), Slice::Whole);
    }
}

#[test]
fn only_a_get_of_a_200_has_parts() {
    for rules in both() {
        let asked = [("range", "bytes=0-1")];
        let ok = kept(rules, &[FRESH]);
        assert_eq!(Slice::of(&request_by("HEAD", &asked), &ok, 10), Slice::Whole);
        let missing = stored(rules, &[], 404, &[FRESH]).unwrap();
        assert_eq!(Slice::of(&get(&asked), &missing, 10), Slice::Whole);
    }
}

#[test]
fn if_range_wants_the_very_same_tag() {
    for rules in both() {
        for (own, condition, is_same) in [
            ("\"1\"", "\"1\"", true),
            ("\"1\"", "\"2\"", false),
            ("W/\"1\"", "W/\"1\"", false),
            ("W/\"1\"", "\"1\"", false),
            ("\"1\"", "W/\"1\"", false),
            ("\"1\"", "\"1\", \"2\"", false),
            ("\"1\"", "*", false),
        ] {
            let part = slice(rules, &[("etag", own)], &[("range", "bytes=0-1"), ("if-range", condition)], 10);
            assert_eq!(part == Slice::Part(0..=1), is_same, "{own} {condition}");
            assert!(is_same || part == Slice::Whole);
        }
        let unsatisfiable = [("range", "bytes=99-"), ("if-range", "\"2\"")];
        assert_eq!(
            slice(rules, &[("etag", "\"1\"")], &unsatisfiable, 10),
            Slice::Whole,
            "another one may have it"
        );
        let twice = [("range", "bytes=0-1"), ("if-range", "\"1\""), ("if-range", "\"1\"")];
        assert_eq!(slice(rules, &[("etag", "\"1\"")], &twice, 10), Slice::Whole);
    }
}

#[test]
fn if_range_wants_the_very_same_date_if_that_is_strong() {
    for rules in both() {
        let is_part = |modified, made, condition| {
            let own = [("last-modified", &*date(modified)), ("date", &date(made))];
            slice(rules, &own, &[("range", "bytes=0-1"), ("if-range", &date(condition))], 10)
                == Slice::Part(0..=1)
        };
        assert!(is_part(-9, -5, -9));
        assert!(!is_part(-9, -5, -8), "later is not the same");
        assert!(!is_part(-9, -9, -9), "it may have changed again in that second");
        assert!(is_part(-9, -8, -9));
        assert_eq!(slice(rules, &[], &[("range", "bytes=0-1"), ("if-range", &date(0))], 10), Slice::Whole);
    }
}

#[test]
fn content_range_says_which_part_it_is() {
    assert_eq!(Slice::Whole.content_range(10), None);
    assert_eq!(Slice::Part(2..=4).content_range(10).unwrap(), "bytes 2-4/10");
    assert_eq!(Slice::Unsatisfiable.content_range(10).unwrap(), "bytes */10");
}

//! How `Cache-Control` is read (RFC 9111, sections 4.2.1, 5.2 and 5.2.3).

use super::{super::Forward, *};

#[test]
fn unknown_directives_are_ignored() {
    for rules in both() {
        let control =
            "private-ish, z=no-store, community=\"UCI, no-store\", x=1, max-age=60, max-age2=1, no_store";
        assert_eq!(ttl(rules, &[("cache-control", control)]), 60);
        let stored = kept(rules, &[("cache-control", control)]);
        assert_eq!(judged(rules, &stored, &[("cache-control", "x, y=\"no-cache\", z=0")], 0), Verdict::Fresh);
    }
}

#[test]
fn names_have_no_case_and_arguments_have_two_forms() {
    for rules in both() {
        assert_eq!(ttl(rules, &[("cache-control", "MAX-AGE=\"60\"")]), 60);
        assert_eq!(ttl(rules, &[("cache-control", "max-age=\"\\6\\0\"")]), 60);
        assert_eq!(ttl(rules, &[("cache-control", "max-age=\"\\60\"")]), 60);
        let shared = why_not(Rules::shared(), &[], 200, &[("cache-control", "PRIVATE, max-age=60")]);
        assert_eq!(shared, Some(NotStored::Private));
    }
}

#[test]
fn all_lines_are_read() {
    for rules in both() {
        let lines = [
            ("cache-control", "x"),
            ("cache-control", "max-age=60"),
            ("cache-control", "no-cache"),
            ("etag", "\"1\""),
        ];
        let stored = kept(rules, &lines);
        assert_eq!(judged(rules, &stored, &[], 0), Verdict::Validate(Forward::Stale));
    }
}

#[test]
fn of_directives_that_contradict_each_other_the_stricter_holds() {
    for rules in both() {
        let is_stored = |control| stored(rules, &[], 200, &[("cache-control", control)]).is_ok();
        assert!(!is_stored("public, max-age=60, no-store"));
        assert!(!is_stored("max-age=60, max-age=0"));
        let stored = kept(rules, &[("cache-control", "max-age=60, no-cache"), ("etag", "\"1\"")]);
        assert_eq!(judged(rules, &stored, &[], 0), Verdict::Validate(Forward::Stale));
    }
    let private = [("cache-control", "public, private, s-maxage=60")];
    assert_eq!(why_not(Rules::shared(), &[], 200, &private), Some(NotStored::Private));
}

#[test]
fn what_is_quoted_is_no_directive() {
    for rules in both() {
        assert_eq!(ttl(rules, &[("cache-control", "x=\"max-age=1, no-store\", max-age=60")]), 60);
        assert_eq!(ttl(rules, &[("cache-control", "max-age=60, x=\"a\\\", no-store\"")]), 60);
    }
}

#[test]
fn garbage_hides_no_restriction() {
    for rules in both() {
        for control in [
            "no-store; max-age=60",
            "max-age=60; no-store",
            "max-age=60 no-store",
            "x=1;no-store, max-age=60",
            "max-age=60, x=\"",
            "max-age=60, x=\"a, no-store",
            "max-age=60, \"x, no-store",
            "max-age=60, x=a\"b, no-store\"",
            "max-age=60, x=\"a\"no-store",
            "max-age=60, x=\"a\\",
            "max-age=60, no-store\u{00e9}",
            "max-age=60, [no-store]",
            "max-age=60, x = \"a, no-store\"",
            "max-age=60, =\"no-store\"",
            "max-age=60, x y=\"a no-store\"",
            "max-age=60, no-store=",
            "must-understand, max-age=60, x=\"",
        ] {
            let fields = [("cache-control", control), ("etag", "\"1\""), ("expires", &*date(60))];
            assert_eq!(why_not(rules, &[], 200, &fields), Some(NotStored::NoStore), "{control}");
        }
    }
    for control in ["private; max-age=60", "max-age=60 private", "max-age=60, x=\"y\" private"] {
        let fields = [("cache-control", control), ("etag", "\"1\"")];
        assert_eq!(why_not(Rules::shared(), &[], 200, &fields), Some(NotStored::Private), "{control}");
    }
}

#[test]
fn garbage_allows_nothing() {
    for rules in both() {
        for control in
            ["public;x", "x public", "\"public\"", "max-age=60;x", "x;max-age=60", "\"x, max-age=60, y\""]
        {
            let why = why_not(rules, &[], 302, &[("cache-control", control)]);
            assert!(why.is_some(), "{control}");
        }
        let with = [("authorization", "a")];
        for control in ["public;x", "s-maxage=60;x", "x must-revalidate", "max-age=60 public"] {
            let fields = [("cache-control", control), ("etag", "\"1\"")];
            assert_eq!(
                why_not(Rules::shared(), &with, 200, &fields),
                Some(NotStored::Authorization),
                "{control}"
            );
        }
        let stored = kept(rules, &[("cache-control", "max-age=60")]);
        for control in ["max-stale;x", "x max-stale", "max-stale=99;x"] {
            let verdict = judged(rules, &stored, &[("cache-control", control)], 61);
            assert_eq!(verdict, Verdict::Validate(Forward::Stale), "{control}");
        }
    }
}

#[test]
fn a_request_with_a_quote_that_does_not_end_takes_nothing_from_the_store() {
    for rules in both() {
        let stored = kept(rules, &[("cache-control", "max-age=60")]);
        let asked = [("cache-control", "x=\"max-stale")];
        assert_eq!(judged(rules, &stored, &asked, 0), Verdict::Validate(Forward::Request));
        let why = why_not(rules, &asked, 200, &[("cache-control", "max-age=60")]);
        assert_eq!(why, Some(NotStored::RequestNoStore));
    }
}

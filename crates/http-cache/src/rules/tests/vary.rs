//! RFC 9111, section 4.1.

use super::*;

fn match_of(rules: Rules, vary: &[&str], first: Fields<'_>, second: Fields<'_>) -> bool {
    let mut fields = vec![("cache-control", "public, max-age=60")];
    fields.extend(vary.iter().map(|vary| ("vary", *vary)));
    let stored = stored(rules, first, 200, &fields).unwrap();
    rules.matches(&stored, &get(second))
}

#[test]
fn nominated_fields_must_be_the_same() {
    for rules in both() {
        let is_match = |first: Fields<'_>, second: Fields<'_>| match_of(rules, &["X-A, x-b"], first, second);
        assert!(is_match(&[("x-a", "1")], &[("x-a", "1"), ("x-c", "2")]));
        assert!(!is_match(&[("x-a", "1")], &[("x-a", "2")]));
        assert!(!is_match(&[("x-a", "1")], &[("x-a", "1"), ("x-b", "1")]));
        assert!(match_of(rules, &[], &[("x-a", "1")], &[]));
        assert!(match_of(rules, &[""], &[("x-a", "1")], &[]));
    }
}

#[test]
fn fields_of_all_vary_lines_are_nominated() {
    for rules in both() {
        let is_match =
            |first: Fields<'_>, second: Fields<'_>| match_of(rules, &["x-a", "x-b"], first, second);
        assert!(!is_match(&[("x-a", "1"), ("x-b", "1")], &[("x-a", "1"), ("x-b", "2")]));
        assert!(!is_match(&[("x-a", "1"), ("x-b", "1")], &[("x-a", "2"), ("x-b", "1")]));
    }
}

#[test]
fn all_lines_of_a_nominated_field_count() {
    for rules in both() {
        let is_match = |first: Fields<'_>, second: Fields<'_>| match_of(rules, &["x-a"], first, second);
        assert!(!is_match(&[("x-a", "1"), ("x-a", "2")], &[("x-a", "1")]));
        assert!(!is_match(&[("x-a", "1"), ("x-a", "2")], &[("x-a", "1"), ("x-a", "3")]));
        assert!(is_match(&[("x-a", "1"), ("x-a", "2")], &[("x-a", "1, 2")]));
    }
}

#[test]
fn an_absent_field_matches_an_absent_one_alone() {
    for rules in both() {
        for name in ["x-a", "accept-encoding"] {
            let is_match = |first: Fields<'_>, second: Fields<'_>| match_of(rules, &[name], first, second);
            assert!(is_match(&[], &[]));
            assert!(!is_match(&[], &[(name, "")]));
            assert!(!is_match(&[(name, "")], &[]));
            assert!(is_match(&[(name, "")], &[(name, "")]));
        }
    }
}

#[test]
fn lists_are_compared_without_space_and_case() {
    for rules in both() {
        for name in ["accept-encoding", "accept-language", "accept-charset"] {
            let is_match = |first, second| match_of(rules, &[name], &[(name, first)], &[(name, second)]);
            assert!(is_match("gzip, br", "GZIP,br"));
            assert!(is_match("gzip ,\t, br,", "gzip,br"));
            assert!(!is_match("gzip, br", "br, gzip"), "an order may mean something");
            assert!(!is_match("gzip", "g zip"));
            assert!(!is_match("gzip, br", "gzipbr"));
        }
        let is_match = |first: &str, second: &str| {
            match_of(rules, &["accept"], &[("accept", first)], &[("accept", second)])
        };
        assert!(is_match("text/html , */*", "text/html,*/*"));
        for quoted in ["", "x", "\\\"", "\\\\", "a , b"] {
            let (first, second) = (format!("a/b;c=\"{quoted}\" , d/e"), format!("a/b;c=\"{quoted}\",d/e"));
            assert!(is_match(&first, &second), "{first}");
        }
        assert!(!is_match("a/b;c=\"\\\" , d\"", "a/b;c=\"\\\",d\""));
        assert!(!is_match("a/b;c=\"X\"", "a/b;c=\"x\""));
        assert!(!is_match("a/b;c=\"1, 2\"", "a/b;c=\"1,2\""), "within quotes it is no list");
    }
}

#[test]
fn other_fields_are_compared_as_they_are() {
    for rules in both() {
        let is_match = |first, second| match_of(rules, &["x-a"], &[("x-a", first)], &[("x-a", second)]);
        assert!(!is_match("a,b", "a, b"));
        assert!(!is_match("a", "A"));
    }
}

#[test]
fn vary_star_is_not_stored_and_never_matches() {
    for rules in both() {
        for vary in ["*", "accept, *", "not a name"] {
            let fields =
                [("cache-control", "max-age=60"), ("etag", "\"1\""), ("vary", "accept"), ("vary", vary)];
            assert_eq!(why_not(rules, &[], 200, &fields), Some(NotStored::Vary), "{vary}");
        }
        let stored = kept(rules, &[("cache-control", "max-age=60"), ("etag", "\"1\"")]);
        let told = response(304, &[("vary", "*"), ("etag", "\"1\"")]);
        let new = rules.freshen(&stored, &get(&[]), &told, *START, *START);
        let super::super::Freshened::Once(new) = new else { panic!("{new:?}") };
        assert!(!rules.matches(&new, &get(&[])));
    }
}

#[test]
fn a_private_cache_keeps_its_principals_apart() {
    let (one, other) = ([("authorization", "a")], [("authorization", "b")]);
    let is_match = |rules, first, second| match_of(rules, &[], first, second);
    for (first, second, is_same) in
        [(&one[..], &one[..], true), (&one, &other, false), (&one, &[], false), (&[], &one, false)]
    {
        assert_eq!(is_match(Rules::private(), first, second), is_same);
        assert!(is_match(Rules::shared(), first, second), "`public` says that all may have it");
    }
    let twice = [("authorization", "a"), ("authorization", "b")];
    assert!(!is_match(Rules::private(), &one, &twice));
}

#[test]
fn the_most_recent_of_several_is_used() {
    for rules in both() {
        let at = |offset, later| {
            let answer = response(200, &[("cache-control", "max-age=60"), ("date", &date(offset))]);
            rules.storable(&get(&[]), &answer, *START, after(later)).unwrap()
        };
        assert!(at(-3, 0).is_newer_than(&at(-5, 1)));
        assert!(!at(-5, 1).is_newer_than(&at(-3, 0)));
        assert!(at(-3, 2).is_newer_than(&at(-3, 1)), "of the same second, the one that came later");
        assert!(!at(-3, 1).is_newer_than(&at(-3, 1)));
    }
}

#[test]
fn one_that_says_what_it_depends_on_goes_first() {
    for rules in both() {
        let with = kept(rules, &[("cache-control", "max-age=60"), ("date", &date(-9)), ("vary", "accept")]);
        let without = kept(rules, &[("cache-control", "max-age=60"), ("date", &date(-1))]);
        assert!(with.is_newer_than(&without));
        assert!(!without.is_newer_than(&with));
    }
}

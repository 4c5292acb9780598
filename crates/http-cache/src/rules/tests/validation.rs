//! RFC 9111, sections 4.3.1 and 4.3.2; RFC 9110, sections 13 and 15.4.5.

use super::{super::Conditions, *};

const TAG: (&str, &str) = ("etag", "\"1\"");
const FRESH: (&str, &str) = ("cache-control", "max-age=60");

fn sent(conditions: &Conditions, own: Fields<'_>) -> (Option<String>, Option<String>) {
    let mut headers = get(own).headers;
    conditions.add_to(&mut headers);
    assert!(headers.get_all("if-none-match").iter().count() <= 1 || conditions.is_empty());
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap().to_owned());
    (text("if-none-match"), text("if-modified-since"))
}

fn tagged(rules: Rules, tag: &str) -> Stored {
    kept(rules, &[FRESH, ("etag", tag)])
}

#[test]
fn a_validation_sends_the_tag_and_the_date() {
    for rules in both() {
        let modified = date(-5);
        let stored = kept(rules, &[FRESH, TAG, ("last-modified", &modified)]);
        let conditions = Conditions::of(Some(&stored), []);
        assert_eq!(sent(&conditions, &[]), (Some("\"1\"".into()), Some(modified.clone())));
        let dated = kept(rules, &[FRESH, ("last-modified", &modified)]);
        let conditions = Conditions::of(Some(&dated), []);
        assert_eq!(
            sent(&conditions, &[("if-modified-since", &date(9))]),
            (None, Some(modified)),
            "ours, not the client's"
        );
    }
}

#[test]
fn a_validation_sends_the_tags_of_all_that_are_validated() {
    for rules in both() {
        let all = [tagged(rules, "\"1\""), tagged(rules, "W/\"2\""), tagged(rules, "\"3\"")];
        let conditions = Conditions::of(Some(&all[2]), &all);
        assert_eq!(sent(&conditions, &[]).0.unwrap(), "\"3\", \"1\", W/\"2\"");
        let conditions = Conditions::of(None, &all);
        assert_eq!(sent(&conditions, &[]), (Some("\"1\", W/\"2\", \"3\"".into()), None));
        assert!(!conditions.is_empty());
    }
}

#[test]
fn one_that_is_known_by_its_date_alone_is_asked_for_alone() {
    for rules in both() {
        let dated = kept(rules, &[FRESH, ("last-modified", &date(-5))]);
        let conditions = Conditions::of(Some(&dated), [&tagged(rules, "\"1\"")]);
        assert_eq!(sent(&conditions, &[]), (None, Some(date(-5))));
    }
}

#[test]
fn the_client_s_own_tags_are_sent_along() {
    for rules in both() {
        let conditions = Conditions::of(Some(&tagged(rules, "\"1\"")), []);
        let own = [("if-none-match", "\"a\", bad, W/\"b\""), ("if-none-match", "\"1\"")];
        assert_eq!(sent(&conditions, &own).0.unwrap(), "\"a\", W/\"b\", \"1\"");
        assert_eq!(sent(&conditions, &[("if-none-match", "\"a\"")]).0.unwrap(), "\"a\", \"1\"");
        assert_eq!(sent(&conditions, &[("if-none-match", "\"1\"")]).0.unwrap(), "\"1\"");
        assert_eq!(sent(&conditions, &[("if-none-match", "*")]).0.unwrap(), "*");
    }
}

#[test]
fn without_a_validator_there_is_no_condition() {
    for rules in both() {
        for fields in [
            &[FRESH][..],
            &[FRESH, ("etag", "1")],
            &[FRESH, ("etag", "\"a b\"")],
            &[FRESH, ("etag", "\"a\"b")],
            &[FRESH, ("etag", "\"1\""), ("etag", "\"2\"")],
            &[FRESH, ("last-modified", "x")],
        ] {
            let stored = kept(rules, fields);
            assert!(!stored.has_validator(), "{fields:?}");
            assert!(Conditions::of(Some(&stored), [&stored]).is_empty());
        }
        assert!(Conditions::of(None, []).is_empty());
        assert_eq!(sent(&Conditions::default(), &[("if-none-match", "\"a\"")]).0.unwrap(), "\"a\"");
    }
}

#[test]
fn the_number_and_size_of_tags_is_bounded() {
    for rules in both() {
        let many: Vec<_> = (0..100).map(|number| tagged(rules, &format!("\"{number}\""))).collect();
        let tags = sent(&Conditions::of(None, &many), &[]).0.unwrap();
        assert_eq!(tags.split(", ").count(), 32);
        let long: Vec<_> =
            ["a", "b"].iter().map(|letter| tagged(rules, &format!("\"{}\"", letter.repeat(3_000)))).collect();
        assert!(sent(&Conditions::of(None, &long), &[]).0.unwrap().len() < 4_096);
    }
}

fn is_not_modified(stored: &Stored, asked: Fields<'_>) -> bool {
    stored.is_not_modified_for(&get(asked))
}

#[test]
fn if_none_match_compares_weakly() {
    for rules in both() {
        for (own, asked, is_same) in [
            ("\"1\"", "\"1\"", true),
            ("\"1\"", "W/\"1\"", true),
            ("W/\"1\"", "\"1\"", true),
            ("\"1\"", "\"2\"", false),
            ("\"1\"", "\"2\" , W/\"1\"", true),
            ("\"a,b\"", "\"a,b\"", true),
            ("\"1\"", "*", true),
            ("\"1\"", "1", false),
            ("\"1\"", "w/\"1\"", false),
            ("\"1\"", "", false),
        ] {
            let stored = tagged(rules, own);
            assert_eq!(is_not_modified(&stored, &[("if-none-match", asked)]), is_same, "{own} {asked}");
        }
        let lines = [("if-none-match", "\"2\""), ("if-none-match", "\"1\"")];
        assert!(is_not_modified(&tagged(rules, "\"1\""), &lines));
        assert!(!is_not_modified(&kept(rules, &[FRESH]), &[("if-none-match", "\"1\"")]));
        assert!(is_not_modified(&kept(rules, &[FRESH]), &[("if-none-match", "*")]));
    }
}

#[test]
fn if_none_match_goes_before_if_modified_since() {
    for rules in both() {
        let stored = kept(rules, &[FRESH, TAG, ("last-modified", &date(-9))]);
        let since = ("if-modified-since", &*date(0));
        assert!(is_not_modified(&stored, &[since]));
        assert!(!is_not_modified(&stored, &[since, ("if-none-match", "\"2\"")]));
        assert!(!is_not_modified(&stored, &[since, ("if-none-match", "")]));
    }
}

#[test]
fn if_modified_since_compares_dates() {
    for rules in both() {
        let stored = kept(rules, &[FRESH, ("last-modified", &date(-9))]);
        let since = |offset| is_not_modified(&stored, &[("if-modified-since", &date(offset))]);
        assert!(since(-9) && since(0));
        assert!(!since(-10));
        assert!(!is_not_modified(&stored, &[("if-modified-since", "x")]));
        assert!(!is_not_modified(&stored, &[]));
        let two = [("if-modified-since", &*date(0)), ("if-modified-since", &date(1))];
        assert!(!is_not_modified(&stored, &two));
    }
}

#[test]
fn if_modified_since_uses_the_date_where_nothing_says_when_it_was_modified() {
    for rules in both() {
        let since = |fields: Fields<'_>, offset| {
            let stored = kept(rules, &[&[FRESH], fields].concat());
            is_not_modified(&stored, &[("if-modified-since", &date(offset))])
        };
        let dated = [("date", &*date(-5))];
        assert!(since(&dated, -5));
        assert!(!since(&dated, -6));
        assert!(since(&[], 0), "the time it came");
        assert!(!since(&[], -1));
        assert!(!since(&[("last-modified", "x")], 0));
    }
}

#[test]
fn conditions_count_for_get_and_head_and_what_succeeded() {
    for rules in both() {
        let asked = [("if-none-match", "\"1\"")];
        let stored = tagged(rules, "\"1\"");
        assert!(stored.is_not_modified_for(&request_by("HEAD", &asked)));
        assert!(!stored.is_not_modified_for(&request_by("POST", &asked)));
        let missing = super::stored(rules, &[], 404, &[FRESH, TAG]).unwrap();
        assert!(!is_not_modified(&missing, &asked));
    }
}

#[test]
fn a_304_tells_how_long_the_client_s_copy_holds() {
    for rules in both() {
        let fields = [
            FRESH,
            TAG,
            ("content-location", "/y"),
            ("expires", &*date(5)),
            ("vary", "accept"),
            ("vary", "x-a"),
            ("last-modified", &date(-5)),
            ("content-type", "text/plain"),
            ("content-length", "5"),
            ("set-cookie", "a=b"),
        ];
        let names = |fields: Fields<'_>| {
            let headers = kept(rules, fields).not_modified_headers(*START);
            let mut names: Vec<_> = headers.iter().map(|(name, _)| name.as_str().to_owned()).collect();
            names.sort_unstable();
            names.join(" ")
        };
        assert_eq!(names(&fields), "age cache-control content-location date etag expires vary vary");
        assert_eq!(names(&[FRESH, ("last-modified", &date(-5))]), "age cache-control date last-modified");
    }
}

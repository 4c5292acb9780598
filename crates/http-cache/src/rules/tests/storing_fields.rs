//! RFC 9111, sections 3.1 and 5.1; RFC 9110, sections 6.6.1 and 7.6.1.

use super::*;

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

#[test]
fn unknown_fields_are_stored() {
    for rules in both() {
        let stored = kept(rules, &[FRESH, ("x-new", "1"), ("x-new", "2"), ("set-cookie", "a=b")]);
        let all: Vec<_> = stored.headers().get_all("x-new").iter().collect();
        assert_eq!(all, ["1", "2"]);
        assert_eq!(stored.headers()["set-cookie"], "a=b");
        assert_eq!(stored.answer_headers(*START)["x-new"], "1");
    }
}

#[test]
fn fields_of_one_connection_are_not_stored() {
    for rules in both() {
        let stored = kept(
            rules,
            &[
                FRESH,
                ("connection", "close, X-One"),
                ("connection", "x-two"),
                ("x-one", "1"),
                ("x-two", "2"),
                ("x-three", "3"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "close"),
                ("te", "trailers"),
                ("trailer", "x-three"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "h2c"),
            ],
        );
        let mut names: Vec<_> = stored.headers().keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["cache-control", "date", "x-three"]);
    }
}

#[test]
fn fields_of_a_proxy_are_not_stored() {
    for rules in both() {
        let names = ["proxy-authenticate", "proxy-authentication-info", "proxy-authorization"];
        for name in names {
            assert!(!kept(rules, &[FRESH, (name, "Basic")]).headers().contains_key(name), "{name}");
        }
    }
}

/// Else a response would lose, by one field, what keeps it out of other hands.
#[test]
fn connection_does_not_take_away_what_the_rules_need() {
    for rules in both() {
        let fields = [
            ("connection", "cache-control, vary, date, etag, expires, last-modified, age"),
            ("cache-control", "max-age=60"),
            ("vary", "x-who"),
            ("etag", "\"1\""),
        ];
        let stored = kept(rules, &fields);
        assert_eq!(stored.ttl(*START), 60);
        assert!(stored.has_validator());
        assert!(!rules.matches(&stored, &get(&[("x-who", "b")])));
        let private = [("connection", "cache-control"), ("cache-control", "no-store")];
        assert_eq!(why_not(rules, &[], 200, &private), Some(NotStored::NoStore));
    }
}

#[test]
fn a_response_without_date_gets_the_time_it_came() {
    for rules in both() {
        for fields in
            [&[FRESH][..], &[FRESH, ("date", "yesterday")], &[FRESH, ("date", &date(1)), ("date", &date(9))]]
        {
            let stored = kept(rules, fields);
            let dates: Vec<_> = stored.headers().get_all("date").iter().collect();
            assert_eq!(dates, [&date(0)], "{fields:?}");
        }
        let told = date(-7);
        assert_eq!(kept(rules, &[FRESH, ("date", &told)]).headers()["date"], told.as_str());
    }
}

#[test]
fn an_answer_from_the_store_has_its_age() {
    for rules in both() {
        let stored = kept(rules, &[FRESH, ("age", "5"), ("date", &date(-7))]);
        assert!(!stored.headers().contains_key("age"), "it is kept apart");
        for (later, age) in [(0, "7"), (10, "17"), (100, "107")] {
            let headers = stored.answer_headers(after(later));
            assert_eq!(headers.get_all("age").iter().collect::<Vec<_>>(), [age]);
            assert_eq!(stored.not_modified_headers(after(later))["age"], age);
        }
        let half = START.later(Duration::from_millis(1_999));
        assert_eq!(stored.answer_headers(half)["age"], "8", "rounded down");
    }
}

#[test]
fn a_content_length_that_contradicts_itself_is_none() {
    for rules in both() {
        let length = |lines: &[&str]| {
            let mut fields = vec![FRESH];
            fields.extend(lines.iter().map(|line| ("content-length", *line)));
            kept(rules, &fields).content_length()
        };
        assert_eq!(length(&["12"]), Some(12));
        assert_eq!(length(&["12", "12"]), Some(12));
        assert_eq!(length(&["9999999999999999999"]), Some(9_999_999_999_999_999_999));
        for wrong in [
            &["12", "13"][..],
            &[""],
            &["-1"],
            &["+1"],
            &["12, 12"],
            &["99999999999999999999"],
            &["0x1"],
            &[],
        ] {
            assert_eq!(length(wrong), None, "{wrong:?}");
        }
    }
}

#[test]
fn weight_counts_what_the_origin_sends_and_the_request_nominated() {
    for rules in both() {
        let weight = |vary: &str, value: &str| {
            let request = [("x-a", value)];
            stored(rules, &request, 200, &[FRESH, ("vary", vary)]).unwrap().weight()
        };
        let long = "y".repeat(5_000);
        assert!(weight("x-a", &long) >= weight("x-a", "1") + 4_999);
        assert_eq!(weight("x-b", &long), weight("x-b", "1"));
        assert_eq!(weight("x-a,x-b,x-a", &long), weight("x-a,x-b", &long) + 4, "once is enough");
        let field = kept(rules, &[FRESH, ("x-a", &long)]).weight();
        assert!(field >= kept(rules, &[FRESH]).weight() + 5_000);
    }
}

#[test]
fn weight_counts_the_principal_of_a_private_cache() {
    let (short, long) = ("x".repeat(10), "x".repeat(1_000));
    for (rules, more) in [(Rules::private(), 990), (Rules::shared(), 0)] {
        let weight = |who: &str| {
            let fields = [("cache-control", "public, max-age=60")];
            stored(rules, &[("authorization", who)], 200, &fields).unwrap().weight()
        };
        assert_eq!(weight(&long) - weight(&short), more);
    }
}

#[test]
fn debug_shows_no_field() {
    for rules in both() {
        let request = [("authorization", "secret-1"), ("cookie", "secret-2")];
        let fields =
            [("cache-control", "public, max-age=60"), ("set-cookie", "secret-3"), ("vary", "cookie")];
        let text = format!("{:?}", stored(rules, &request, 200, &fields).unwrap());
        assert!(!text.contains("secret"), "{text}");
    }
}

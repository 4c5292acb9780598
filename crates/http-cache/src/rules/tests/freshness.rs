//! RFC 9111, sections 1.2.2, 4.2, 4.2.1, 4.2.2, 4.2.3, 5.1 and 5.3.

use super::{super::Forward, *};

const MOST: i64 = 1 << 31;

/// Of a response that can be validated, so that it is stored whatever its time.
fn ttl_of(rules: Rules, fields: Fields<'_>) -> i64 {
    ttl(rules, &[fields, &[("etag", "\"1\"")]].concat())
}

#[test]
fn fresh_until_the_lifetime_is_reached() {
    for rules in both() {
        let stored = kept(rules, &[("cache-control", "max-age=60")]);
        assert_eq!(judged(rules, &stored, &[], 59), Verdict::Fresh);
        assert_eq!(judged(rules, &stored, &[], 60), Verdict::Validate(Forward::Stale));
        assert_eq!([0, 59, 60, 61].map(|later| stored.ttl(after(later))), [60, 1, 0, -1]);
        for (millis, ttl) in [(1, 60), (59_999, 1), (60_001, 0), (60_999, 0), (61_001, -1)] {
            let now = START.later(Duration::from_millis(millis));
            assert_eq!(stored.ttl(now), ttl, "after {millis} ms");
            assert_eq!(rules.judge(&stored, &get(&[]), now) == Verdict::Fresh, ttl > 0);
        }
    }
}

#[test]
fn s_maxage_then_max_age_then_expires() {
    for rules in both() {
        let is_shared = rules == Rules::shared();
        let expires = ("expires", &*date(30));
        assert_eq!(
            ttl_of(rules, &[("cache-control", "max-age=10, s-maxage=20"), expires]),
            if is_shared { 20 } else { 10 }
        );
        assert_eq!(
            ttl_of(rules, &[("cache-control", "s-maxage=20"), expires]),
            if is_shared { 20 } else { 30 }
        );
        assert_eq!(ttl_of(rules, &[("cache-control", "max-age=10"), expires]), 10);
        assert_eq!(ttl_of(rules, &[expires]), 30);
        assert_eq!(ttl_of(rules, &[("cache-control", "max-age=10"), ("expires", &date(-30))]), 10);
    }
}

#[test]
fn expires_counts_from_the_date_of_the_response() {
    for rules in both() {
        // The origin's clock is an hour late.
        let fields = [("date", &*date(-3_600)), ("expires", &date(-3_000))];
        let stored = kept(rules, &[&fields[..], &[("etag", "\"1\"")]].concat());
        assert_eq!(stored.ttl(*START), 600 - 3_600);
        // It is an hour early.
        assert_eq!(ttl_of(rules, &[("date", &date(3_600)), ("expires", &date(4_200))]), 600);
        assert_eq!(ttl_of(rules, &[("date", "none"), ("expires", &date(600))]), 600);
    }
}

#[test]
fn what_is_no_date_in_expires_is_in_the_past() {
    for rules in both() {
        let modified = date(-10_000);
        for expires in [
            "0",
            "-1",
            "",
            "soon",
            &date(60).replace("GMT", "UTC"),
            &date(60).replace("GMT", "+0100"),
            &date(-1),
        ] {
            assert_eq!(ttl_of(rules, &[("expires", expires), ("last-modified", &modified)]), 0, "{expires}");
        }
    }
}

#[test]
fn expires_twice_with_two_dates_is_in_the_past() {
    for rules in both() {
        assert_eq!(ttl_of(rules, &[("expires", &date(60)), ("expires", &date(90))]), 0);
        assert_eq!(ttl_of(rules, &[("expires", &date(60)), ("expires", &date(60))]), 60);
    }
}

#[test]
fn dates_are_read_in_any_form_and_case() {
    for rules in both() {
        let forms =
            ["Tue, 14 Nov 2023 22:14:20 GMT", "Tuesday, 14-Nov-23 22:14:20 GMT", "Tue Nov 14 22:14:20 2023"];
        for form in forms {
            for text in [form.to_owned(), form.to_lowercase(), form.to_uppercase()] {
                assert_eq!(ttl_of(rules, &[("expires", &text)]), 60, "{text}");
            }
        }
    }
}

#[test]
fn what_is_no_number_of_seconds_is_stale() {
    for rules in both() {
        let wrong = [
            "max-age",
            "max-age=",
            "max-age=x",
            "max-age=-1",
            "max-age=+1",
            "max-age=1.5",
            "max-age= 60",
            "max-age =60",
            "max-age=60 s",
            "max-age='60'",
            "max-age=60;public",
            "max-age=6\u{00b2}",
            "max-age=60, max-age=61",
            "max-age=60, max-age",
            "max-age=\"60\"x",
            "max-age= \"60\"",
        ];
        for control in wrong {
            let fields =
                [("cache-control", control), ("expires", &date(900)), ("last-modified", &date(-9_000))];
            assert_eq!(ttl_of(rules, &fields), 0, "{control}");
            let shared = control.replace("max-age", "s-maxage");
            let fields = [("cache-control", &*shared), ("cache-control", "max-age=7")];
            assert_eq!(ttl_of(rules, &fields), if rules == Rules::shared() { 0 } else { 7 }, "{shared}");
        }
        for right in [
            "max-age=60",
            "Max-Age=60",
            "max-age=\"60\"",
            "max-age=060",
            "a,,max-age=60 ,",
            "max-age=60, max-age=60",
        ] {
            assert_eq!(ttl_of(rules, &[("cache-control", right)]), 60, "{right}");
        }
    }
}

#[test]
fn too_many_seconds_are_2_to_the_31() {
    for rules in both() {
        for many in ["2147483648", "2147483649", "99999999999", "340282366920938463463374607431768211456999"]
        {
            assert_eq!(ttl_of(rules, &[("cache-control", &format!("max-age={many}"))]), MOST);
            assert_eq!(ttl_of(rules, &[("cache-control", "max-age=0"), ("age", many)]), -MOST);
        }
        assert_eq!(ttl_of(rules, &[("expires", "Fri, 31 Dec 9999 23:59:59 GMT")]), MOST);
        let stored = kept(rules, &[("cache-control", "max-age=60")]);
        assert_eq!(stored.age(after(1 << 40)), secs(1 << 31));
    }
}

#[test]
fn a_response_counts_as_fresh_for_a_part_of_the_time_since_it_was_modified() {
    for rules in both() {
        let modified = |ago: i64| [("last-modified", date(-ago))];
        let of = |rules, ago| {
            ttl_of(rules, &modified(ago).each_ref().map(|(name, value)| (*name, value.as_str())))
        };
        assert_eq!(of(rules, 1_000), 100);
        assert_eq!(of(rules, 100_000_000), 86_400, "a day at most");
        assert_eq!(of(rules, -1_000), 0, "modified in the future");
        assert_eq!(of(rules.with_heuristic(0.5, secs(400)), 600), 300);
        assert_eq!(of(rules.with_heuristic(0.5, secs(200)), 600), 200);
        for (fraction, expected) in [(7.0, 600), (f64::INFINITY, 600), (f64::NAN, 0), (-1.0, 0), (0.0, 0)] {
            assert_eq!(of(rules.with_heuristic(fraction, Duration::MAX), 600), expected, "{fraction}");
        }
        assert_eq!(ttl_of(rules, &[("last-modified", "then")]), 0);
    }
}

#[test]
fn an_explicit_time_is_never_replaced_by_a_guess() {
    for rules in both() {
        let modified = ("last-modified", &*date(-100_000));
        for explicit in [
            ("cache-control", "max-age=5"),
            ("cache-control", "max-age=x"),
            ("expires", "0"),
            ("expires", &date(5)),
        ] {
            assert!(ttl_of(rules, &[explicit, modified]) <= 5, "{explicit:?}");
        }
    }
}

#[test]
fn a_guess_is_for_statuses_that_allow_it_and_for_public() {
    for rules in both() {
        let modified = ("last-modified", &*date(-1_000));
        let of = |status, control| {
            let fields = [modified, ("etag", "\"1\""), ("cache-control", control)];
            stored(rules, &[], status, &fields).unwrap().ttl(*START)
        };
        assert_eq!(of(404, ""), 100);
        assert_eq!(of(403, "public"), 100);
        if rules == Rules::private() {
            assert_eq!(of(403, "private"), 0);
        }
    }
}

#[test]
fn age_is_the_larger_of_what_is_told_and_what_the_clock_says() {
    for rules in both() {
        let age = |fields: Fields<'_>, delay: u64, resident: u64| {
            let answer = response(200, &[&[("cache-control", "max-age=99")], fields].concat());
            let sent = *START;
            let received = after(delay);
            rules
                .storable(&get(&[]), &answer, sent, received)
                .unwrap()
                .age(received.later(secs(resident)))
                .as_secs()
        };
        assert_eq!(age(&[("date", &date(0))], 0, 0), 0);
        assert_eq!(age(&[("date", &date(-10))], 0, 5), 15, "apparent_age");
        assert_eq!(age(&[("age", "20"), ("date", &date(-10))], 0, 5), 25, "age_value");
        assert_eq!(age(&[("age", "20"), ("date", &date(0))], 3, 5), 28, "response_delay");
        assert_eq!(age(&[("age", "2"), ("date", &date(-10))], 3, 5), 18, "until it came: 13 seconds");
        assert_eq!(age(&[("date", &date(100))], 3, 5), 8, "a date in the future");
        assert_eq!(age(&[], 3, 5), 8, "no date");
    }
}

/// A response that is made in the last millisecond of a second is not a second old.
#[test]
fn a_date_is_not_older_than_a_second_allows() {
    for rules in both() {
        let received = START.later(Duration::from_millis(999));
        let answer = response(200, &[("cache-control", "max-age=1"), ("date", &date(0))]);
        let stored = rules.storable(&get(&[]), &answer, received, received).unwrap();
        assert_eq!(stored.age(received), Duration::ZERO);
        assert_eq!(rules.judge(&stored, &get(&[]), received), Verdict::Fresh);
    }
}

#[test]
fn an_age_that_is_none_is_ignored() {
    for rules in both() {
        for age in ["", "-1", "x", "1.5", "+3", "\"5\"", "a, 9"] {
            assert_eq!(ttl_of(rules, &[("cache-control", "max-age=60"), ("age", age)]), 60, "{age}");
        }
    }
}

#[test]
fn the_first_of_several_ages_counts() {
    for rules in both() {
        assert_eq!(ttl_of(rules, &[("cache-control", "max-age=60"), ("age", "5, 50")]), 55);
        assert_eq!(ttl_of(rules, &[("cache-control", "max-age=60"), ("age", "5"), ("age", "50")]), 55);
    }
}

#[test]
fn the_wall_clock_does_not_move_what_is_stored() {
    for rules in both() {
        let stored = kept(rules, &[("cache-control", "max-age=60")]);
        let system = START.system + secs(100_000);
        assert_eq!(stored.age(Moment { system, ..after(5) }), secs(5));
        assert_eq!(stored.age(Moment { system: UNIX_EPOCH, ..after(5) }), secs(5));
    }
}

#[test]
fn a_moment_that_is_earlier_is_no_age() {
    for rules in both() {
        let answer = response(200, &[("cache-control", "max-age=60")]);
        let stored = rules.storable(&get(&[]), &answer, after(9), after(5)).unwrap();
        assert_eq!(stored.age(*START), Duration::ZERO);
    }
}

#[test]
fn clocks_outside_of_what_a_date_can_say_do_no_harm() {
    for rules in both() {
        for system in
            [UNIX_EPOCH - secs(1), UNIX_EPOCH + secs(253_402_300_800), UNIX_EPOCH + secs(300_000_000_000)]
        {
            let now = Moment { system, ..*START };
            for fields in [
                &[("cache-control", "max-age=60")][..],
                &[("cache-control", "max-age=60"), ("date", &date(0))],
            ] {
                if let Ok(stored) = rules.storable(&get(&[]), &response(200, fields), now, now) {
                    assert!(stored.age(now.later(secs(5))) >= secs(5));
                    assert!(stored.answer_headers(now).contains_key("age"));
                }
            }
        }
    }
}

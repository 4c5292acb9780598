//! RFC 9111, sections 4.2.4 and 5.2.2; RFC 5861.

use super::{super::Forward, *};

const ASK: Verdict = Verdict::Validate(Forward::Stale);

/// What forbids to serve stale, and whether it does in a private cache.
const FORBID: [(&str, bool); 4] =
    [("must-revalidate", true), ("no-cache", true), ("proxy-revalidate", false), ("s-maxage=60", false)];

fn forbidding(rules: Rules) -> impl Iterator<Item = &'static str> {
    FORBID
        .into_iter()
        .filter(move |(_, in_private)| *in_private || rules == Rules::shared())
        .map(|(control, _)| control)
}

fn lenient(rules: Rules, control: &str) -> Stored {
    let control = format!("max-age=60, stale-while-revalidate=900, stale-if-error=900, {control}");
    kept(rules, &[("cache-control", &control), ("etag", "\"1\"")])
}

#[test]
fn nothing_stale_is_served_without_permission() {
    for rules in both() {
        let stored = kept(rules, &[("cache-control", "max-age=60")]);
        assert_eq!(judged(rules, &stored, &[], 60), ASK);
        assert!(!rules.stale_if_error(&stored, &get(&[]), after(60)));
    }
}

#[test]
fn what_forbids_stale_answers_forbids_them_in_every_form() {
    for rules in both() {
        let rules = rules.with_stale_if_error(secs(900));
        for control in forbidding(rules.with_stale_if_error(Duration::ZERO)) {
            let stored = lenient(rules, control);
            for asked in [
                &[][..],
                &[("cache-control", "max-stale")],
                &[("cache-control", "max-stale=99, stale-if-error=99")],
            ] {
                assert_eq!(judged(rules, &stored, asked, 61), ASK, "{control} {asked:?}");
                assert!(!rules.stale_if_error(&stored, &get(asked), after(61)), "{control} {asked:?}");
            }
            if control != "no-cache" {
                assert_eq!(judged(rules, &stored, &[], 59), Verdict::Fresh, "{control}");
            }
        }
    }
}

#[test]
fn what_forbids_stale_answers_does_so_with_an_argument_and_amid_garbage() {
    for rules in both() {
        for control in [
            "must-revalidate=x",
            "must-revalidate;x",
            "x must-revalidate",
            "no-cache=\"set-cookie\"",
            "no-cache=x",
        ] {
            let stored = lenient(rules, control);
            assert_eq!(judged(rules, &stored, &[("cache-control", "max-stale")], 61), ASK, "{control}");
        }
        let stored = lenient(rules, "s-maxage=x");
        let is_shared = rules == Rules::shared();
        assert_eq!(judged(rules, &stored, &[], 61) == ASK, is_shared);
    }
}

#[test]
fn proxy_revalidate_and_s_maxage_are_for_shared_caches() {
    for control in ["proxy-revalidate", "s-maxage=1"] {
        let rules = Rules::private();
        let stored = lenient(rules, control);
        assert_eq!(judged(rules, &stored, &[], 59), Verdict::Fresh);
        assert_eq!(judged(rules, &stored, &[], 61), Verdict::WhileRevalidate);
        assert!(rules.stale_if_error(&stored, &get(&[]), after(61)));
    }
}

#[test]
fn response_no_cache_is_validated_each_time() {
    for rules in both() {
        for control in ["no-cache", "max-age=60, No-Cache", "no-cache=\"x-a\", max-age=60"] {
            let stored = kept(rules, &[("cache-control", control), ("etag", "\"1\"")]);
            for later in [0, 30, 90] {
                for asked in [&[][..], &[("cache-control", "max-stale")], &[("cache-control", "max-age=99")]]
                {
                    assert_eq!(judged(rules, &stored, asked, later), ASK, "{control}");
                }
            }
        }
    }
}

#[test]
fn while_revalidate_serves_for_so_long() {
    for rules in both() {
        let stored = kept(rules, &[("cache-control", "max-age=60, stale-while-revalidate=30")]);
        assert_eq!(judged(rules, &stored, &[], 59), Verdict::Fresh);
        assert_eq!(judged(rules, &stored, &[], 60), Verdict::WhileRevalidate);
        assert_eq!(judged(rules, &stored, &[], 90), Verdict::WhileRevalidate);
        assert_eq!(judged(rules, &stored, &[], 91), ASK);
        for control in ["stale-while-revalidate", "stale-while-revalidate=x", "stale-while-revalidate=0"] {
            let stored = kept(rules, &[("cache-control", &format!("max-age=60, {control}"))]);
            assert_eq!(judged(rules, &stored, &[], 60), ASK, "{control}");
        }
    }
}

#[test]
fn while_revalidate_heeds_what_the_request_says_of_age() {
    for rules in both() {
        let stored = kept(rules, &[("cache-control", "max-age=60, stale-while-revalidate=30")]);
        for control in ["max-age=900", "min-fresh=0", "no-cache", "max-stale=5", "max-stale, max-age=70"] {
            assert_eq!(judged(rules, &stored, &[("cache-control", control)], 80), ASK, "{control}");
        }
        for control in ["max-stale", "max-stale=20", "max-stale, max-age=80", "no-transform"] {
            let verdict = judged(rules, &stored, &[("cache-control", control)], 80);
            assert_eq!(verdict, Verdict::WhileRevalidate, "{control}");
        }
    }
}

#[test]
fn if_error_serves_for_so_long() {
    for rules in both() {
        let stored = kept(rules, &[("cache-control", "max-age=60, stale-if-error=30")]);
        let may = |asked, later| rules.stale_if_error(&stored, &get(asked), after(later));
        assert!(may(&[], 60));
        assert!(may(&[], 90));
        assert!(!may(&[], 91));
        assert!(may(&[], 10), "fresh, and the request did not take it so");
        for none in
            ["stale-if-error=0", "stale-if-error", "stale-if-error=x", "stale-if-error=9, stale-if-error=8"]
        {
            let stored = kept(rules, &[("cache-control", &format!("max-age=60, {none}"))]);
            assert!(!rules.stale_if_error(&stored, &get(&[]), after(61)), "{none}");
        }
    }
}

#[test]
fn the_request_s_own_if_error_comes_first() {
    for rules in both() {
        let stored = kept(rules, &[("cache-control", "max-age=60, stale-if-error=30")]);
        let may =
            |control, later| rules.stale_if_error(&stored, &get(&[("cache-control", control)]), after(later));
        assert!(may("stale-if-error=99", 150));
        assert!(!may("stale-if-error=99", 160));
        assert!(!may("stale-if-error=5", 70));
        for none in ["stale-if-error=0", "stale-if-error", "stale-if-error=x"] {
            assert!(!may(none, 61), "{none}");
        }
        let silent = kept(rules, &[("cache-control", "max-age=60")]);
        assert!(rules.stale_if_error(&silent, &get(&[("cache-control", "stale-if-error=9")]), after(61)));
    }
}

#[test]
fn the_configured_time_is_for_responses_that_do_not_speak_of_it() {
    for rules in both() {
        let rules = rules.with_stale_if_error(secs(50));
        let may = |control, later| {
            let stored = kept(rules, &[("cache-control", control)]);
            rules.stale_if_error(&stored, &get(&[]), after(later))
        };
        assert!(may("max-age=60", 110));
        assert!(!may("max-age=60", 111));
        assert!(!may("max-age=60, stale-if-error=5", 66));
        assert!(may("max-age=60, stale-if-error=99", 150));
    }
}

#[test]
fn no_cache_in_a_request_asks_for_a_validation_that_succeeds() {
    for rules in both() {
        let stored = kept(rules, &[("cache-control", "max-age=60, stale-if-error=30")]);
        let may = |asked| rules.stale_if_error(&stored, &get(asked), after(61));
        assert!(!may(&[("cache-control", "no-cache")]));
        assert!(!may(&[("pragma", "no-cache")]));
        assert!(may(&[("cache-control", "no-cache, stale-if-error=30")]), "it says both");
        assert!(may(&[("cache-control", "max-age=0")]), "regardless of freshness");
        assert!(may(&[("cache-control", "min-fresh=9")]));
    }
}

#[test]
fn four_statuses_are_failures() {
    for status in 100..1000 {
        let is_failure = Rules::is_failure(http::StatusCode::from_u16(status).unwrap());
        assert_eq!(is_failure, [500, 502, 503, 504].contains(&status), "{status}");
    }
}

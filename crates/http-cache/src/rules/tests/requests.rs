//! RFC 9111, sections 4, 5.2.1 and 5.4: what a request asks of the store.

use super::{
    super::{Approach, Forward},
    *,
};

const LOOKUP: Approach = Approach::Lookup { only_if_cached: false };

#[test]
fn get_and_head_are_looked_up() {
    for rules in both() {
        assert_eq!(rules.approach(&get(&[])), LOOKUP);
        assert_eq!(rules.approach(&request_by("HEAD", &[("range", "bytes=0-1, 3-4")])), LOOKUP);
    }
}

#[test]
fn other_methods_are_sent_on() {
    for rules in both() {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "QUERY", "get", "X"] {
            assert_eq!(
                rules.approach(&request_by(method, &[])),
                Approach::Forward(Forward::Method),
                "{method}"
            );
        }
    }
}

#[test]
fn conditions_that_the_origin_alone_can_answer_are_sent_on() {
    for rules in both() {
        for name in ["if-match", "if-unmodified-since"] {
            assert_eq!(rules.approach(&get(&[(name, "*")])), Approach::Forward(Forward::Bypass), "{name}");
        }
        for name in ["if-none-match", "if-modified-since", "if-range"] {
            assert_eq!(rules.approach(&get(&[(name, "*")])), LOOKUP, "{name}");
        }
    }
}

#[test]
fn a_request_with_content_is_sent_on() {
    for rules in both() {
        for field in [("content-length", "1"), ("content-length", "x"), ("transfer-encoding", "chunked")] {
            assert_eq!(rules.approach(&get(&[field])), Approach::Forward(Forward::Bypass), "{field:?}");
        }
        assert_eq!(rules.approach(&get(&[("content-length", "0")])), LOOKUP);
    }
}

#[test]
fn several_ranges_are_sent_on() {
    for rules in both() {
        let partial = Approach::Forward(Forward::Partial);
        assert_eq!(rules.approach(&get(&[("range", "bytes=0-1, 3-4")])), partial);
        assert_eq!(rules.approach(&get(&[("range", "bytes=0-1"), ("range", "bytes=3-4")])), partial);
        assert_eq!(rules.approach(&get(&[("range", "bytes=0-1")])), LOOKUP);
    }
}

#[test]
fn only_if_cached_is_told() {
    for rules in both() {
        let approach = |control| rules.approach(&get(&[("cache-control", control)]));
        assert_eq!(approach("max-stale, Only-If-Cached"), Approach::Lookup { only_if_cached: true });
        assert_eq!(approach("x=\"only-if-cached\""), LOOKUP);
    }
}

#[test]
fn request_max_age_limits_the_age() {
    for rules in both() {
        let stored = kept(rules, &[("cache-control", "max-age=60"), ("age", "10")]);
        let asked = [("cache-control", "max-age=20")];
        assert_eq!(judged(rules, &stored, &asked, 10), Verdict::Fresh);
        assert_eq!(judged(rules, &stored, &asked, 11), Verdict::Validate(Forward::Request));
        assert_eq!(judged(rules, &stored, &asked, 50), Verdict::Validate(Forward::Stale));
        let young = kept(rules, &[("cache-control", "max-age=60")]);
        for wrong in ["max-age=x", "max-age", "max-age=9, max-age=8"] {
            let verdict = judged(rules, &young, &[("cache-control", wrong)], 1);
            assert_eq!(verdict, Verdict::Validate(Forward::Request), "{wrong}");
        }
    }
}

#[test]
fn request_max_age_without_max_stale_takes_nothing_stale() {
    for rules in both() {
        let stored = kept(rules, &[("cache-control", "max-age=60, stale-while-revalidate=100")]);
        let stale = Verdict::Validate(Forward::Stale);
        assert_eq!(judged(rules, &stored, &[("cache-control", "max-age=1000")], 61), stale);
        let with = [("cache-control", "max-age=1000, max-stale")];
        assert_eq!(judged(rules, &stored, &with, 61), Verdict::WhileRevalidate);
        assert_eq!(judged(rules, &stored, &with, 200), Verdict::Stale);
        assert_eq!(judged(rules, &stored, &with, 1_001), stale, "older than it takes");
    }
}

#[test]
fn min_fresh_asks_for_freshness_to_come() {
    for rules in both() {
        let stored = kept(rules, &[("cache-control", "max-age=60, stale-while-revalidate=100")]);
        let asked = [("cache-control", "min-fresh=20")];
        assert_eq!(judged(rules, &stored, &asked, 40), Verdict::Fresh);
        assert_eq!(judged(rules, &stored, &asked, 41), Verdict::Validate(Forward::Request));
        let stale = Verdict::Validate(Forward::Stale);
        for control in
            ["min-fresh=0", "min-fresh=20, max-stale", "min-fresh=0, max-stale=99", "min-fresh=99999999999"]
        {
            assert_eq!(judged(rules, &stored, &[("cache-control", control)], 60), stale, "{control}");
        }
        let garbled = [("cache-control", "min-fresh=x")];
        assert_eq!(judged(rules, &stored, &garbled, 0), Verdict::Validate(Forward::Request));
        let two = [("cache-control", "min-fresh=1, min-fresh=20")];
        assert_eq!(judged(rules, &stored, &two, 41), Verdict::Validate(Forward::Request), "both hold");
    }
}

#[test]
fn max_stale_takes_what_is_stale_for_so_long() {
    for rules in both() {
        let stored = kept(rules, &[("cache-control", "max-age=60")]);
        let asked = |control, later| judged(rules, &stored, &[("cache-control", control)], later);
        let stale = Verdict::Validate(Forward::Stale);
        assert_eq!(asked("max-stale=10", 59), Verdict::Fresh);
        assert_eq!(asked("max-stale=10", 70), Verdict::Stale);
        assert_eq!(asked("max-stale=10", 71), stale);
        assert_eq!(asked("max-stale", 1_000_000), Verdict::Stale);
        for wrong in
            ["max-stale=x", "max-stale=", "max-stale=-1", "max-stale = 10", "max-stale, max-stale=10"]
        {
            assert_eq!(asked(wrong, 61), stale, "{wrong}");
        }
    }
}

#[test]
fn request_no_cache_takes_nothing_from_the_store() {
    for rules in both() {
        let stored = kept(rules, &[("cache-control", "max-age=60, stale-while-revalidate=60")]);
        for control in ["no-cache", "No-Cache, max-stale, max-age=1000", "no-cache=x", "max-age=60, no-cache"]
        {
            let asked = [("cache-control", control)];
            assert_eq!(judged(rules, &stored, &asked, 0), Verdict::Validate(Forward::Request), "{control}");
            assert_eq!(judged(rules, &stored, &asked, 61), Verdict::Validate(Forward::Stale), "{control}");
        }
    }
}

#[test]
fn pragma_counts_where_there_is_no_cache_control() {
    for rules in both() {
        let stored = kept(rules, &[("cache-control", "max-age=60"), ("pragma", "no-cache")]);
        assert_eq!(judged(rules, &stored, &[], 0), Verdict::Fresh, "in a response it says nothing");
        let ask = Verdict::Validate(Forward::Request);
        assert_eq!(judged(rules, &stored, &[("pragma", "No-Cache")], 0), ask);
        assert_eq!(judged(rules, &stored, &[("pragma", "x, no-cache")], 0), ask);
        assert_eq!(
            judged(rules, &stored, &[("pragma", "no-cache"), ("cache-control", "")], 0),
            Verdict::Fresh
        );
        assert_eq!(
            judged(rules, &stored, &[("pragma", "no-cache"), ("cache-control", "max-age=9")], 0),
            Verdict::Fresh
        );
    }
}

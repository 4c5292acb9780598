//! RFC 9111, sections 3, 3.5 and 5.2.2.

use std::time::Duration;

use super::{super::NotStored, *};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

#[test]
fn only_answers_to_get_are_stored() {
    for rules in both() {
        for method in ["POST", "HEAD", "PUT", "OPTIONS", "QUERY", "X"] {
            let request = request_by(method, &[]);
            let answer = rules.storable(&request, &response(200, &[FRESH]), *START, *START);
            assert_eq!(answer.err(), Some(NotStored::Method), "{method}");
        }
        assert!(stored(rules, &[], 200, &[FRESH]).is_ok());
    }
}

#[test]
fn only_final_responses_are_stored() {
    for rules in both() {
        for status in [100, 103, 199] {
            assert_eq!(why_not(rules, &[], status, &[FRESH]), Some(NotStored::Status), "{status}");
        }
    }
}

#[test]
fn parts_and_304_are_not_stored() {
    for rules in both() {
        for status in [206, 304, 416] {
            for control in ["max-age=60", "public, max-age=60, must-understand"] {
                let why = why_not(rules, &[], status, &[("cache-control", control)]);
                assert_eq!(why, Some(NotStored::Status), "{status}");
            }
        }
    }
}

#[test]
fn must_understand_keeps_unknown_statuses_out() {
    for rules in both() {
        for control in ["must-understand, max-age=60", "no-store, must-understand, max-age=60"] {
            for status in [299, 418, 599] {
                let why = why_not(rules, &[], status, &[("cache-control", control)]);
                assert_eq!(why, Some(NotStored::NotUnderstood), "{status} {control}");
            }
        }
        assert!(stored(rules, &[], 599, &[FRESH]).is_ok(), "without it, the time alone does");
    }
}

#[test]
fn must_understand_overrides_no_store_where_the_status_is_understood() {
    for rules in both() {
        let control = [("cache-control", "no-store, must-understand, max-age=60")];
        for status in [200, 404, 503] {
            assert!(stored(rules, &[], status, &control).is_ok(), "{status}");
        }
        let with_argument = [("cache-control", "no-store, must-understand=1, max-age=60")];
        assert_eq!(why_not(rules, &[], 200, &with_argument), Some(NotStored::NoStore));
    }
}

#[test]
fn no_store_is_not_stored() {
    for rules in both() {
        for control in [
            "no-store",
            "max-age=60, no-store",
            "public, No-Store",
            "no-store=x, max-age=60",
            "no-store=\"a\"",
        ] {
            let why = why_not(rules, &[], 200, &[("cache-control", control), ("etag", "\"1\"")]);
            assert_eq!(why, Some(NotStored::NoStore), "{control}");
        }
        let lines = [("cache-control", "max-age=60"), ("cache-control", "no-store")];
        assert_eq!(why_not(rules, &[], 200, &lines), Some(NotStored::NoStore));
    }
}

#[test]
fn a_request_with_no_store_leaves_nothing_behind() {
    for rules in both() {
        let why = why_not(rules, &[("cache-control", "no-store")], 200, &[FRESH]);
        assert_eq!(why, Some(NotStored::RequestNoStore));
    }
}

#[test]
fn private_is_stored_by_a_private_cache_alone() {
    for control in
        ["private, max-age=60", "max-age=60, private=\"set-cookie\"", "private=x, max-age=60, public"]
    {
        let fields = [("cache-control", control)];
        assert!(stored(Rules::private(), &[], 200, &fields).is_ok(), "{control}");
        assert_eq!(why_not(Rules::shared(), &[], 200, &fields), Some(NotStored::Private), "{control}");
    }
}

#[test]
fn private_lets_a_private_cache_keep_any_status() {
    let fields = [("cache-control", "private"), ("etag", "\"1\"")];
    assert!(stored(Rules::private(), &[], 403, &fields).is_ok());
    assert_eq!(why_not(Rules::private(), &[], 403, &[("etag", "\"1\"")]), Some(NotStored::NotCacheable));
}

#[test]
fn an_answer_to_credentials_is_shared_only_where_it_says_so() {
    let with = [("authorization", "Basic dTpw")];
    for control in ["public, max-age=60", "must-revalidate, max-age=60", "s-maxage=60"] {
        assert!(stored(Rules::shared(), &with, 200, &[("cache-control", control)]).is_ok(), "{control}");
    }
    // What is not well written allows nothing.
    for control in [
        "max-age=60",
        "proxy-revalidate, max-age=60",
        "s-maxage, max-age=60",
        "public=x, max-age=60",
        "s-maxage=+1",
    ] {
        let fields = [("cache-control", control), ("etag", "\"1\"")];
        assert_eq!(
            why_not(Rules::shared(), &with, 200, &fields),
            Some(NotStored::Authorization),
            "{control}"
        );
        assert!(stored(Rules::private(), &with, 200, &fields).is_ok(), "{control}");
    }
}

#[test]
fn something_must_say_that_it_may_be_stored() {
    let validated = ("etag", "\"1\"");
    for rules in both() {
        for status in [201, 302, 307, 400, 403, 500, 503, 599] {
            assert_eq!(why_not(rules, &[], status, &[validated]), Some(NotStored::NotCacheable), "{status}");
            assert!(stored(rules, &[], status, &[FRESH]).is_ok(), "{status}");
            assert!(
                stored(rules, &[], status, &[validated, ("cache-control", "public")]).is_ok(),
                "{status}"
            );
            assert!(stored(rules, &[], status, &[validated, ("expires", &date(9))]).is_ok(), "{status}");
        }
    }
    let s_maxage = [("cache-control", "s-maxage=60"), validated];
    assert!(stored(Rules::shared(), &[], 302, &s_maxage).is_ok());
    assert_eq!(why_not(Rules::private(), &[], 302, &s_maxage), Some(NotStored::NotCacheable));
}

#[test]
fn heuristically_cacheable_statuses_need_no_permission() {
    for rules in both() {
        for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
            assert!(stored(rules, &[], status, &[("last-modified", &date(-1_000))]).is_ok(), "{status}");
        }
    }
}

#[test]
fn a_shared_cache_keeps_no_cookie_because_of_a_status() {
    let by_status = [("set-cookie", "a=b"), ("last-modified", &date(-1_000))];
    assert_eq!(why_not(Rules::shared(), &[], 200, &by_status), Some(NotStored::SetCookie));
    assert!(stored(Rules::private(), &[], 200, &by_status).is_ok());
    assert!(stored(Rules::shared(), &[], 200, &[("set-cookie", "a=b"), FRESH]).is_ok());
}

#[test]
fn what_could_never_be_used_is_not_stored() {
    for rules in both() {
        let is_useless = |fields: Fields<'_>| why_not(rules, &[], 200, fields) == Some(NotStored::Useless);
        assert!(is_useless(&[]));
        assert!(is_useless(&[("cache-control", "max-age=0")]));
        assert!(is_useless(&[("cache-control", "no-cache, max-age=60")]));
        assert!(is_useless(&[("cache-control", "max-age=60"), ("age", "60")]));
        assert!(is_useless(&[("cache-control", "max-age=0, must-revalidate, stale-if-error=60")]));
        assert!(is_useless(&[("cache-control", "max-age=0, stale-if-error=0, stale-while-revalidate=0")]));
        assert!(!is_useless(&[("cache-control", "max-age=0"), ("etag", "W/\"\"")]));
        assert!(!is_useless(&[("cache-control", "no-cache"), ("last-modified", &date(0))]));
        assert!(!is_useless(&[("cache-control", "max-age=0, stale-while-revalidate=1")]));
        assert!(!is_useless(&[("cache-control", "max-age=0, stale-if-error=1")]));
        let own = rules.with_stale_if_error(Duration::from_secs(1));
        assert_eq!(why_not(own, &[], 200, &[("cache-control", "max-age=0")]), None);
    }
}

#[test]
fn every_reason_is_a_token_of_its_own() {
    let all = [
        NotStored::Method,
        NotStored::Status,
        NotStored::RequestNoStore,
        NotStored::NoStore,
        NotStored::NotUnderstood,
        NotStored::Private,
        NotStored::Vary,
        NotStored::Authorization,
        NotStored::NotCacheable,
        NotStored::SetCookie,
        NotStored::Useless,
    ];
    let mut texts: Vec<_> = all.iter().map(|why| why.as_str()).collect();
    assert!(texts.iter().all(|text| sfv::TokenRef::from_str(text).is_ok()));
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), all.len());
}

#[test]
fn cdn_cache_control_takes_the_place_of_cache_control_and_expires_where_it_is_obeyed() {
    for (targeted, general, obeyed, not) in [
        ("max-age=60", "no-store", Some(60), None),
        ("no-store", "max-age=30", None, Some(30)),
        ("private", "max-age=30", None, Some(30)),
        ("max-age=", "max-age=30", Some(30), Some(30)),
        ("", "max-age=30", Some(30), Some(30)),
        ("max-age=60", "", Some(60), Some(100)),
    ] {
        let expires = date(100);
        let fields = [("cdn-cache-control", targeted), ("cache-control", general), ("expires", &expires)];
        for (rules, expected) in [(Rules::shared().with_cdn_cache_control(), obeyed), (Rules::shared(), not)]
        {
            let told = stored(rules, &[], 200, &fields).ok().map(|stored| stored.ttl(*START));
            assert_eq!(told, expected, "{targeted} / {general}");
        }
    }
}

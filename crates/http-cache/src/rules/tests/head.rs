//! RFC 9111, section 4.3.5.

use super::{super::HeadUpdate, *};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

fn after_head(rules: Rules, own: Fields<'_>, asked: Fields<'_>, status: u16, told: Fields<'_>) -> HeadUpdate {
    let stored = kept(rules, &[&[FRESH], own].concat());
    rules.after_head(&stored, &request_by("HEAD", asked), &response(status, told), after(50), after(50))
}

#[test]
fn a_head_with_the_same_validators_freshens() {
    for rules in both() {
        let own = [("etag", "\"1\""), ("last-modified", &*date(-9)), ("content-length", "5"), ("x-a", "1")];
        let tellings: [&[(&str, &str)]; 4] = [
            &[("etag", "\"1\""), ("x-a", "2")],
            &[("last-modified", &date(-9)), ("x-a", "2")],
            &[("etag", "\"1\""), ("content-length", "5"), ("x-a", "2")],
            &[("etag", "\"1\""), ("last-modified", &date(-9)), ("content-length", "5"), ("x-a", "2")],
        ];
        for told in tellings {
            let HeadUpdate::Freshened(new) = after_head(rules, &own, &[], 200, told) else {
                panic!("{told:?}")
            };
            assert_eq!(new.headers()["x-a"], "2");
            assert_eq!(new.content_length(), Some(5));
            assert_eq!(new.ttl(after(50)), 60);
        }
    }
}

#[test]
fn a_head_with_other_validators_or_length_outdates() {
    for rules in both() {
        let own = [("etag", "\"1\""), ("last-modified", &*date(-9)), ("content-length", "5")];
        for told in [
            &[("etag", "\"2\"")][..],
            &[("etag", "W/\"1\"")],
            &[("etag", "x")],
            &[("etag", "\"1\""), ("last-modified", &date(-8))],
            &[("last-modified", "x")],
            &[("etag", "\"1\""), ("content-length", "6")],
            &[("content-length", "6")],
        ] {
            assert!(matches!(after_head(rules, &own, &[], 200, told), HeadUpdate::Outdated), "{told:?}");
        }
        let tag = [("etag", "\"1\"")];
        assert!(matches!(after_head(rules, &[], &[], 200, &tag), HeadUpdate::Outdated), "it had none");
        let missing = stored(rules, &[], 404, &[FRESH]).unwrap();
        let update =
            rules.after_head(&missing, &request_by("HEAD", &[]), &response(200, &[]), *START, *START);
        assert!(matches!(update, HeadUpdate::Outdated), "it is there now");
    }
}

#[test]
fn a_head_without_validators_proves_nothing() {
    for rules in both() {
        for told in [&[FRESH][..], &[FRESH, ("content-length", "5")]] {
            let update = after_head(rules, &[("content-length", "5")], &[], 200, told);
            assert!(matches!(update, HeadUpdate::Unrelated), "{told:?}");
        }
    }
}

#[test]
fn a_head_says_nothing_of_other_variants_or_by_other_statuses() {
    for rules in both() {
        let tag = ("etag", "\"2\"");
        for status in [204, 304, 404, 500] {
            assert!(matches!(after_head(rules, &[], &[], status, &[tag]), HeadUpdate::Unrelated), "{status}");
        }
        let update = after_head(rules, &[("vary", "x-a")], &[("x-a", "1")], 200, &[tag]);
        assert!(matches!(update, HeadUpdate::Unrelated));
    }
}

#[test]
fn a_head_that_forbids_to_store_outdates() {
    for rules in both() {
        let own = [("etag", "\"1\"")];
        let told = [("etag", "\"1\""), ("cache-control", "no-store")];
        assert!(matches!(after_head(rules, &own, &[], 200, &told), HeadUpdate::Outdated));
        let asked = [("cache-control", "no-store")];
        assert!(
            matches!(after_head(rules, &own, &asked, 200, &own), HeadUpdate::Unrelated),
            "that is the request's"
        );
    }
}

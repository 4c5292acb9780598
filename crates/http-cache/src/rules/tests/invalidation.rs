//! RFC 9111, section 4.4.

use http::Uri;

use super::*;

fn invalidated(rules: Rules, method: &str, status: u16, fields: Fields<'_>) -> Vec<String> {
    invalidated_at("http://a/x/y?z", rules, method, status, fields)
}

fn invalidated_at(target: &str, rules: Rules, method: &str, status: u16, fields: Fields<'_>) -> Vec<String> {
    let target: Uri = target.parse().unwrap();
    let all = rules.invalidated(&request_by(method, &[]), &response(status, fields), &target);
    all.iter().map(ToString::to_string).collect()
}

#[test]
fn an_unsafe_method_that_succeeds_invalidates_its_target() {
    for rules in both() {
        for method in ["POST", "PUT", "DELETE", "PATCH", "CONNECT", "PURGE", "X"] {
            for status in [200, 204, 303, 304] {
                assert_eq!(invalidated(rules, method, status, &[]), ["http://a/x/y?z"], "{method} {status}");
            }
        }
    }
}

#[test]
fn safe_methods_and_errors_invalidate_nothing() {
    for rules in both() {
        let named = [("location", "/b")];
        for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
            assert!(invalidated(rules, method, 200, &named).is_empty(), "{method}");
        }
        for status in [100, 400, 404, 500, 503, 600] {
            assert!(invalidated(rules, "POST", status, &named).is_empty(), "{status}");
        }
    }
}

#[test]
fn location_and_content_location_are_invalidated_too() {
    for rules in both() {
        let fields = [("location", "/b"), ("content-location", "http://A:80/c?d#e")];
        assert_eq!(
            invalidated(rules, "POST", 201, &fields),
            ["http://a/x/y?z", "http://a/b", "http://A:80/c?d"]
        );
        let same = [("location", "?z"), ("content-location", "y?z")];
        assert_eq!(invalidated(rules, "POST", 201, &same), ["http://a/x/y?z"]);
        let many: Vec<_> = ["/1", "/2", "/3"].iter().map(|path| ("location", *path)).collect();
        assert_eq!(invalidated(rules, "POST", 201, &many).len(), 2, "the first one");
    }
}

#[test]
fn a_scheme_s_own_port_is_the_same_origin() {
    for rules in both() {
        let at =
            |target, location| invalidated_at(target, rules, "PUT", 200, &[("location", location)]).len();
        assert_eq!(at("https://a/x", "https://a:443/y"), 2);
        assert_eq!(at("https://a:443/x", "https://a/y"), 2);
        assert_eq!(at("http://a:8080/x", "//A:8080/y"), 2);
        assert_eq!(at("https://a/x", "https://a:80/y"), 1);
        assert_eq!(at("http://a/x", "http://a:443/y"), 1);
        assert_eq!(at("http://a:8080/x", "http://a/y"), 1);
        assert_eq!(at("/x", "/y"), 1, "nobody knows whose it is");
    }
}

#[test]
fn another_origin_is_never_invalidated() {
    for rules in both() {
        for other in [
            "http://b/x",
            "https://a/x",
            "http://a:81/x",
            "//b/x",
            "http://a@b/x",
            "http://b.a/x",
            "mailto:a@b",
            "http:x",
            "http:///x",
            "\u{00e9}",
            "http://a b/",
        ] {
            let fields = [("location", other), ("content-location", other)];
            assert_eq!(invalidated(rules, "DELETE", 200, &fields), ["http://a/x/y?z"], "{other}");
        }
    }
}

#[test]
fn relative_addresses_are_resolved() {
    for rules in both() {
        for (reference, expected) in [
            ("b", "/x/b"),
            ("./b", "/x/b"),
            ("../b", "/b"),
            ("../../../b", "/b"),
            ("b/", "/x/b/"),
            (".", "/x/"),
            ("..", "/"),
            ("b/../c/./d", "/x/c/d"),
            ("/b/../c", "/c"),
            ("//a/b", "/b"),
            ("?q", "/x/y?q"),
            ("b?q=/../:", "/x/b?q=/../:"),
            ("b:80", "/x/y?z"),
            ("x_y:z", "/x/x_y:z"),
            ("1:z", "/x/1:z"),
            ("./b:80", "/x/b:80"),
            ("/b#c", "/b"),
            ("#c", "/x/y?z"),
            ("http://a", "/"),
            ("http://a/b/../c", "/c"),
        ] {
            let all = invalidated(rules, "POST", 200, &[("location", reference)]);
            let expected = format!("http://a{expected}");
            assert_eq!(all.last(), Some(&expected), "{reference}");
        }
    }
}

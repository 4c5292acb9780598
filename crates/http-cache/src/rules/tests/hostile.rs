//! What comes from outside may be anything.

use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use proptest::prelude::*;

use super::{
    super::{Conditions, Freshened, HeadUpdate, Slice},
    *,
};

const FIELDS: [&str; 26] = [
    "accept",
    "accept-encoding",
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-location",
    "date",
    "etag",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "keep-alive",
    "last-modified",
    "location",
    "pragma",
    "range",
    "set-cookie",
    "transfer-encoding",
    "vary",
    "x-a",
    "x-b",
];

/// What a parser looks for, so that it is found in odd places.
const WORDS: [&str; 40] = [
    "max-age",
    "s-maxage",
    "no-store",
    "no-cache",
    "private",
    "public",
    "must-revalidate",
    "stale-if-error",
    "max-stale",
    "min-fresh",
    "only-if-cached",
    "stale-while-revalidate",
    "=",
    "=",
    ",",
    ",",
    ", ",
    ";",
    "\"",
    "\\",
    " ",
    "\t",
    "*",
    "W/",
    "\"1\"",
    "bytes=",
    "-",
    "0",
    "1",
    "18446744073709551616",
    "99999999999999999999999999",
    "Tue, 14 Nov 2023 22:14:20 GMT",
    "gmt",
    "x-a",
    "accept",
    "cache-control",
    "//",
    "..",
    "http://",
    "[",
];

/// Whatever bytes a header value may have.
fn value() -> impl Strategy<Value = HeaderValue> {
    let byte = any::<u8>().prop_map(|byte| if byte.is_ascii_control() { b'\t' } else { byte });
    let bytes = proptest::collection::vec(byte, 0..40);
    let words = proptest::collection::vec(prop::sample::select(WORDS.to_vec()), 0..12);
    prop_oneof![bytes, words.prop_map(|words| words.concat().into_bytes())]
        .prop_map(|bytes| HeaderValue::from_bytes(&bytes).expect("no control bytes but tabs"))
}

fn fields() -> impl Strategy<Value = HeaderMap> {
    proptest::collection::vec((prop::sample::select(FIELDS.to_vec()), value()), 0..12).prop_map(|fields| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        headers
    })
}

fn with<P>(mut parts: P, of: impl Fn(&mut P) -> &mut HeaderMap, fields: HeaderMap) -> P {
    of(&mut parts).extend(fields);
    parts
}

fn asked(method: &str, fields: HeaderMap) -> request::Parts {
    with(request_by(method, &[]), |parts| &mut parts.headers, fields)
}

fn told(status: u16, fields: HeaderMap) -> response::Parts {
    with(response(status, &[]), |parts| &mut parts.headers, fields)
}

/// Everything that can be asked, and what must hold of the answers whatever the fields are.
fn ask_everything(rules: Rules, first: &HeaderMap, second: &HeaderMap, answer: &HeaderMap, status: u16) {
    let request = asked("GET", first.clone());
    let other = asked("GET", second.clone());
    let answer = told(status, answer.clone());
    let target: Uri = "http://a/x".parse().unwrap();
    let _ = rules.approach(&request);
    let named = rules.invalidated(&asked("POST", first.clone()), &answer, &target);
    assert!(named.len() <= 3);
    assert!(
        named.iter().all(|uri| uri.host().is_some_and(|host| host.eq_ignore_ascii_case("a"))),
        "{named:?}"
    );

    let Ok(stored) = rules.storable(&request, &answer, *START, after(1)) else { return };
    assert!(rules.matches(&stored, &request), "it answers the request that it was an answer to");
    assert!(!stored.headers().contains_key("age") && !stored.headers().contains_key("connection"));
    assert!(stored.headers().contains_key("date"));
    assert!(stored.weight() > 0);
    for now in [*START, after(61), after(u64::MAX)] {
        if rules.judge(&stored, &get(&[]), now) == Verdict::Fresh {
            assert!(stored.ttl(now) > 0);
        }
        let _ = rules.judge(&stored, &other, now);
        let _ = rules.stale_if_error(&stored, &other, now);
        let _ = stored.answer_headers(now);
        let _ = stored.not_modified_headers(now);
    }
    let _ = stored.is_not_modified_for(&other);
    let conditions = Conditions::of(Some(&stored), [&stored]);
    assert_eq!(conditions.is_empty(), !stored.has_validator());
    conditions.add_to(&mut second.clone());
    for length in [0, 1, 10, u64::MAX] {
        if let Slice::Part(part) = Slice::of(&other, &stored, length) {
            assert!(part.start() <= part.end() && *part.end() < length);
        }
    }
    match rules.freshen(&stored, &other, &told(304, second.clone()), *START, after(1)) {
        Freshened::Kept(new) => assert!(rules.matches(&new, &other)),
        Freshened::Once(_) | Freshened::Unrelated => {}
    }
    let head = asked("HEAD", second.clone());
    if let HeadUpdate::Freshened(new) =
        rules.after_head(&stored, &head, &told(200, second.clone()), *START, after(1))
    {
        assert_eq!(new.content_length(), stored.content_length());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_bytes_make_it_panic(
        first in fields(),
        second in fields(),
        answer in fields(),
        status in prop_oneof![Just(200), 100..1000_u16],
        is_shared: bool,
    ) {
        let rules = if is_shared { Rules::shared() } else { Rules::private() };
        ask_everything(rules.with_stale_if_error(secs(9)), &first, &second, &answer, status);
        ask_everything(rules, &first, &first, &answer, 200);
    }

    /// Whatever stands in the other lines.
    #[test]
    fn no_garbage_hides_no_store(answer in fields(), garbage in proptest::collection::vec(value(), 0..4), at in 0..4_usize) {
        let mut answer = answer;
        let mut lines: Vec<_> = garbage;
        lines.insert(at.min(lines.len()), HeaderValue::from_static("no-store"));
        for line in lines {
            answer.append("cache-control", line);
        }
        for rules in both() {
            prop_assert!(rules.storable(&get(&[]), &told(200, answer.clone()), *START, *START).is_err());
        }
    }

    /// Nor within a line, if nothing is quoted there.
    #[test]
    fn no_garbage_in_the_same_line_hides_no_store(before in "[ -!#-~]{0,20}", after_it in "[ -!#-~]{0,20}") {
        for (left, right) in [(",", ","), (", ", " ,"), (";", ";"), (" ", " ")] {
            let control = format!("{before}{left}no-store{right}{after_it}");
            prop_assume!(!control.contains("must-understand"));
            for rules in both() {
                let fields = [("cache-control", "public, max-age=60"), ("cache-control", control.trim())];
                prop_assert_eq!(why_not(rules, &[], 200, &fields), Some(NotStored::NoStore), "{}", control);
            }
        }
    }
}

/// These take no time if each byte is looked at a few times, and hours if it is looked at once for each of the others.
#[test]
fn large_fields_are_read_in_linear_time() {
    const MANY: usize = 1 << 17;
    for pattern in
        [" ", ",", "\"", "\\", "=", "a,", "a=\"b\",", " ,", "W/", "\"1\",", "../", "a=\"\\", "1", "x;"]
    {
        let mut text = pattern.repeat(MANY / pattern.len());
        text.insert(0, 'x');
        text.push('x');
        let value = HeaderValue::from_str(&text).unwrap();
        let mut headers = HeaderMap::new();
        for name in FIELDS {
            if name != "transfer-encoding" && name != "vary" {
                headers.insert(name, value.clone());
            }
        }
        let mut answer = headers.clone();
        answer.insert("cache-control", HeaderValue::from_static("public, max-age=60"));
        answer.insert("vary", HeaderValue::from_static("accept, accept-encoding, x-a"));
        headers.remove("cache-control");
        for rules in both() {
            ask_everything(rules, &headers, &headers, &answer, StatusCode::OK.as_u16());
            answer.append("cache-control", value.clone());
            answer.append("vary", value.clone());
            ask_everything(rules, &headers, &headers, &answer, StatusCode::OK.as_u16());
        }
    }
}

use std::time::{Duration, SystemTime};

use buttress_http_cache::rules::{Conditions, Freshened, Moment, NotStored, Rules, Slice, Stored, Verdict};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header, request, response};

use crate::{cost::bounded, head::Head};

mod naive;

use naive::Directives;

/// `Cache-Control`, and what else the rules of the HTTP cache read: a naive model agrees where the grammar is kept, what
/// forbids is never lost, ages and lifetimes stay in their bounds, and an answer from the store is stored as what it is.
///
/// The input: the fields of a request, of its answer, and of a later request, with an empty line between them. `:status: 404`
/// in the answer is its status, `:after: 60` in the later request the seconds until it comes.
///
/// # Panics
/// Where that does not hold.
pub fn cache_control(data: &[u8]) {
    let [asked, answered, later] = Head::read(data);
    let status = answered.number("status", 200, 599, 200);
    let status = StatusCode::from_u16(u16::try_from(status).expect("below 600")).expect("above 99");
    let (request, response) = (request_of(&asked), response_of(&answered, status));
    let after = Duration::from_secs(later.number("after", 0, 1 << 33, 0));
    let later = request_of(&later);
    for rules in [
        Rules::private(),
        Rules::shared(),
        Rules::shared().with_cdn_cache_control().with_stale_if_error(Duration::from_secs(60)),
    ] {
        let judged = bounded(data, 64 << 10, 64, || judge(&rules, &request, &response, &later, after));
        let mut more = response.headers.clone();
        more.append(header::CACHE_CONTROL, HeaderValue::from_static("x-unheard-of=5, X-Other"));
        let more = response_with(status, more);
        let again = judge(&rules, &request, &more, &later, after);
        assert_eq!(judged, again, "what is not known changes something: {response:?}");
    }
}

fn request_of(head: &Head) -> request::Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = if head.number("head", 0, 1, 0) == 1 { Method::HEAD } else { Method::GET };
    parts.headers = head.fields.clone();
    parts
}

fn response_of(head: &Head, status: StatusCode) -> response::Parts {
    response_with(status, head.fields.clone())
}

fn response_with(status: StatusCode, headers: HeaderMap) -> response::Parts {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    (parts.status, parts.headers) = (status, headers);
    parts
}

/// In the year 2026.
fn noon() -> Moment {
    let system = SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000);
    Moment { system, ..Moment::now() }
}

/// What is decided, and what must hold of it.
fn judge(
    rules: &Rules,
    request: &request::Parts,
    response: &response::Parts,
    later: &request::Parts,
    after: Duration,
) -> Result<(i64, Verdict, bool), NotStored> {
    let now = noon();
    let _approach = rules.approach(request);
    let stored = rules.storable(request, response, now, now);
    let said = Directives::of(&response.headers);
    if request.method == Method::GET && !response.headers.contains_key("cdn-cache-control") {
        must_not_be_lost(rules, &stored, response, &said);
    }
    let stored = stored?;
    bounds(&stored, now);
    assert!(
        rules.matches(&stored, request),
        "it answers what it was the answer to: {request:?} {response:?}"
    );
    if rules.kind() == buttress_http_cache::Kind::Private
        && said.is_plain
        && let Some(seconds) = said.max_age
    {
        let age = i64::try_from(stored.age(now).as_secs()).expect("2^31 at most");
        assert_eq!(stored.ttl(now) + age, i64::try_from(seconds).expect("2^31 at most"), "{response:?}");
    }
    from_the_store(rules, &stored, request, now);
    others_too(rules, &stored, later, now);

    let then = now.later(after);
    bounds(&stored, then);
    let (verdict, verdict_now) = (rules.judge(&stored, later, then), rules.judge(&stored, later, now));
    if verdict == Verdict::Fresh {
        assert!(stored.ttl(then) > 0, "{response:?}");
        assert_eq!(verdict_now, Verdict::Fresh, "it was younger: {response:?} {later:?}");
    }
    if matches!(verdict, Verdict::Stale | Verdict::WhileRevalidate) {
        assert!(stored.ttl(then) <= 0, "{response:?}");
    }
    let asked = Directives::of(&later.headers);
    if asked.words.iter().any(|word| word == "no-cache") || said.words.iter().any(|word| word == "no-cache") {
        let is_validated = matches!(verdict, Verdict::Validate(_));
        assert!(is_validated || response.headers.contains_key("cdn-cache-control"), "{response:?} {later:?}");
    }
    Ok((stored.ttl(now), verdict, rules.stale_if_error(&stored, later, then)))
}

/// No word that forbids to store is lost, however the rest is written.
fn must_not_be_lost(
    rules: &Rules,
    stored: &Result<Stored, NotStored>,
    response: &response::Parts,
    said: &Directives,
) {
    let has = |word: &str| said.words.iter().any(|said| said == word);
    let is_shared = rules.kind() == buttress_http_cache::Kind::Shared;
    if has("no-store") && !has("must-understand") || has("private") && is_shared {
        assert!(stored.is_err(), "{response:?}");
    }
}

fn bounds(stored: &Stored, now: Moment) {
    const MOST: i64 = 1 << 31;
    assert!(stored.age(now) <= Duration::from_secs(1 << 31));
    assert!((-MOST..=MOST).contains(&stored.ttl(now)), "{}", stored.ttl(now));
    for of_one_hop in ["connection", "transfer-encoding", "keep-alive", "upgrade", "age"] {
        assert!(!stored.headers().contains_key(of_one_hop), "{of_one_hop}");
    }
    assert!(stored.headers().contains_key(header::DATE));
}

/// The next cache stores the answer of this one, as young and for as long.
fn from_the_store(rules: &Rules, stored: &Stored, request: &request::Parts, now: Moment) {
    let answer = response_with(stored.status(), stored.answer_headers(now));
    let again = rules.storable(request, &answer, now, now);
    let again = again.unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    assert_eq!((again.age(now), again.ttl(now)), (stored.age(now), stored.ttl(now)), "{answer:?}");
    let not_modified = response_with(StatusCode::NOT_MODIFIED, stored.not_modified_headers(now));
    if let Freshened::Kept(kept) | Freshened::Once(kept) =
        rules.freshen(stored, request, &not_modified, now, now)
    {
        assert!(kept.age(now) <= stored.age(now), "{not_modified:?}");
    }
}

/// What else is read of a request and of an answer.
fn others_too(rules: &Rules, stored: &Stored, later: &request::Parts, now: Moment) {
    for length in [0, 1, 1_000, u64::MAX] {
        if let Slice::Part(part) = Slice::of(later, stored, length) {
            assert!(part.start() <= part.end() && *part.end() < length, "{part:?} of {length}");
        }
    }
    let conditions = Conditions::of(Some(stored), []);
    let mut headers = later.headers.clone();
    conditions.add_to(&mut headers);
    if !conditions.is_empty() && later.headers.is_empty() {
        let mut asked = later.clone();
        asked.headers = headers;
        assert!(!asked.headers.is_empty());
        assert!(
            stored.is_not_modified_for(&asked) || !stored.status().is_success(),
            "{asked:?} {:?}",
            stored.headers()
        );
    }
    let target: Uri = "http://a.example/b/c?d".parse().expect("an address");
    let mut posted = later.clone();
    posted.method = Method::POST;
    let answer = response_with(StatusCode::OK, stored.answer_headers(now));
    let invalidated = rules.invalidated(&posted, &answer, &target);
    assert!((1..=3).contains(&invalidated.len()));
    for uri in invalidated {
        assert!(uri.host().is_some_and(|host| host.eq_ignore_ascii_case("a.example")), "{uri}");
    }
}

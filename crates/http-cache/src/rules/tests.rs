//! The rules by section of their RFCs, each for a private and for a shared cache. `CONFORMANCE.md` lists them.

mod cache_status;
mod conformance;
mod directives;
mod freshen;
mod freshness;
mod head;
mod hostile;
mod invalidation;
mod model;
mod ranges;
mod regressions;
mod requests;
mod stale;
mod storing;
mod storing_fields;
mod validation;
mod vary;

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderName, HeaderValue, Method, Request, Response, request, response};

use super::{Moment, NotStored, Rules, Stored, Verdict};

/// When all responses of these tests are received, unless they say otherwise.
static START: LazyLock<Moment> = LazyLock::new(|| Moment {
    instant: tokio::time::Instant::now(),
    system: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
});

type Fields<'a> = &'a [(&'a str, &'a str)];

fn both() -> [Rules; 2] {
    [Rules::private(), Rules::shared()]
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn after(seconds: u64) -> Moment {
    START.later(secs(seconds))
}

/// A date so many seconds after the start.
fn date(offset: i64) -> String {
    let by = Duration::from_secs(offset.unsigned_abs());
    let start: SystemTime = START.system;
    httpdate::fmt_http_date(if offset < 0 { start - by } else { start + by })
}

fn header(name: &str, value: &str) -> (HeaderName, HeaderValue) {
    (name.parse().unwrap(), value.parse().unwrap())
}

fn request_by(method: &str, fields: Fields<'_>) -> request::Parts {
    let mut request =
        Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri("http://a/x");
    for (name, value) in fields {
        let (name, value) = header(name, value);
        request = request.header(name, value);
    }
    request.body(()).unwrap().into_parts().0
}

fn get(fields: Fields<'_>) -> request::Parts {
    request_by("GET", fields)
}

fn response(status: u16, fields: Fields<'_>) -> response::Parts {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        let (name, value) = header(name, value);
        response = response.header(name, value);
    }
    response.body(()).unwrap().into_parts().0
}

/// What becomes of an answer at the start.
fn stored(rules: Rules, request: Fields<'_>, status: u16, fields: Fields<'_>) -> Result<Stored, NotStored> {
    rules.storable(&get(request), &response(status, fields), *START, *START)
}

/// A `200` that is stored.
fn kept(rules: Rules, fields: Fields<'_>) -> Stored {
    stored(rules, &[], 200, fields).unwrap_or_else(|why| panic!("{:?} {fields:?}: {why}", rules.kind()))
}

fn why_not(rules: Rules, request: Fields<'_>, status: u16, fields: Fields<'_>) -> Option<NotStored> {
    stored(rules, request, status, fields).err()
}

fn judged(rules: Rules, stored: &Stored, request: Fields<'_>, seconds: u64) -> Verdict {
    rules.judge(stored, &get(request), after(seconds))
}

/// For how many seconds a `200` is fresh when it arrives; below 0 where it is stale.
fn ttl(rules: Rules, fields: Fields<'_>) -> i64 {
    kept(rules, fields).ttl(*START)
}

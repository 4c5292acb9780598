use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress_rate_limit::{
    Limit, Rate,
    http::{AdvertiseLayer, InvalidName, Policy, Quotas, Remaining, Restriction, Restrictions, Subjects},
};
use http::{HeaderMap, Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;

use crate::{cost::bounded, head::Head, retry_after::LONGEST};

/// `RateLimit`, `RateLimit-Policy` and their ancestors: what is asked is bounded, and what a naive model reads of plain fields.
/// What is said beside what others have said can be read again, ours included.
///
/// The input: the fields of an answer, a line each, with `:status: 429`.
///
/// # Panics
/// Where that does not hold.
pub fn rate_limit_fields(data: &[u8]) {
    let [answer] = Head::read(data);
    let status = u16::try_from(answer.number("status", 200, 599, 200)).expect("below 600");
    let status = StatusCode::from_u16(status).expect("above 99");
    let asked: Vec<(u32, Duration)> =
        bounded(data, 4_096, 8, || Restrictions::of(status, &answer.fields).map(both).collect());
    assert!(asked.len() <= MOST);
    for (_, time) in &asked {
        assert!(*time > Duration::ZERO && *time <= LONGEST, "{time:?}");
    }
    let throttled = matches!(status.as_u16(), 429 | 503);
    if !throttled
        && !answer.fields.contains_key("age")
        && let Some(expected) = naive(&answer)
    {
        assert_eq!(asked, expected, "{answer:?}");
    }
    advertised(data, status, &answer.fields);
}

/// So many policies are read.
const MOST: usize = 16;

fn both(restriction: Restriction) -> (u32, Duration) {
    (restriction.units, restriction.time)
}

/// The members of plain lines as `"name";r=1;t=2`.
fn naive(answer: &Head) -> Option<Vec<(u32, Duration)>> {
    let mut otherwise = Vec::new();
    if answer.values("ratelimit-policy").count() > MOST {
        return None;
    }
    for line in answer.values("ratelimit-policy") {
        for (name, parameters) in plain(line)? {
            // The last one counts.
            let unit = parameters.iter().rev().find(|(key, _)| *key == "qu");
            if unit.is_some_and(|(_, value)| *value != "\"requests\"") {
                otherwise.push(name);
            }
        }
    }
    let mut asked = Vec::new();
    let mut lines = answer.values("ratelimit").peekable();
    lines.peek()?;
    let mut seen = 0;
    for line in lines {
        for (name, parameters) in plain(line)? {
            seen += 1;
            let number =
                |key: &str| parameters.iter().rev().find(|(known, _)| *known == key).map(|(_, value)| *value);
            let (Some(units), Some(time)) = (number("r"), number("t")) else { continue };
            let (units, time) = (units.parse::<u64>().ok()?, time.parse::<u64>().ok()?);
            if time > 0 && (units == 0 || !otherwise.contains(&name)) {
                let time = Duration::from_secs(time).min(LONGEST);
                asked.push((units.try_into().unwrap_or(u32::MAX), time));
            }
        }
    }
    // More are not believed.
    Some(if seen > MOST { Vec::new() } else { asked })
}

type Member<'a> = (&'a str, Vec<(&'a str, &'a str)>);

/// Nothing, where a line is not plain: then the model knows nothing.
fn plain(line: &[u8]) -> Option<Vec<Member<'_>>> {
    let line = std::str::from_utf8(line).ok()?;
    let is_name = |text: &str| text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_lowercase());
    let mut members = Vec::new();
    for member in line.split(", ") {
        let (name, rest) = member.strip_prefix('"')?.split_once('"')?;
        if !is_name(name) {
            return None;
        }
        let mut parameters = Vec::new();
        for parameter in rest.split(';').skip(1) {
            let (key, value) = parameter.split_once('=')?;
            let is_word = |word: &str| is_name(word) && !word.is_empty();
            let is_plain = match key {
                "qu" => {
                    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).is_some_and(is_word)
                }
                "r" | "t" => {
                    (1..=15).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_digit())
                }
                _ => return None,
            };
            if !is_plain {
                return None;
            }
            parameters.push((key, value));
        }
        if !(rest.is_empty() || rest.starts_with(';')) {
            return None;
        }
        members.push((name, parameters));
    }
    (members.len() <= MOST).then_some(members)
}

/// One limit, of which seven are left for nine seconds.
struct Ours;

impl Quotas for Ours {
    type Subject = ();

    fn policies(&self) -> Result<Vec<Policy>, InvalidName> {
        Ok(vec![Policy::try_new("ours", Limit::from(Rate::per_minute(10)))?])
    }

    fn quotas(&self, (): &(), tell: &mut dyn FnMut(Remaining)) {
        tell(Remaining { units: 7, window: Some(Duration::from_secs(9)) });
    }
}

impl<Req> Subjects<Req> for Ours {
    type Subject = ();

    fn subject(&self, _: &Req) {}
}

static OURS: LazyLock<AdvertiseLayer<Ours>> =
    LazyLock::new(|| AdvertiseLayer::try_new(Ours).expect("a printable name"));

/// Answers with what others have said.
struct Others(StatusCode, HeaderMap);

impl Service<()> for Others {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let mut response = Response::new(());
        (*response.status_mut(), *response.headers_mut()) = (self.0, self.1.clone());
        std::future::ready(Ok(response))
    }
}

fn advertised(data: &[u8], status: StatusCode, others: &HeaderMap) {
    let response = bounded(data, 16 << 10, 64, || {
        let mut advertised = OURS.layer(Others(status, others.clone()));
        let Poll::Ready(Ok(response)) =
            pin!(advertised.call(())).poll(&mut Context::from_waker(Waker::noop()))
        else {
            panic!("it is ready at once")
        };
        response
    });
    let policies: Vec<_> = response.headers().get_all("ratelimit-policy").iter().collect();
    assert_eq!(*policies.last().expect("ours is there"), "\"ours\";q=10;w=60");
    let said: Vec<_> = response.headers().get_all("ratelimit").iter().collect();
    let is_refused = status == StatusCode::TOO_MANY_REQUESTS && others.contains_key("ratelimit");
    if is_refused {
        return;
    }
    assert_eq!(*said.last().expect("ours is there"), "\"ours\";r=7;t=9");
    assert!(said.len() <= 2, "the others' are one line: {said:?}");
    // Elsewhere than in a cache, ours can be read, whatever stood there before.
    let mut read = response.headers().clone();
    read.remove("age");
    let mut asked = Restrictions::of(StatusCode::OK, &read);
    assert!(asked.any(|asked| both(asked) == (7, Duration::from_secs(9))), "{:?}", response.headers());
}

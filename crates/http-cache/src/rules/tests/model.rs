//! Age, lifetime and verdict against a model: whole numbers, and each rule as one sentence.

use proptest::prelude::*;

use super::{super::Forward, *};

#[derive(Debug, Clone)]
struct Case {
    is_shared: bool,
    status: u16,
    /// Seconds from the start.
    date: Option<i64>,
    expires: Option<i64>,
    modified: Option<i64>,
    age: Option<i64>,
    max_age: Option<i64>,
    s_maxage: Option<i64>,
    revalidate: Option<i64>,
    if_error: Option<i64>,
    words: Vec<&'static str>,
    asked: Asked,
    own_if_error: i64,
    delay: i64,
    resident: i64,
}

#[derive(Debug, Clone)]
struct Asked {
    max_age: Option<i64>,
    min_fresh: Option<i64>,
    max_stale: Option<Option<i64>>,
    if_error: Option<i64>,
    no_cache: bool,
}

fn seconds() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), 0..20_i64, 0..2_000_i64]
}

fn offset() -> impl Strategy<Value = i64> {
    prop_oneof![-20..20_i64, -20_000..20_000_i64]
}

fn maybe<T: std::fmt::Debug + Clone>(some: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    proptest::option::of(some)
}

fn asked() -> impl Strategy<Value = Asked> {
    let often_not = || maybe(seconds()).prop_flat_map(|some| prop_oneof![Just(None), Just(some)]);
    (often_not(), often_not(), maybe(maybe(seconds())), maybe(seconds()), prop::bool::weighted(0.1)).prop_map(
        |(max_age, min_fresh, max_stale, if_error, no_cache)| Asked {
            max_age,
            min_fresh,
            max_stale,
            if_error,
            no_cache,
        },
    )
}

prop_compose! {
    fn case()(
        (is_shared, status, words, asked) in (
            any::<bool>(),
            prop::sample::select(vec![200, 404, 302]),
            prop::sample::subsequence(vec!["no-cache", "must-revalidate", "proxy-revalidate", "public"], 0..=4)
                .prop_flat_map(|words| prop_oneof![Just(Vec::new()), Just(words)]),
            asked(),
        ),
        (date, expires, modified, age) in (maybe(offset()), maybe(offset()), maybe(offset()), maybe(seconds())),
        (max_age, s_maxage, revalidate, if_error) in
            (maybe(seconds()), maybe(seconds()), maybe(seconds()), maybe(seconds())),
        (own_if_error, delay, resident) in (prop_oneof![Just(0), seconds()], 0..5_i64, seconds()),
    ) -> Case {
        Case {
            is_shared, status, date, expires, modified, age, max_age, s_maxage, revalidate, if_error, words, asked,
            own_if_error, delay, resident,
        }
    }
}

/// In tenths of a second, since the usual guess is a tenth.
struct Model {
    age: i64,
    lifetime: i64,
}

impl Case {
    fn rules(&self) -> Rules {
        let rules = if self.is_shared { Rules::shared() } else { Rules::private() };
        rules.with_stale_if_error(secs(self.own_if_error.unsigned_abs()))
    }

    fn says(&self, word: &str) -> bool {
        self.words.contains(&word)
    }

    fn response(&self) -> response::Parts {
        let numbers = [
            ("max-age", self.max_age),
            ("s-maxage", self.s_maxage),
            ("stale-while-revalidate", self.revalidate),
            ("stale-if-error", self.if_error),
        ];
        let mut control: Vec<String> = self.words.iter().map(ToString::to_string).collect();
        control.extend(numbers.iter().filter_map(|(name, value)| Some(format!("{name}={}", (*value)?))));
        let mut fields = vec![("etag", "\"1\"".to_owned()), ("cache-control", control.join(", "))];
        let dates = [("date", self.date), ("expires", self.expires), ("last-modified", self.modified)];
        fields.extend(dates.iter().filter_map(|(name, offset)| Some((*name, date((*offset)?)))));
        fields.extend(self.age.map(|age| ("age", age.to_string())));
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        response(self.status, &fields)
    }

    fn request(&self) -> request::Parts {
        let numbers = [
            ("max-age", self.asked.max_age),
            ("min-fresh", self.asked.min_fresh),
            ("max-stale", self.asked.max_stale.flatten()),
            ("stale-if-error", self.asked.if_error),
        ];
        let mut control: Vec<String> =
            numbers.iter().filter_map(|(name, value)| Some(format!("{name}={}", (*value)?))).collect();
        control.extend((self.asked.max_stale == Some(None)).then(|| "max-stale".to_owned()));
        control.extend(self.asked.no_cache.then(|| "no-cache".to_owned()));
        get(&[("cache-control", &control.join(", "))])
    }

    fn model(&self) -> Model {
        let received = self.delay;
        let date = self.date.unwrap_or(received);
        let apparent_age = (received - date).max(0);
        let corrected_age_value = self.age.unwrap_or(0) + self.delay;
        let age = apparent_age.max(corrected_age_value) + self.resident;
        let may_guess = self.status != 302 || self.says("public");
        let lifetime = match (self.s_maxage, self.max_age, self.expires) {
            (Some(seconds), ..) if self.is_shared => seconds * 10,
            (_, Some(seconds), _) => seconds * 10,
            (_, _, Some(expires)) => (expires - date) * 10,
            _ if may_guess => self.modified.map_or(0, |modified| (date - modified).clamp(0, 864_000)),
            _ => 0,
        };
        Model { age: age * 10, lifetime: lifetime.max(0) }
    }

    fn forbids_stale(&self) -> bool {
        let in_shared = self.says("proxy-revalidate") || self.s_maxage.is_some();
        self.says("no-cache") || self.says("must-revalidate") || (self.is_shared && in_shared)
    }

    fn verdict(&self, Model { age, lifetime }: &Model) -> Verdict {
        let is_fresh = lifetime > age;
        let staleness = age - lifetime;
        let is_within = |most: Option<i64>, value: i64| most.is_none_or(|most| value <= most * 10);
        let is_asked_for =
            !self.says("no-cache") && !self.asked.no_cache && is_within(self.asked.max_age, *age);
        let lasts = self.asked.min_fresh.is_none_or(|least| lifetime - age >= least * 10);
        let may_be_stale = is_asked_for
            && !is_fresh
            && !self.forbids_stale()
            && self.asked.min_fresh.is_none()
            && (self.asked.max_age.is_none() || self.asked.max_stale.is_some())
            && is_within(self.asked.max_stale.flatten(), staleness);
        let revalidates = self.revalidate.is_some_and(|most| most > 0 && staleness <= most * 10);
        if is_fresh && is_asked_for && lasts {
            Verdict::Fresh
        } else if may_be_stale && revalidates {
            Verdict::WhileRevalidate
        } else if may_be_stale && self.asked.max_stale.is_some() {
            Verdict::Stale
        } else if is_fresh && !self.says("no-cache") {
            Verdict::Validate(Forward::Request)
        } else {
            Verdict::Validate(Forward::Stale)
        }
    }

    fn stale_if_error(&self, Model { age, lifetime }: &Model) -> bool {
        let most = self.asked.if_error.or(self.if_error).unwrap_or(self.own_if_error);
        let is_refused = self.forbids_stale() || (self.asked.no_cache && self.asked.if_error.is_none());
        !is_refused && most > 0 && age - lifetime <= most * 10
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn age_lifetime_and_verdict_are_those_of_the_model(case in case()) {
        let rules = case.rules();
        let received = after(case.delay.unsigned_abs());
        let now = received.later(secs(case.resident.unsigned_abs()));
        let stored = rules.storable(&get(&[]), &case.response(), *START, received);
        let is_explicit = case.max_age.is_some() || case.expires.is_some() || (case.is_shared && case.s_maxage.is_some());
        prop_assert_eq!(stored.is_ok(), case.status != 302 || is_explicit || case.says("public"));
        let Ok(stored) = stored else { return Ok(()) };

        let model = case.model();
        prop_assert_eq!(stored.age(now), secs(model.age.unsigned_abs() / 10));
        prop_assert_eq!(stored.ttl(now), -(model.age - model.lifetime).div_euclid(10));
        prop_assert_eq!(rules.judge(&stored, &case.request(), now), case.verdict(&model));
        prop_assert_eq!(rules.stale_if_error(&stored, &case.request(), now), case.stale_if_error(&model));
    }

    /// What is served without asking gets no better by waiting.
    #[test]
    fn nothing_becomes_fresh_by_waiting(case in case(), more in 0..5_000_u64) {
        let rules = case.rules();
        let Ok(stored) = rules.storable(&get(&[]), &case.response(), *START, *START) else { return Ok(()) };
        let served = |now| !matches!(rules.judge(&stored, &case.request(), now), Verdict::Validate(_));
        let now = after(case.resident.unsigned_abs());
        prop_assert!(served(now) || !served(now.later(secs(more))));
        prop_assert!(stored.ttl(now) >= stored.ttl(now.later(secs(more))));
    }

    /// A `304` is as good as the response that it stands for.
    #[test]
    fn a_304_leaves_what_the_whole_response_would(case in case()) {
        let case = Case { status: 200, ..case };
        let rules = case.rules();
        let old = kept(rules, &[("etag", "\"1\"")]);
        let told = case.response();
        let received = after(50);
        let now = received.later(secs(case.resident.unsigned_abs()));
        let whole = rules.storable(&get(&[]), &told, *START, received).unwrap();
        let super::super::Freshened::Kept(new) = rules.freshen(&old, &get(&[]), &told, *START, received) else {
            panic!("it has the same tag");
        };
        prop_assert_eq!(new.age(now), whole.age(now));
        prop_assert_eq!(new.ttl(now), whole.ttl(now));
        prop_assert_eq!(rules.judge(&new, &case.request(), now), rules.judge(&whole, &case.request(), now));
        prop_assert_eq!(new.answer_headers(now), whole.answer_headers(now));
    }
}

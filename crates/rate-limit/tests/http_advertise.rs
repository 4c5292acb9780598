//! What a server says of its limits, beside what is done with its refusals.
#![cfg(feature = "http")]

use std::{convert::Infallible, time::Duration};

use buttress_core::{Respond, problem};
use buttress_rate_limit::{
    Limit, Rate, RateLimitLayer, RateLimiter,
    http::{AdvertiseLayer, InvalidName, Policy, Quotas, Remaining, Subjects},
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

async fn served(request: Request<()>) -> Result<Response<String>, Infallible> {
    let mut response = Response::new(String::new());
    // An answer that passes another's on.
    if let Some(theirs) = request.headers().get("say") {
        response.headers_mut().insert("ratelimit", theirs.clone());
        response.headers_mut().insert("ratelimit-policy", HeaderValue::from_static(r#""theirs";q=9"#));
    }
    Ok(response)
}

async fn call<S>(service: &S, request: Request<()>) -> Response<String>
where
    S: Service<Request<()>, Response = Response<String>, Error = Infallible> + Clone,
{
    service.clone().oneshot(request).await.unwrap()
}

fn request() -> Request<()> {
    Request::new(())
}

fn lines<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|line| line.to_str().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn every_response_says_the_policy_and_what_is_left() {
    let limit = RateLimitLayer::new("search", Rate::per_minute(3));
    let service = ServiceBuilder::new()
        .layer(AdvertiseLayer::try_new(limit.limiter()).unwrap())
        .layer(Respond::with(limit, problem))
        .service(service_fn(served));
    for left in [2, 1, 0] {
        let response = call(&service, request()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(lines(response.headers(), "ratelimit-policy"), [r#""search";q=3;w=60"#]);
        let said = lines(response.headers(), "ratelimit");
        assert_eq!(said.len(), 1);
        assert!(said[0].starts_with(&format!(r#""search";r={left};t="#)), "{said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_one_time_in_all_its_fields() {
    let limit = RateLimitLayer::new("search", Limit::gcra(Rate::per_minute(6), 1).unwrap());
    let service = ServiceBuilder::new()
        .layer(AdvertiseLayer::try_new(limit.limiter()).unwrap())
        .layer(Respond::with(limit, problem))
        .service(service_fn(served));
    call(&service, request()).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let refused = call(&service, request()).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    assert_eq!(lines(refused.headers(), "ratelimit-policy"), [r#""search";q=1;w=10"#]);
    assert_eq!(lines(refused.headers(), "ratelimit"), [r#""search";r=0;t=9"#], "8.5 s, rounded up");
    assert_eq!(lines(refused.headers(), "retry-after"), ["9"]);
    // And it is true.
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(call(&service, request()).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn several_limits_are_several_policies() {
    let limit = RateLimitLayer::builder("search", Limit::gcra(Rate::per_second(1), 1).unwrap())
        .and(Rate::per_hour(2));
    let limit = limit.build();
    let service = ServiceBuilder::new()
        .layer(AdvertiseLayer::try_new(limit.limiter()).unwrap())
        .layer(Respond::with(limit, problem))
        .service(service_fn(served));
    call(&service, request()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    call(&service, request()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let refused = call(&service, request()).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(lines(refused.headers(), "ratelimit-policy"), [r#""search";q=1;w=1, "search-1h";q=2;w=3600"#]);
    // It was the hour that refused, and core's own field has one name for both.
    let retry_after = lines(refused.headers(), "retry-after")[0];
    let hour = format!(r#""search";r=1;t=1, "search-1h";r=0;t={retry_after}"#);
    assert_eq!(lines(refused.headers(), "ratelimit"), [hour]);
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_for_its_weight_stays_refused() {
    let limit = RateLimitLayer::builder("search", Limit::gcra(Rate::per_second(1), 5).unwrap())
        .weight(|request: &Request<()>| if request.headers().contains_key("heavy") { 5 } else { 1 })
        .build();
    let service = ServiceBuilder::new()
        .layer(AdvertiseLayer::try_new(limit.limiter()).unwrap())
        .layer(Respond::with(limit, problem))
        .service(service_fn(served));
    call(&service, request()).await;
    call(&service, request()).await;
    let mut heavy = request();
    heavy.headers_mut().insert("heavy", HeaderValue::from_static("1"));
    let refused = call(&service, heavy).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(lines(refused.headers(), "ratelimit"), [r#""search";r=0;t=2"#]);
    assert_eq!(lines(refused.headers(), "retry-after"), ["2"]);
    assert_eq!(lines(refused.headers(), "ratelimit-policy"), [r#""search";q=5;w=5"#]);
}

#[tokio::test(start_paused = true)]
async fn each_key_is_told_its_own() {
    let key = |request: &Request<()>| request.headers().get("client").cloned();
    let limit = RateLimitLayer::builder("clients", Limit::gcra(Rate::per_second(1), 3).unwrap())
        .keyed(key)
        .overall(Rate::per_second(1_000))
        .build();
    let service = ServiceBuilder::new()
        .layer(AdvertiseLayer::try_new(limit.limiter().with_key(key)).unwrap())
        .layer(Respond::with(limit, problem))
        .service(service_fn(served));
    let of = |client| {
        let mut request = request();
        request.headers_mut().insert("client", HeaderValue::from_static(client));
        call(&service, request)
    };
    let said = async |client| {
        let response = of(client).await;
        assert_eq!(lines(response.headers(), "ratelimit-policy"), [r#""clients";q=3;w=3"#]);
        lines(response.headers(), "ratelimit")[0].to_owned()
    };
    assert_eq!(said("a").await, r#""clients";r=2;t=1"#);
    assert_eq!(said("a").await, r#""clients";r=1;t=1"#);
    assert_eq!(said("b").await, r#""clients";r=2;t=1"#, "what all have together is no client's business");
}

#[tokio::test(start_paused = true)]
async fn what_others_say_of_their_limits_is_passed_on() {
    let ours = RateLimiter::new("ours", Rate::per_minute(3));
    let service = AdvertiseLayer::try_new(ours).unwrap().layer(service_fn(served));
    let mut request = request();
    request.headers_mut().insert("say", HeaderValue::from_static(r#""theirs";r=1, "ours";r=99"#));
    let response = call(&service, request).await;
    assert_eq!(lines(response.headers(), "ratelimit"), [r#""theirs";r=1"#, r#""ours";r=3;t=60"#]);
    assert_eq!(lines(response.headers(), "ratelimit-policy"), [r#""theirs";q=9"#, r#""ours";q=3;w=60"#]);
}

#[tokio::test(start_paused = true)]
async fn a_pair_is_said_together_and_nothing_is_taken() {
    let (a, b) = (RateLimiter::new("a", Rate::per_minute(3)), RateLimiter::new("b", Rate::per_hour(4)));
    let service = AdvertiseLayer::try_new((a, b)).unwrap().layer(service_fn(served));
    for _ in 0..9 {
        let response = call(&service, request()).await;
        assert_eq!(lines(response.headers(), "ratelimit"), [r#""a";r=3;t=60, "b";r=4;t=3600"#]);
        assert_eq!(lines(response.headers(), "ratelimit-policy"), [r#""a";q=3;w=60, "b";q=4;w=3600"#]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_is_passed_on() {
    let layer = AdvertiseLayer::try_new(RateLimiter::new("a", Rate::per_minute(3))).unwrap();
    let service = layer.layer(service_fn(async |_: Request<()>| Err::<Response<()>, _>("down")));
    assert_eq!(service.oneshot(request()).await.unwrap_err(), "down");
}

#[test]
fn a_name_that_cannot_be_said_is_refused_at_once() {
    let of = |name: &str| RateLimiter::new(name, Rate::per_second(1));
    assert!(matches!(AdvertiseLayer::try_new(of("größe")).unwrap_err(), InvalidName::Unprintable { .. }));
    assert!(matches!(AdvertiseLayer::try_new((of("a"), of("a"))).unwrap_err(), InvalidName::Twice { .. }));
}

/// One that is not ours, and whose units have no time.
#[derive(Debug, Clone)]
struct Other;

impl<Req> Subjects<Req> for Other {
    type Subject = ();
    fn subject(&self, _: &Req) {}
}

impl Quotas for Other {
    type Subject = ();

    fn policies(&self) -> Result<Vec<Policy>, InvalidName> {
        Ok(vec![Policy::try_new(r#"a"b"#, Rate::per_second(2).into())?])
    }

    fn quotas(&self, (): &(), tell: &mut dyn FnMut(Remaining)) {
        tell(Remaining { units: 7, window: None });
        tell(Remaining { units: 8, window: None });
    }
}

#[tokio::test]
async fn another_limiter_can_be_said_too() {
    let service = AdvertiseLayer::try_new(Other).unwrap().layer(service_fn(served));
    let response = call(&service, request()).await;
    assert_eq!(lines(response.headers(), "ratelimit"), [r#""a\"b";r=7"#], "only as many as it has policies");
}

#[tokio::test(start_paused = true)]
async fn a_restriction_is_told_as_a_limit_that_is_used_up() {
    let limit = RateLimitLayer::new("search", Rate::per_minute(3));
    let limiter = limit.limiter();
    let service = ServiceBuilder::new()
        .layer(AdvertiseLayer::try_new(limit.limiter()).unwrap())
        .layer(Respond::with(limit, problem))
        .service(service_fn(served));
    limiter.restrict(0, Duration::from_secs(5));
    let refused = call(&service, request()).await;
    assert_eq!(lines(refused.headers(), "ratelimit"), [r#""search";r=0;t=5"#]);
    assert_eq!(lines(refused.headers(), "retry-after"), ["5"]);
}

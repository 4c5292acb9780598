//! A client that does what the server says, and no more than that.
#![cfg(feature = "http")]

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_core::{Reason, Rejectable, Rejected, Respond, problem};
use buttress_http::HttpClient;
use buttress_rate_limit::{
    Limit, Rate, RateLimitLayer,
    http::{AdvertiseLayer, ObeyLayer, Obeys, Subjects},
};
use buttress_testkit::{Reply, Upstream, allocations};
use http::{Request, Response};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

/// A request is what its response shall be: a status, and fields.
type Script = Request<&'static [(&'static str, &'static str)]>;

async fn answer(request: Script) -> Result<Response<()>, Rejected> {
    let mut response = Response::builder().status(request.uri().path()[1..].parse::<u16>().unwrap());
    for (name, value) in *request.body() {
        response = response.header(*name, *value);
    }
    Ok(response.body(()).unwrap())
}

fn script(status: u16, fields: &'static [(&'static str, &'static str)]) -> Script {
    Request::builder().uri(format!("/{status}")).body(fields).unwrap()
}

async fn wait_of<S>(service: &S, request: Script) -> Option<Duration>
where
    S: Service<Script, Response = Response<()>, Error = Rejected> + Clone,
{
    let refused = service.clone().oneshot(request).await.err()?;
    assert_eq!((refused.reason(), refused.sent()), (Reason::RateLimited, false));
    Some(refused.retry_after().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_told_to_wait_waits() {
    for (status, fields) in [
        (429, &[("retry-after", "7")] as &[_]),
        (503, &[("retry-after", "7")]),
        (200, &[("ratelimit", r#""a";r=0;t=7"#)]),
        (200, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "7")]),
        (429, &[("retry-after", "Sun, 06 Nov 1994 08:49:44 GMT"), ("date", "Sun, 06 Nov 1994 08:49:37 GMT")]),
    ] {
        let limit = RateLimitLayer::new("api", Rate::per_second(100));
        let obey = ObeyLayer::new(limit.limiter());
        let service = ServiceBuilder::new().layer(limit).layer(obey).service(service_fn(answer));
        assert_eq!(wait_of(&service, script(status, fields)).await, None);
        assert_eq!(wait_of(&service, script(200, &[])).await, Some(7 * SECOND), "{fields:?}");
        tokio::time::sleep(7 * SECOND).await;
        assert_eq!(wait_of(&service, script(200, &[])).await, None, "{fields:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_takes_no_more_than_it_is_told_is_left() {
    let limit = RateLimitLayer::new("api", Rate::per_second(100));
    let obey = ObeyLayer::new(limit.limiter());
    let service = ServiceBuilder::new().layer(limit).layer(obey).service(service_fn(answer));
    assert_eq!(wait_of(&service, script(200, &[("ratelimit", r#""a";r=2;t=9, "b";r=3;t=60"#)])).await, None);
    assert_eq!(wait_of(&service, script(200, &[])).await, None);
    assert_eq!(wait_of(&service, script(200, &[])).await, None);
    assert_eq!(wait_of(&service, script(200, &[])).await, Some(9 * SECOND));
    tokio::time::sleep(9 * SECOND).await;
    assert_eq!(wait_of(&service, script(200, &[])).await, None);
    assert_eq!(wait_of(&service, script(200, &[])).await, Some(51 * SECOND), "the third within a minute");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_asks_nothing_changes_nothing() {
    let limit = RateLimitLayer::new("api", Rate::per_second(100));
    let obey = ObeyLayer::new(limit.limiter());
    let service = ServiceBuilder::new().layer(limit).layer(obey).service(service_fn(answer));
    for (status, fields) in [
        (200, &[] as &[_]),
        (429, &[]),
        (503, &[]),
        (200, &[("retry-after", "7")]),
        (429, &[("retry-after", "-7")]),
        (200, &[("ratelimit", r#""a";r=0;t=7;"#)]),
    ] {
        assert_eq!(wait_of(&service, script(status, fields)).await, None);
        assert_eq!(wait_of(&service, script(200, &[])).await, None, "{fields:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_server_closes_a_client_for_longer_than_it_is_trusted() {
    for (layer, longest) in [
        (ObeyLayer::new as fn(_) -> _, 3_600 * SECOND),
        (|limiter| ObeyLayer::new(limiter).longest(60 * SECOND), 60 * SECOND),
    ] {
        let limit = RateLimitLayer::new("api", Rate::per_second(100));
        let obey = layer(limit.limiter());
        let service = ServiceBuilder::new().layer(limit).layer(obey).service(service_fn(answer));
        wait_of(&service, script(429, &[("retry-after", "99999999999999999999")])).await;
        assert_eq!(wait_of(&service, script(200, &[])).await, Some(longest));
    }
    let limit = RateLimitLayer::new("api", Rate::per_second(100));
    let obey = ObeyLayer::new(limit.limiter()).longest(Duration::ZERO);
    let service = ServiceBuilder::new().layer(limit).layer(obey).service(service_fn(answer));
    wait_of(&service, script(429, &[("retry-after", "9")])).await;
    assert_eq!(wait_of(&service, script(200, &[])).await, None);
}

#[tokio::test(start_paused = true)]
async fn one_key_obeys_for_itself() {
    let key = |request: &Script| request.headers().get("host").cloned();
    let limit = RateLimitLayer::builder("hosts", Rate::per_second(100)).keyed(key).build();
    let obey = ObeyLayer::new(limit.limiter().with_key(key));
    let service = ServiceBuilder::new().layer(limit).layer(obey).service(service_fn(answer));
    let to = |host: &'static str, mut script: Script| {
        script.headers_mut().insert("host", http::HeaderValue::from_static(host));
        script
    };
    assert_eq!(wait_of(&service, to("a", script(429, &[("retry-after", "7")]))).await, None);
    assert_eq!(wait_of(&service, to("a", script(200, &[]))).await, Some(7 * SECOND));
    assert_eq!(wait_of(&service, to("b", script(200, &[]))).await, None);
}

/// A server and a client of ours: the server gives 100 a second, and the client, whose own limit is a little below that,
/// is not slowed down by being told what is left.
#[tokio::test(start_paused = true)]
async fn a_client_that_obeys_keeps_its_rate() {
    for server in [Limit::gcra(Rate::per_second(100), 10).unwrap(), Rate::per_second(100).into()] {
        let limit = RateLimitLayer::new("server", server);
        let server = ServiceBuilder::new()
            .layer(AdvertiseLayer::try_new(limit.limiter()).unwrap())
            .layer(Respond::with(limit, problem))
            .service(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new()))));
        let rate = Limit::gcra(Rate::per_second(90), 1).unwrap();
        let limit = RateLimitLayer::builder("client", rate).wait(SECOND).build();
        let client = ServiceBuilder::new()
            .layer(limit.clone())
            .layer(ObeyLayer::new(limit.limiter()))
            .map_err(|never: Infallible| -> Rejected { match never {} })
            .service(server);
        let start = Instant::now();
        let mut served = 0;
        while start.elapsed() < 10 * SECOND {
            let response = client.clone().oneshot(Request::new(())).await.unwrap();
            assert_eq!(response.status(), 200);
            served += 1;
        }
        assert!(served >= 890, "{served}");
    }
}

/// Notes what it is told.
#[derive(Debug, Clone, Default)]
struct Told(Arc<Mutex<Vec<(u32, Duration)>>>);

impl<Req> Subjects<Req> for Told {
    type Subject = ();
    fn subject(&self, _: &Req) {}
}

impl Obeys for Told {
    type Subject = ();
    fn restrict(&self, (): &(), units: u32, time: Duration) {
        self.0.lock().unwrap().push((units, time));
    }
}

#[tokio::test]
async fn each_answer_tells_all_that_it_asks() {
    let told = Told::default();
    let service = ObeyLayer::new(told.clone()).layer(service_fn(answer));
    let field = &[("ratelimit", r#""b";r=5;t=2, "a";r=3;t=1"#)];
    service.clone().oneshot(script(200, field)).await.unwrap();
    service.clone().oneshot(script(200, &[])).await.unwrap();
    let closed = &[("ratelimit", r#""b";r=0;t=2, "a";r=0;t=5, "c";r=1;t=9"#)];
    service.oneshot(script(200, closed)).await.unwrap();
    assert_eq!(
        *told.0.lock().unwrap(),
        [(5, 2 * SECOND), (3, SECOND), (0, 2 * SECOND), (0, 5 * SECOND), (1, 9 * SECOND)]
    );
}

#[tokio::test]
async fn an_error_a_dropped_call_and_distrust_tell_nothing() {
    let told = Told::default();
    let down =
        ObeyLayer::new(told.clone()).layer(service_fn(async |_: Request<()>| Err::<Response<()>, _>("down")));
    assert_eq!(down.oneshot(Request::new(())).await.unwrap_err(), "down");
    let distrustful = ObeyLayer::new(told.clone()).longest(Duration::ZERO).layer(service_fn(answer));
    distrustful.oneshot(script(429, &[("retry-after", "7")])).await.unwrap();
    let service = ObeyLayer::new(told.clone()).layer(service_fn(answer));
    drop(service.oneshot(script(429, &[("retry-after", "7")])));
    assert_eq!(*told.0.lock().unwrap(), []);
}

#[tokio::test]
async fn nothing_is_allocated_whether_or_not_the_server_asks() {
    #[derive(Debug, Clone)]
    struct Ignores;
    impl<Req> Subjects<Req> for Ignores {
        type Subject = ();
        fn subject(&self, _: &Req) {}
    }
    impl Obeys for Ignores {
        type Subject = ();
        fn restrict(&self, (): &(), _: u32, _: Duration) {}
    }
    for fields in [&[] as &[_], &[("ratelimit", r#""a";r=1;t=2, "b";r=0;t=9"#), ("date", "today")]] {
        let mut answers: Vec<_> = Vec::new();
        for _ in 0..100 {
            answers.push(answer(script(200, fields)).await.unwrap());
        }
        let mut service = ObeyLayer::new(Ignores)
            .layer(service_fn(move |()| std::future::ready(Ok::<_, Rejected>(answers.pop().unwrap()))));
        let mut responses = Vec::with_capacity(100);
        let counted = allocations(|| {
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            for _ in 0..100 {
                match std::pin::pin!(service.call(())).poll(&mut cx) {
                    std::task::Poll::Ready(response) => responses.push(response),
                    std::task::Poll::Pending => panic!("the answer is there"),
                }
            }
        });
        assert_eq!(counted.count, 0, "{fields:?}");
        assert_eq!(responses.len(), 100);
    }
}

/// Over a socket, through a client of ours: fields as a real server sends them.
#[tokio::test]
async fn a_real_servers_answer_is_obeyed() {
    let upstream = Upstream::start().await;
    upstream.on("/", [Reply::status(429).header("retry-after", "30"), Reply::ok("late")]);
    let limit = RateLimitLayer::new("api", Rate::per_second(100));
    let service = ServiceBuilder::new()
        .layer(limit.clone())
        .layer(ObeyLayer::new(limit.limiter()))
        .service(HttpClient::builder().build().unwrap());
    let get = || {
        let request = Request::get(upstream.url());
        service.clone().oneshot(request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap())
    };
    assert_eq!(get().await.unwrap().status(), 429);
    let refused = get().await.unwrap_err();
    let wait = refused.rejected().unwrap().retry_after().unwrap();
    assert!(wait > 29 * SECOND && wait <= 30 * SECOND, "{wait:?}");
    assert_eq!(upstream.requests().len(), 1, "the second was never sent");
}

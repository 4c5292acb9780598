//! What the handles tell, and what a balancer says of its decisions.

use std::{convert::Infallible, future::pending, io, net::SocketAddr, time::Duration};

use buttress_balance::{Balance, Dns, Ejection, Endpoint};
use buttress_core::{Backoff, BoxError, Deadline, Observe, Setting, SettingValue};
use buttress_testkit::observed::{said, settings, watched};
use futures_core::Stream;
use tower::{Service, ServiceExt, service_fn, util::BoxCloneSyncService};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

type Boxed = BoxCloneSyncService<(), (), BoxError>;

fn failing() -> Endpoint<Boxed> {
    Endpoint::new(BoxCloneSyncService::new(service_fn(async |()| Err(io::Error::other("broken").into()))))
}

#[test]
fn settings_are_those_in_force() {
    let balance = Balance::builder("settings")
        .ejection(Ejection::try_new(3, 7 * SECOND, 0.25).unwrap())
        .slow_start(Duration::ZERO)
        .zone("secret")
        .sticky(|&()| Some(1))
        .bounded(1.5)
        .unwrap()
        .build([(1, failing())]);
    assert_eq!(
        settings(&balance.balancer()),
        [
            Setting::new("ejection_consecutive_failures", SettingValue::Count(3)),
            Setting::new("ejection_time", SettingValue::Duration(7 * SECOND)),
            Setting::new("ejection_max_share", SettingValue::Ratio(0.25)),
            Setting::new("decay", SettingValue::Duration(10 * SECOND)),
            Setting::new("slow_start", SettingValue::Off),
            Setting::new("first_wait", SettingValue::Duration(5 * SECOND)),
            Setting::new("max_endpoints", SettingValue::Count(1_000)),
            Setting::new("zone", SettingValue::Word("custom")),
            Setting::new("bounded", SettingValue::Ratio(1.5)),
        ]
    );
    let off = Balance::builder("off").ejection(Ejection::off()).build([(1, failing())]);
    assert_eq!(settings(&off.balancer())[1], Setting::new("ejection_time", SettingValue::Off));
}

#[tokio::test(start_paused = true)]
async fn the_call_that_has_an_endpoint_ejected_says_so() {
    let ejection = Ejection::try_new(2, 7 * SECOND, 1.0).unwrap();
    let endpoints = ["a-key", "b-key", "c-key"].map(|key| (key, failing()));
    let balance = Balance::builder("ejected").ejection(ejection).build(endpoints);
    let (_, none) = watched(balance.clone().oneshot(())).await;
    assert_eq!(none, []);
    let mut why = Vec::new();
    for _ in 0..8 {
        why.extend(watched(balance.clone().oneshot(())).await.1);
    }
    let [(first, one), (second, other), panicked] = &why[..] else { panic!("{why:?}") };
    assert_eq!((*first, *second), ("ejected", "ejected"));
    for why in [one, other] {
        // For how long is a matter of chance, too.
        assert!(why.starts_with("an endpoint, for "), "{why}");
        assert!(why.ends_with("s: 2 consecutive failures"), "{why}");
    }
    assert_eq!(*panicked, said("panicked", "1 of 3 endpoints are in the rotation, so all are used"));
}

/// Never ready.
#[derive(Clone)]
struct Busy;

impl Service<()> for Busy {
    type Response = ();
    type Error = BoxError;
    type Future = std::future::Pending<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), BoxError>> {
        std::task::Poll::Pending
    }

    fn call(&mut self, (): ()) -> Self::Future {
        pending()
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_an_endpoint_is_told_why() {
    let balance = Balance::builder("busy").build([(1, Endpoint::new(Busy)), (2, Endpoint::new(Busy))]);
    let (late, why) =
        watched(Deadline::after(SECOND).scope(async { balance.clone().oneshot(()).await })).await;
    assert!(late.is_err());
    let gave_up = "the caller's deadline passed before any of 2 endpoints was ready";
    assert_eq!(why, [said("queued", "the endpoint chosen of 2 is not ready"), said("gave_up", gave_up)]);

    let empty = Balance::builder("empty").build([] as [(u32, Endpoint<Busy>); 0]);
    assert_eq!(watched(empty.oneshot(())).await.1, [said("refused", "there is no endpoint")]);
}

/// Finds nothing, and never ends.
struct Nothing;

impl Stream for Nothing {
    type Item = Result<buttress_balance::Change<u32, Busy>, Infallible>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_discovery_that_finds_nothing_in_time_is_the_reason() {
    let balance = Balance::builder("nothing").first_wait(10 * MS).discover(Nothing);
    let weak = balance.balancer().downgrade();
    assert!(weak.upgrade().is_some());
    let (_, why) = watched(balance.oneshot(())).await;
    let expected =
        [said("queued", "no endpoint was found yet"), said("refused", "no endpoint was found within 10.0ms")];
    assert_eq!(why, expected);
    tokio::time::sleep(MS).await;
    assert!(weak.upgrade().is_none(), "neither the handle nor the discovery keeps it");
}

#[test]
fn a_names_resolution_tells_its_settings_and_ends_with_its_endpoints() {
    let retry = Backoff::exponential(MS, SECOND).unwrap();
    let endpoints = Dns::new("localhost", 80)
        .server("127.0.0.1:53".parse().unwrap())
        .ttl_between(2 * SECOND, 9 * SECOND)
        .backoff(retry)
        .endpoints(|addr: SocketAddr| Endpoint::new(addr))
        .unwrap();
    let weak = endpoints.resolution().downgrade();
    assert_eq!(
        settings(&*weak.upgrade().unwrap()),
        [
            Setting::new("ttl_floor", SettingValue::Duration(2 * SECOND)),
            Setting::new("ttl_ceiling", SettingValue::Duration(9 * SECOND)),
            Setting::new("backoff_first", SettingValue::Duration(MS)),
            Setting::new("backoff_cap", SettingValue::Duration(SECOND)),
            Setting::new("backoff_factor", SettingValue::Ratio(2.0)),
        ]
    );
    drop(endpoints);
    assert!(weak.upgrade().is_none());
}

//! The probes pass honest layers and convict wrong ones.

mod wrong;

use std::future::Future;
use std::time::Duration;

use buttress_testkit::probe::{
    Backend, PanicAt, Probed, calls_only_ready, cancel_everywhere, clones_share, drop_after, ready,
    releases_readiness, survives_panic,
};
use tower::layer::util::Identity;
use tower::limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer};
use tower::load_shed::LoadShedLayer;
use tower::timeout::TimeoutLayer;
use tower::{Layer, Service};

/// What the probe says when it convicts; panics when it does not.
async fn verdict(probe: impl Future<Output = ()> + 'static) -> String {
    let panic = tokio::task::LocalSet::new()
        .run_until(async { tokio::task::spawn_local(probe).await })
        .await
        .expect_err("the probe convicts the layer")
        .into_panic();
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => panic.downcast_ref::<&str>().map(|message| (*message).to_owned()).unwrap(),
    }
}

/// Runs every probe of a layer that is honest in all respects.
macro_rules! honest {
    ($($name:ident: $layer:expr;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            calls_only_ready($layer).await;
            releases_readiness($layer).await;
            cancel_everywhere($layer, |_| {}, |_| {}).await;
            survives_panic($layer).await;
        }
    )*};
}

honest! {
    identity_is_honest: Identity::new();
    a_limit_of_one_is_honest: ConcurrencyLimitLayer::new(1);
    a_limit_of_three_is_honest: ConcurrencyLimitLayer::new(3);
    a_shared_limit_is_honest: GlobalConcurrencyLimitLayer::new(1);
    a_timeout_is_honest: TimeoutLayer::new(Duration::from_secs(1));
    a_mended_wrong_limit_is_honest: wrong::Limit::mended(2);
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_rejects_is_honest() {
    calls_only_ready(LoadShedLayer::new()).await;
    releases_readiness(LoadShedLayer::new()).await;
    survives_panic(LoadShedLayer::new()).await;
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_skips_readiness_is_convicted() {
    let verdict = verdict(calls_only_ready(wrong::SkipsReadiness)).await;
    assert_eq!(verdict.lines().next().unwrap(), UNREADY_IN_A_ROW);
}

const UNREADY_IN_A_ROW: &str = "assertion `left == right` failed: calls_only_ready: a service was called that \
     had not been polled ready (calls one after another)";

#[tokio::test(start_paused = true)]
async fn a_layer_that_calls_a_clone_is_convicted() {
    let verdict = verdict(calls_only_ready(wrong::CallsAClone)).await;
    assert!(verdict.contains("calls one after another"), "{verdict}");
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_believes_it_is_ready_is_convicted() {
    let verdict = verdict(calls_only_ready(wrong::ClonesReadiness)).await;
    assert!(verdict.contains("a clone of a ready service in its place"), "{verdict}");
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_never_calls_is_convicted() {
    let verdict = verdict(calls_only_ready(wrong::NeverCalls)).await;
    assert!(verdict.contains("proves nothing"), "{verdict}");
}

#[tokio::test(start_paused = true)]
async fn readiness_left_behind_is_convicted() {
    let verdict = verdict(releases_readiness(wrong::KeepsReadiness)).await;
    assert!(verdict.contains("1 reservations are left after a ready service was dropped"), "{verdict}");
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_readiness_leaks_is_convicted() {
    let verdict = verdict(releases_readiness(wrong::Limit::leaks_on_readiness(2))).await;
    assert!(verdict.contains("waiting for readiness: it hangs"), "{verdict}");
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_a_dropped_call_leaks_is_convicted() {
    let leaky = || wrong::Limit::leaks_on_drop(2);
    releases_readiness(leaky()).await;
    let verdict = verdict(cancel_everywhere(leaky(), |_| {}, |_| {})).await;
    assert!(verdict.contains("cancel_everywhere: the call that follows one dropped"), "{verdict}");
}

#[tokio::test(start_paused = true)]
async fn a_permit_given_to_a_waiter_that_left_is_convicted_by_the_check() {
    let limit = wrong::Limit::leaks_on_drop(1_000_000);
    let permits = limit.permits();
    let check = move |_: &Backend| assert_eq!(permits.available(), 1_000_000, "permits are missing");
    let verdict = verdict(cancel_everywhere(limit, |_| {}, check)).await;
    assert!(verdict.contains("permits are missing"), "{verdict}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_outlives_its_caller_is_convicted() {
    let verdict = verdict(cancel_everywhere(wrong::Spawns, |_| {}, |_| {})).await;
    assert!(verdict.contains("the backend's call goes on although its caller left"), "{verdict}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_that_becomes_an_error_is_convicted() {
    let verdict = verdict(survives_panic(wrong::Spawns)).await;
    assert!(verdict.contains("instead of the panic (Future)"), "{verdict}");
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_a_panic_poisons_is_convicted() {
    let verdict = verdict(survives_panic(wrong::Poisons::default())).await;
    assert!(verdict.contains("PoisonError"), "{verdict}");
}

#[tokio::test(start_paused = true)]
async fn sharing_is_left_to_the_check() {
    let uses_it_up = async |mut first: wrong::Limited, mut second: wrong::Limited, backend: Backend| {
        ready(&mut first).await.unwrap();
        backend.hold();
        let _held = first.call(1);
        assert!(drop_after(1, false, ready(&mut second)).await.is_none(), "the limit is not shared");
    };
    clones_share(|| wrong::Limit::mended(1), uses_it_up).await;
    let verdict = verdict(clones_share(|| wrong::PerService, uses_it_up)).await;
    assert!(verdict.contains("the limit is not shared"), "{verdict}");
}

#[tokio::test(start_paused = true)]
async fn the_script_leads_through_other_await_points() {
    let drops = std::cell::Cell::new(0);
    let script = |backend: &Backend| {
        backend.fail_next(1);
    };
    let count = |_: &Backend| drops.set(drops.get() + 1);
    cancel_everywhere(Identity::new(), |_| {}, count).await;
    let plain = drops.replace(0);
    cancel_everywhere(wrong::Retries, script, count).await;
    assert!(drops.get() > plain + 8, "{} drops, {plain} without the retry", drops.get());
}

#[tokio::test(start_paused = true)]
async fn a_woken_waiter_can_be_dropped_before_it_learns_of_it() {
    let semaphore = tokio::sync::Semaphore::new(0);
    let wait = drop_after(1, true, semaphore.acquire());
    let give = async { semaphore.add_permits(1) };
    let (dropped, ()) = tokio::join!(wait, give);
    assert!(dropped.is_none());
    assert_eq!(semaphore.available_permits(), 1);
    assert!(drop_after(1, true, semaphore.acquire()).await.is_some());
    assert!(drop_after(0, false, std::future::ready(())).await.is_none());
}

#[tokio::test]
async fn the_backend_counts_what_was_done_to_it() {
    let backend = Backend::new();
    let mut service: Probed = backend.service();
    ready(&mut service).await.unwrap();
    ready(&mut service).await.unwrap();
    assert_eq!(backend.reservations(), 1);
    let mut clone = service.clone();
    assert_eq!(service.call(5).await.unwrap(), 5);
    assert_eq!((backend.reservations(), backend.calls(), backend.completed()), (0, 1, 1));
    let unready = clone.call(6);
    assert_eq!((backend.unready_calls(), backend.in_flight()), (1, 1));
    drop(unready);
    assert_eq!((backend.in_flight(), backend.abandoned()), (0, 1));
    backend.fail_next(1);
    ready(&mut clone).await.unwrap();
    assert_eq!(clone.call(7).await.unwrap_err().to_string(), "scripted failure");
    backend.panic_next(PanicAt::Future);
    ready(&mut clone).await.unwrap();
    tokio::spawn(clone.call(8)).await.unwrap_err().into_panic();
    assert_eq!((backend.in_flight(), backend.completed(), backend.abandoned()), (0, 2, 2));
}

#[tokio::test]
async fn the_error_type_is_free() {
    #[derive(Debug, PartialEq)]
    struct Own(String);
    impl From<buttress_testkit::probe::ScriptedFailure> for Own {
        fn from(failure: buttress_testkit::probe::ScriptedFailure) -> Self {
            Self(failure.to_string())
        }
    }
    let backend = Backend::new();
    backend.fail_next(1);
    let mut service = ConcurrencyLimitLayer::new(1).layer(backend.service::<Own>());
    ready(&mut service).await.unwrap();
    assert_eq!(service.call(1).await, Err(Own("scripted failure".into())));
}

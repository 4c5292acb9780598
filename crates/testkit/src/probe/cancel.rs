//! Calls that are dropped before their end.

use std::fmt::Debug;

use tower_layer::Layer;
use tower_service::Service;

use super::drive::{assert_works, drop_after, in_time, ready};
use super::{Backend, Probed};

/// Pending polls of the backend, so that there are await points to be dropped at.
const READY_AFTER: usize = 2;
const REPLY_AFTER: usize = 3;

/// Drops a call at each of its await points in turn, from before the first poll to the last one, and at
/// each both right after the poll and once it was woken again. Whenever it was dropped, the backend has no
/// call in flight any more, and the next call on the same service works.
///
/// `script` is run before each call, to lead the layer through its other await points: with
/// `|backend| { backend.fail_next(2); }` a retry sleeps between attempts. It need not slow the backend down,
/// which takes several polls for readiness and reply anyway. `check` is run after each drop, and again after
/// the call that followed, for what the probe cannot see: permits, gauges, probes of a half-open breaker.
///
/// # Panics
/// When the rule is broken, or when a call hangs.
pub async fn cancel_everywhere<L>(layer: L, script: impl Fn(&Backend), mut check: impl FnMut(&Backend))
where
    L: Layer<Probed>,
    L::Service: Service<u32, Response = u32>,
    <L::Service as Service<u32>>::Error: Debug,
{
    let backend = Backend::new();
    let mut service = layer.layer(backend.service());
    let prepare = || {
        backend.ready_after(READY_AFTER).reply_after(REPLY_AFTER);
        script(&backend);
    };

    prepare();
    in_time(ready(&mut service), "cancel_everywhere: waiting for readiness")
        .await
        .expect("cancel_everywhere: the service is ready");
    drop(service.call(1));
    after_drop(&backend, &mut service, &mut check, "before its first poll").await;

    for woken in [false, true] {
        for polls in 1.. {
            prepare();
            let call = async {
                ready(&mut service).await?;
                service.call(1).await
            };
            let when = format!("after {polls} polls{}", if woken { ", when it was woken" } else { "" });
            let ended = in_time(drop_after(polls, woken, call), "cancel_everywhere: a call").await;
            after_drop(&backend, &mut service, &mut check, &when).await;
            if ended.is_some() {
                assert!(
                    polls > 1,
                    "cancel_everywhere proves nothing: the call was complete at its first poll"
                );
                break;
            }
        }
    }
}

async fn after_drop<S>(backend: &Backend, service: &mut S, check: &mut impl FnMut(&Backend), when: &str)
where
    S: Service<u32, Response = u32>,
    S::Error: Debug,
{
    let left = backend.in_flight();
    assert_eq!(left, 0, "cancel_everywhere: the backend's call goes on although its caller left {when}");
    check(backend);
    backend.calm();
    assert_works(service, &format!("cancel_everywhere: the call that follows one dropped {when}")).await;
    check(backend);
}

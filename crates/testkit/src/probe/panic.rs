//! Panics of the service inside.

use std::fmt::Debug;

use tower_layer::Layer;
use tower_service::Service;

use super::drive::{assert_works, call, catch, in_time};
use super::probed::SCRIPTED_PANIC;
use super::{Backend, PanicAt, Probed};

/// A panic of the service inside, in `call` or in a poll of its future, reaches the caller as it is; after
/// it nothing is in flight, and the next call works, on the same service and on another one of the layer.
///
/// # Panics
/// When the rule is broken, or when a call hangs.
pub async fn survives_panic<L>(layer: L)
where
    L: Layer<Probed>,
    L::Service: Service<u32, Response = u32>,
    <L::Service as Service<u32>>::Error: Debug,
{
    let backend = Backend::new();
    let mut service = layer.layer(backend.service());
    for at in [PanicAt::Call, PanicAt::Future] {
        backend.panic_next(at).reply_after(1);
        match in_time(catch(call(&mut service, 1)), "survives_panic: a call that panics").await {
            Ok(result) => panic!("survives_panic: the caller got {result:?} instead of the panic ({at:?})"),
            Err(payload) => {
                let message = payload.downcast_ref::<&str>().copied();
                let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
                assert_eq!(
                    message,
                    Some(SCRIPTED_PANIC),
                    "survives_panic: the caller got another panic ({at:?})"
                );
            }
        }
        backend.calm();
        assert_eq!(backend.in_flight(), 0, "survives_panic: a call is left in flight ({at:?})");
        assert_works(&mut service, &format!("survives_panic: the call after a panic ({at:?})")).await;
        let mut other = layer.layer(backend.service());
        assert_works(&mut other, &format!("survives_panic: another service after a panic ({at:?})")).await;
    }
}

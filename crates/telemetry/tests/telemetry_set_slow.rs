//! Which calls are slow can be set while they go on.

use std::time::Duration;

use buttress_core::{Observe, Rejected, SettingValue};
use buttress_telemetry::{RegisterError, Registry, Slow, TelemetryLayer};
use buttress_testkit::observed::settings;
use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

fn told(layer: &TelemetryLayer) -> (&'static str, SettingValue) {
    let first = settings(&*layer.downgrade().upgrade().unwrap())[0];
    (first.name, first.value)
}

#[tokio::test(start_paused = true)]
async fn what_is_slow_is_what_was_set_when_a_call_ends() {
    let registry = Registry::new();
    let layer = TelemetryLayer::new("set", &registry).unwrap();
    let service = layer.layer(service_fn(async |took: Duration| {
        sleep(took).await;
        Ok::<_, Rejected>(())
    }));
    let call = async |took| service.clone().oneshot(took).await.unwrap();
    call(500 * MS).await;
    assert_eq!(registry.slow_calls_total(), 0);
    layer.set_slow(Slow::After(100 * MS)).unwrap();
    assert_eq!(told(&layer), ("slow_after", SettingValue::Duration(100 * MS)));
    call(500 * MS).await;
    assert_eq!(registry.slow_calls_total(), 1);
    // One that is on its way.
    let during = async {
        sleep(10 * MS).await;
        layer.set_slow(Slow::After(Duration::MAX)).unwrap();
    };
    tokio::join!(call(500 * MS), during);
    assert_eq!(registry.slow_calls_total(), 1);

    layer.set_slow(Slow::OverP99(3.0)).unwrap();
    assert_eq!(told(&layer), ("slow_over_p99", SettingValue::Ratio(3.0)));
    for _ in 0..100 {
        call(10 * MS).await;
    }
    let _ = registry.snapshot();
    assert_eq!(registry.slow_calls_total(), 1, "nothing was known before");
    call(20 * MS).await;
    call(40 * MS).await;
    assert_eq!(registry.slow_calls_total(), 2);
    // What is known is known at once the next time.
    layer.set_slow(Slow::After(MS)).unwrap();
    layer.set_slow(Slow::OverP99(3.0)).unwrap();
    call(10 * MS).await;
    call(200 * MS).await;
    assert_eq!(registry.slow_calls_total(), 3);

    for factor in [0.9, -1.0, f64::NAN, f64::INFINITY] {
        let refused = layer.set_slow(Slow::OverP99(factor));
        assert!(matches!(refused, Err(RegisterError::InvalidFactor { name: "set", .. })), "{refused:?}");
    }
    assert_eq!(told(&layer), ("slow_over_p99", SettingValue::Ratio(3.0)));
}

#[tokio::test(start_paused = true)]
async fn the_next_layer_of_that_name_begins_with_its_own() {
    let registry = Registry::new();
    for _ in 0..3 {
        let layer = TelemetryLayer::new("next", &registry).unwrap();
        assert_eq!(told(&layer), ("slow_after", SettingValue::Duration(1000 * MS)));
        let service = layer.layer(service_fn(async |()| {
            sleep(900 * MS).await;
            Ok::<_, Rejected>(())
        }));
        service.oneshot(()).await.unwrap();
        assert_eq!(registry.slow_calls_total(), 0);
        layer.set_slow(Slow::After(MS)).unwrap();
    }
}

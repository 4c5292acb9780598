//! The handles that services give: to their own limits, however they came by them.

use std::io;

use buttress_rate_limit::{Rate, RateLimitLayer};
use tower::{Layer, ServiceExt, service_fn};

fn remaining(quotas: &[buttress_rate_limit::Quota]) -> u32 {
    quotas.first().expect("it has a limit").remaining
}

#[tokio::test(start_paused = true)]
async fn a_service_with_limits_of_its_own_gives_a_handle_to_them() {
    let layer = RateLimitLayer::builder("apart", Rate::per_minute(10)).per_service();
    let inner = service_fn(async |()| Ok::<_, io::Error>(()));
    let (first, second) = (layer.layer(inner), layer.layer(inner));
    first.clone().oneshot(()).await.unwrap();
    assert_eq!((remaining(&first.limiter().quotas()), remaining(&second.limiter().quotas())), (9, 10));
    second.limiter().restrict(0, std::time::Duration::from_secs(9));
    assert!(first.oneshot(()).await.is_ok());
    assert!(second.oneshot(()).await.is_err(), "the handle and the service share the limits");
}

#[tokio::test(start_paused = true)]
async fn a_service_with_a_limit_for_each_key_gives_the_layers_handle() {
    let layer = RateLimitLayer::builder("keys", Rate::per_minute(10)).keyed(|key: &u32| *key).build();
    let service = layer.layer(service_fn(async |_: u32| Ok::<_, io::Error>(())));
    service.clone().oneshot(7).await.unwrap();
    for limiter in [service.limiter(), layer.limiter()] {
        assert_eq!((remaining(&limiter.quotas(&7_u32)), remaining(&limiter.quotas(&8_u32))), (9, 10));
    }
}

//! State that clones and sibling services share.

use tower_layer::Layer;
use tower_service::Service;

use super::{Backend, Probed};

/// Runs `check` on two services that must share one state: on a service and its clone, then on two services
/// that one layer made. `make_layer` gives a fresh layer to each round.
///
/// The check says what sharing means: a breaker that failures through the first have opened rejects the
/// second, a limit that the first has used up holds for the second.
///
/// ```
/// # use buttress_testkit::probe::{clones_share, ready};
/// # use tower::{Service, limit::GlobalConcurrencyLimitLayer};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// clones_share(
///     || GlobalConcurrencyLimitLayer::new(1),
///     async |mut first, mut second, backend| {
///         backend.hold();
///         ready(&mut first).await.unwrap();
///         let call = tokio::spawn(first.call(1));
///         let wait = std::time::Duration::from_secs(1);
///         assert!(tokio::time::timeout(wait, ready(&mut second)).await.is_err());
///         backend.release();
///         call.await.unwrap().unwrap();
///         ready(&mut second).await.unwrap();
///     },
/// )
/// .await;
/// # }
/// ```
pub async fn clones_share<L, C>(make_layer: impl Fn() -> L, mut check: C)
where
    L: Layer<Probed>,
    L::Service: Service<u32, Response = u32> + Clone,
    C: AsyncFnMut(L::Service, L::Service, Backend),
{
    let backend = Backend::new();
    let service = make_layer().layer(backend.service());
    check(service.clone(), service, backend).await;

    let backend = Backend::new();
    let layer = make_layer();
    check(layer.layer(backend.service()), layer.layer(backend.service()), backend).await;
}

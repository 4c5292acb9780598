//! Hits: of one key, and of keys as they come in practice (Zipf).

use std::{
    future::ready,
    sync::{Arc, LazyLock},
    time::Duration,
};

use buttress_cache::Cache;
use buttress_core::BoxError;
use foldhash::fast::RandomState;
use quick_cache::{OptionsBuilder, UnitWeighter, sync::DefaultLifecycle};
use tokio::runtime::Runtime;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_resilience_cache::{CacheError, CacheLayer as ResilienceLayer};

use crate::{
    body::{Body, shared},
    ours::{self, ROOM},
    row::{Expected, Row},
    verdict::{Refusal, Verdict},
};

const KEYS: u64 = 100_000;
/// Requests after which they come again.
const REQUESTS: usize = 1 << 18;

type Key = fn(u64) -> u64;

fn one(_: u64) -> u64 {
    7
}

/// The key of a request: the first comes as often as the thousandth a thousand times.
fn zipf(request: u64) -> u64 {
    static KEYS_OF_REQUESTS: LazyLock<Box<[u32]>> = LazyLock::new(|| {
        let mut sum = 0.0;
        let shares: Vec<f64> = (1..=KEYS)
            .map(|rank| {
                sum += 1.0 / rank as f64;
                sum
            })
            .collect();
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let draw = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let at = (seed >> 11) as f64 / (1_u64 << 53) as f64 * sum;
            shares.partition_point(|share| *share < at) as u32
        };
        std::iter::repeat_with(draw).take(REQUESTS).collect()
    });
    KEYS_OF_REQUESTS[request as usize % REQUESTS].into()
}

/// Calls it for every request, so that what is measured are hits.
fn filled<S>(runtime: &Runtime, service: S) -> Box<dyn Body>
where
    S: Service<u64, Error: Refusal + std::fmt::Debug> + Clone + Send + 'static,
{
    runtime.block_on(async {
        for request in 0..REQUESTS as u64 {
            let mut service = service.clone();
            let filled = service.ready().await.expect("it is ready").call(request).await;
            filled.expect("the backend answers");
        }
    });
    shared(service)
}

fn backend(
    key: Key,
) -> impl Service<u64, Response = Arc<u64>, Error = BoxError, Future: Send> + Clone + Send + 'static {
    service_fn(move |request| ready(Ok(Arc::new(key(request)))))
}

fn buttress(runtime: &Runtime, key: Key, ttl: Duration) -> Box<dyn Body> {
    let cache: Cache<u64, Arc<u64>> = Cache::builder("hits").max_weight(ROOM).ttl(ttl).build();
    filled(runtime, cache.layer(move |request: &u64| Some(key(*request))).layer(backend(key)))
}

fn handle(runtime: &Runtime, key: Key) -> Box<dyn Body> {
    let cache: Cache<u64, Arc<u64>> = Cache::builder("hits").max_weight(ROOM).ttl(HOUR).build();
    filled(runtime, cache.layer(move |request: &u64| Some(key(*request))).layer(backend(key)));
    shared(service_fn(move |request| {
        let key = key(request);
        ready(Ok::<_, BoxError>(match cache.get(&key) {
            Some(value) => value,
            None => Arc::new(key),
        }))
    }))
}

fn bare_quick_cache(runtime: &Runtime, key: Key) -> Box<dyn Body> {
    let mut options = OptionsBuilder::new();
    options.estimated_items_capacity(ROOM as usize).weight_capacity(ROOM);
    let cache: Arc<quick_cache::sync::Cache<u64, Arc<u64>, _, RandomState, _>> =
        Arc::new(quick_cache::sync::Cache::with_options(
            options.build().expect("both figures were given"),
            UnitWeighter,
            RandomState::default(),
            DefaultLifecycle::default(),
        ));
    let get = service_fn(move |request| {
        let key = key(request);
        ready(Ok::<_, BoxError>(match cache.get(&key) {
            Some(value) => value,
            None => {
                cache.insert(key, Arc::new(key));
                Arc::new(key)
            }
        }))
    });
    filled(runtime, get)
}

fn moka(runtime: &Runtime, key: Key) -> Box<dyn Body> {
    let cache: moka::sync::Cache<u64, Arc<u64>> = moka::sync::Cache::builder().max_capacity(ROOM).build();
    let get = service_fn(move |request| {
        let key = key(request);
        ready(Ok::<_, BoxError>(match cache.get(&key) {
            Some(value) => value,
            None => {
                cache.insert(key, Arc::new(key));
                Arc::new(key)
            }
        }))
    });
    filled(runtime, get)
}

fn tower_resilience(runtime: &Runtime, key: Key) -> Box<dyn Body> {
    let layer = ResilienceLayer::builder()
        .max_size(ROOM as usize)
        .ttl(HOUR)
        .key_extractor(move |request: &u64| key(*request))
        .build();
    let layer = layer.expect("it has a key").shared::<Arc<u64>>();
    filled(runtime, layer.layer(backend(key)))
}

const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) fn rows() -> Vec<Row> {
    let row = |name, build| Row::new("cache", name, Expected::All(Verdict::Served), build);
    let others = vec![
        row("buttress hit zipf", |runtime| buttress(runtime, zipf, HOUR)),
        row("buttress hit one key for ever", |runtime| buttress(runtime, one, Duration::MAX)),
        row("buttress handle one key", |runtime| handle(runtime, one)),
        row("buttress handle zipf", |runtime| handle(runtime, zipf)),
        row("quick_cache one key", |runtime| bare_quick_cache(runtime, one)),
        row("quick_cache zipf", |runtime| bare_quick_cache(runtime, zipf)),
        row("moka one key", |runtime| moka(runtime, one)),
        row("moka zipf", |runtime| moka(runtime, zipf)),
        row("tower-resilience one key", |runtime| tower_resilience(runtime, one)),
        row("tower-resilience zipf", |runtime| tower_resilience(runtime, zipf)),
    ];
    [ours::rows_of("cache"), others].concat()
}

impl Refusal for CacheError<BoxError> {
    fn is_refusal(&self) -> bool {
        false
    }
}

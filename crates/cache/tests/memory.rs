//! What it takes of the machine. A process of its own, since it reads the memory of the whole process.

use std::{
    fs,
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
    thread,
};

use buttress_cache::Cache;

/// The resident memory of this process.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

#[test]
fn ten_million_inserts_stay_within_a_tenth_of_the_weight() {
    const MAX: u64 = 128 << 20;
    let before = resident();
    let cache: Cache<u64, Arc<[u8]>> = Cache::builder("ten million")
        .max_weight(MAX)
        .weigher(|_, value: &Arc<[u8]>| value.len() as u64 + 100)
        .build();
    let seen: Vec<(u64, u64)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|seed| {
                let cache = &cache;
                scope.spawn(move || fill(cache, seed))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let lightest = seen.iter().map(|seen| seen.0).min().unwrap();
    let heaviest = seen.iter().map(|seen| seen.1).max().unwrap();
    let resident = resident() - before;
    eprintln!("weight {lightest} to {heaviest} of {MAX}, resident {resident}");
    assert!(heaviest <= MAX && lightest >= MAX / 10 * 9, "{lightest} {heaviest}");
    assert!((MAX / 10 * 9..=MAX / 10 * 11).contains(&resident), "{resident} bytes for {MAX}");
}

/// Five million inserts. The least and the most that the cache weighed after the first million.
fn fill(cache: &Cache<u64, Arc<[u8]>>, mut seed: u64) -> (u64, u64) {
    let (mut lightest, mut heaviest) = (u64::MAX, 0);
    for n in 0..5_000_000_u64 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let value: Arc<[u8]> = vec![0; 100 + (seed >> 54) as usize].into();
        let mut insert = pin!(cache.insert(seed >> 40, value));
        assert!(insert.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        if n >= 1_000_000 && n % 100_000 == 0 {
            let weight = cache.stats().weight;
            (lightest, heaviest) = (lightest.min(weight), heaviest.max(weight));
        }
    }
    (lightest, heaviest)
}

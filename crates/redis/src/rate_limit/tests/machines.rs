//! Every algorithm beside its model, under asks and steps of time that chance chooses.

use super::{
    model::{Model, decide},
    *,
};

fn choose(rng: &mut fastrand::Rng) -> Limit {
    let units = [1, 2, 3, 7, 50, 1000][rng.usize(..6)];
    let nanos = [
        1,
        999,
        30_000,
        100_500,
        333_333_333,
        1_000_000_000,
        60_000_000_000,
        3_600_000_000_001,
        366 * 86_400 * 1_000_000_000,
    ][rng.usize(..9)];
    let rate = Rate::try_new(units, Duration::from_nanos(nanos.max(units.into()))).unwrap();
    match rng.u8(..4) {
        0 => {
            let burst = [1, 2, units, 3 * units][rng.usize(..4)];
            Limit::gcra(rate, burst).unwrap_or(Limit::sliding_window(rate))
        }
        1 => Limit::sliding_window(rate),
        2 => Limit::sliding_log(rate).unwrap(),
        _ => Limit::fixed_window(rate),
    }
}

fn step(rng: &mut fastrand::Rng, limits: &[Limit], wait: Option<u64>) -> u64 {
    let period = limits[rng.usize(..limits.len())].rate().period().as_micros() as u64 + 1;
    match (rng.u8(..8), wait) {
        (0, Some(wait)) => wait,
        (1, Some(wait)) => wait.saturating_sub(1),
        (2 | 3, _) => 0,
        (4, _) => 1,
        (5, _) => rng.u64(..=period),
        (6, _) => rng.u64(..=period / 50 + 1),
        _ => rng.u64(..=period / 500 + 1),
    }
}

#[tokio::test]
async fn each_algorithm_decides_as_its_model() {
    let bench = Bench::new().await;
    let (mut admitted, mut refused, mut partial, mut back) = (0, 0, 0, 0);
    for seed in 0..160 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let limits: Vec<Limit> = (0..rng.usize(1..=3)).map(|_| choose(&mut rng)).collect();
        let asker = bench.subject(&limits);
        let mut models: Vec<Model> = limits.iter().map(|limit| Model::new(*limit)).collect();
        let (mut now, mut wait) = (START + rng.u64(..1 << 40), None);
        for round in 0..40 {
            now += step(&mut rng, &limits, wait);
            let asks: Vec<Ask> = (0..rng.usize(1..=4))
                .map(|_| {
                    let all = limits[0].most_at_once();
                    let most = if rng.bool() { rng.u32(..=all + 1) } else { rng.u32(..=2) };
                    let least = if rng.bool() { most } else { rng.u32(..=most) };
                    let returned = if rng.u8(..4) == 0 { rng.u32(..=all / 2 + 1) } else { 0 };
                    asker.ask(least, most, returned)
                })
                .collect();
            let grants = asker.at(now, &asks).await;
            for (ask, grant) in asks.iter().zip(grants) {
                let grant = grant.unwrap();
                let wanted = (ask.least.into(), ask.most.into(), ask.returned.into());
                let expected = decide(&mut models, wanted, now);
                let got = (grant.units.into(), grant.remaining.into(), grant.retry_after.map(micros));
                assert_eq!(got, expected, "seed {seed}, round {round}: {limits:?} {wanted:?} at {now}");
                wait = grant.retry_after.map(micros);
                admitted += u32::from(grant.units > 0);
                refused += u32::from(wait.is_some_and(|wait| wait > 0));
                partial += u32::from(grant.units > 0 && grant.units < ask.most);
                back += u32::from(ask.returned > 0);
            }
        }
    }
    let seen = [admitted, refused, partial, back];
    assert!(seen.iter().all(|count| *count > 500), "chance has left something out: {seen:?}");
}

/// Without a model: whatever happens, no period holds more than the limit.
#[tokio::test]
async fn no_period_holds_more_than_the_limit() {
    let bench = Bench::new().await;
    let period = 1_000_003;
    for limit in [Limit::sliding_window(rate(20, period)), Limit::sliding_log(rate(20, period)).unwrap()] {
        let asker = bench.subject(&[limit]);
        let mut rng = fastrand::Rng::with_seed(7);
        let (mut now, mut admitted) = (START, Vec::new());
        while admitted.len() < 300 {
            now += rng.u64(..2 * period / 20);
            let grant = asker.one(now, 1, rng.u32(1..=9), 0).await;
            admitted.extend((0..grant.units).map(|_| now));
        }
        let worst = admitted.windows(21).map(|units| units[20] - units[0]).min().unwrap();
        assert!(worst >= period, "21 units in {worst} of {period} microseconds by {limit:?}");
    }
}

#[tokio::test]
async fn a_log_of_many_units_finds_its_way_quickly() {
    let bench = Bench::new().await;
    let limit = Limit::sliding_log(rate(100_000, 1_000_000_000)).unwrap();
    let asker = bench.subject(&[limit]);
    for batch in 0..400 {
        let asks: Vec<Ask> = (0..250).map(|_| asker.ask(1, 1, 0)).collect();
        let grants = asker.at(START + batch * 1_000_000, &asks).await;
        assert!(grants.into_iter().all(|grant| grant.unwrap().units == 1));
    }
    bench.redis.send(Command::new("CONFIG").arg("RESETSTAT")).await.unwrap();
    let now = START + 400_000_000;
    assert_eq!(asker.take(now, 1).await, Err(600_000_000));
    assert_eq!(asker.take(now, 50_001).await, Err(800_000_000));
    // Half of the log leaves at once, and some of the rest is given back.
    let now = START + 1_000_000_000 + 199_000_000;
    assert_eq!(asker.one(now, 0, 0, 0).await.remaining, 50_000);
    assert_eq!(asker.one(now, 0, 0, 125).await.remaining, 50_125);
    assert_eq!(asker.take(now, 50_250).await, Err(1_000_000));
    let stats = bench.redis.send(Command::new("INFO").arg("commandstats")).await.unwrap();
    let stats: String = stats.convert().unwrap();
    let of = |line: &str| {
        Some((line.strip_prefix("cmdstat_")?.split_once(":calls=")?.1.split_once(',')?.0).parse::<u32>())
    };
    let calls: u32 = stats.lines().filter_map(of).map(Result::unwrap).sum();
    assert!(calls < 300, "{calls} commands of scripts and all, for a log of fifty thousand: {stats}");
}

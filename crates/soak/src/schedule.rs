//! Which faults, in which order, when and for how long: by a seed alone.

use std::time::Duration;

use fastrand::Rng;

/// The load alone, before the first fault: what is normal is measured at its end.
pub(crate) const WARM_UP: Duration = Duration::from_secs(15);
/// The load alone, after the last one: what must be as it was is measured at its end.
pub(crate) const COOL_DOWN: Duration = Duration::from_secs(15);
/// Between the end of a fault and the next one: so long may a recovery take, and one window in which it is seen.
pub(crate) const PAUSE: Duration = Duration::from_millis(6_500);
/// Between a reload and what comes next: it must not be noticed.
const SHORT_PAUSE: Duration = Duration::from_secs(2);
/// What it takes to start a server again.
const RESTART: Duration = Duration::from_secs(1);

/// What is hurt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Postgres,
    Redis,
    Upstream,
    Worker,
    Configuration,
    Network,
}

/// What is done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    PostgresKilled,
    PostgresFrozen,
    PostgresBlackHole,
    PostgresSlow,
    RedisKilled,
    RedisFrozen,
    RedisBlackHole,
    RedisSlow,
    UpstreamGone,
    UpstreamFrozen,
    UpstreamBlackHole,
    UpstreamSlow,
    UpstreamReset,
    UpstreamErrors,
    WorkerKilled,
    WorkerFrozen,
    RightReload,
    WrongReload,
    NetworkCut,
}

impl Kind {
    pub(crate) const ALL: [Self; 19] = [
        Self::PostgresKilled,
        Self::PostgresFrozen,
        Self::PostgresBlackHole,
        Self::PostgresSlow,
        Self::RedisKilled,
        Self::RedisFrozen,
        Self::RedisBlackHole,
        Self::RedisSlow,
        Self::UpstreamGone,
        Self::UpstreamFrozen,
        Self::UpstreamBlackHole,
        Self::UpstreamSlow,
        Self::UpstreamReset,
        Self::UpstreamErrors,
        Self::WorkerKilled,
        Self::WorkerFrozen,
        Self::RightReload,
        Self::WrongReload,
        Self::NetworkCut,
    ];

    pub(crate) fn part(self) -> Part {
        match self {
            Self::PostgresKilled | Self::PostgresFrozen | Self::PostgresBlackHole | Self::PostgresSlow => {
                Part::Postgres
            }
            Self::RedisKilled | Self::RedisFrozen | Self::RedisBlackHole | Self::RedisSlow => Part::Redis,
            Self::WorkerKilled | Self::WorkerFrozen => Part::Worker,
            Self::RightReload | Self::WrongReload => Part::Configuration,
            Self::NetworkCut => Part::Network,
            _ => Part::Upstream,
        }
    }

    /// Whether requests may fail meanwhile. Nobody's request needs a worker, and a reload is none of the clients' business.
    pub(crate) fn may_fail_requests(self) -> bool {
        !matches!(self.part(), Part::Worker | Part::Configuration)
    }

    /// Whether it is over as soon as it is done.
    fn is_instant(self) -> bool {
        matches!(self, Self::WorkerKilled | Self::NetworkCut) || self.part() == Part::Configuration
    }

    fn is_slow(self) -> bool {
        matches!(self, Self::PostgresSlow | Self::RedisSlow | Self::UpstreamSlow)
    }

    /// As the report tells it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PostgresKilled => "Postgres killed, and started again",
            Self::PostgresFrozen => "Postgres frozen",
            Self::PostgresBlackHole => "Postgres in a black hole",
            Self::PostgresSlow => "Postgres slow",
            Self::RedisKilled => "Redis killed, and started again empty",
            Self::RedisFrozen => "Redis frozen",
            Self::RedisBlackHole => "Redis in a black hole",
            Self::RedisSlow => "Redis slow",
            Self::UpstreamGone => "upstream gone: connections refused",
            Self::UpstreamFrozen => "upstream frozen: no answers",
            Self::UpstreamBlackHole => "upstream in a black hole",
            Self::UpstreamSlow => "upstream slow",
            Self::UpstreamReset => "upstream resets connections",
            Self::UpstreamErrors => "upstream answers 503",
            Self::WorkerKilled => "a worker killed, and started again",
            Self::WorkerFrozen => "a worker frozen, for longer than its lease",
            Self::RightReload => "configuration reloaded",
            Self::WrongReload => "wrong configuration, which is refused",
            Self::NetworkCut => "every connection to a server reset",
        }
    }
}

/// One fault to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planned {
    /// After the beginning of the load.
    pub(crate) at: Duration,
    pub(crate) kind: Kind,
    /// How long until it is lifted.
    pub(crate) lasts: Duration,
    /// How much later answers come, where it is about that.
    pub(crate) delay: Option<Duration>,
    /// For what there are several of: which worker, which file.
    pub(crate) pick: usize,
}

/// The faults of a soak of this length. The same seed makes the same ones.
///
/// They come in rounds, each of every kind once, in a new order. The first round's are short, so that 3 minutes hold all of
/// them; later ones last up to ten times as long. The last one of all resets every connection: what a black hole has left
/// open at a server, which nobody else knows of any more, must not be taken for what the programs hold.
pub(crate) fn plan(seed: u64, lasts: Duration) -> Vec<Planned> {
    let mut rng = Rng::with_seed(seed);
    let (mut planned, mut at) = (Vec::new(), WARM_UP);
    let end = lasts.saturating_sub(COOL_DOWN + PAUSE);
    for round in 0.. {
        let mut kinds: Vec<_> = Kind::ALL.into_iter().filter(|&kind| kind != Kind::NetworkCut).collect();
        rng.shuffle(&mut kinds);
        for kind in kinds {
            let fault = Planned { at, ..fault(&mut rng, kind, round) };
            let over = at + fault.lasts + pause(kind);
            if over > end {
                planned.extend(
                    (at <= end).then(|| Planned { at, ..self::fault(&mut rng, Kind::NetworkCut, round) }),
                );
                return planned;
            }
            planned.push(fault);
            at = over;
        }
    }
    planned
}

/// The plan's share of time after a fault.
fn pause(kind: Kind) -> Duration {
    match kind {
        Kind::RightReload | Kind::WrongReload => SHORT_PAUSE,
        Kind::PostgresKilled | Kind::RedisKilled | Kind::WorkerKilled => PAUSE + RESTART,
        _ => PAUSE,
    }
}

fn fault(rng: &mut Rng, kind: Kind, round: u32) -> Planned {
    let millis = match (kind, round) {
        (kind, _) if kind.is_instant() => 0,
        // Longer than a lease, which is 2 s.
        (Kind::WorkerFrozen, _) => rng.u64(2_500..3_500),
        (_, 0) => rng.u64(1_200..1_700),
        _ => rng.u64(2_000..20_000),
    };
    let delay = kind.is_slow().then(|| Duration::from_millis(rng.u64(60..300)));
    let (lasts, pick) = (Duration::from_millis(millis), rng.usize(0..1_000));
    Planned { at: Duration::ZERO, kind, lasts, delay, pick }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const THREE: Duration = Duration::from_secs(180);
    const THIRTY: Duration = Duration::from_secs(1_800);

    fn kinds(plan: &[Planned]) -> BTreeSet<Kind> {
        plan.iter().map(|planned| planned.kind).collect()
    }

    #[test]
    fn the_same_seed_makes_the_same_schedule_and_another_one_another() {
        assert_eq!(plan(7, THIRTY), plan(7, THIRTY));
        assert_ne!(plan(7, THIRTY), plan(8, THIRTY));
    }

    #[test]
    fn three_minutes_hold_every_kind_whatever_the_seed() {
        for seed in 0..1_000 {
            let plan = plan(seed, THREE);
            assert_eq!(kinds(&plan).len(), Kind::ALL.len(), "seed {seed}: {plan:?}");
        }
    }

    #[test]
    fn thirty_minutes_hold_every_kind_several_times_and_long_ones() {
        let plan = plan(7, THIRTY);
        for kind in Kind::ALL.into_iter().filter(|&kind| kind != Kind::NetworkCut) {
            let times = plan.iter().filter(|planned| planned.kind == kind).count();
            assert!(times >= 4, "{kind:?}: {times}");
        }
        assert!(plan.iter().any(|planned| planned.lasts > Duration::from_secs(15)));
    }

    #[test]
    fn faults_come_one_after_another_with_time_to_recover() {
        for seed in 0..100 {
            let plan = plan(seed, THIRTY);
            assert_eq!(plan[0].at, WARM_UP);
            for pair in plan.windows(2) {
                let calm = pair[1].at - (pair[0].at + pair[0].lasts);
                let least = if pair[0].kind.part() == Part::Configuration { SHORT_PAUSE } else { PAUSE };
                assert!(calm >= least, "{pair:?}");
            }
            let last = plan.last().unwrap();
            assert!(last.at + last.lasts + SHORT_PAUSE <= THIRTY - COOL_DOWN);
        }
    }

    #[test]
    fn a_longer_soak_begins_like_a_shorter_one() {
        let short = plan(7, THREE);
        assert_eq!(plan(7, THIRTY)[..short.len() - 1], short[..short.len() - 1]);
        assert_eq!(short.last().unwrap().kind, Kind::NetworkCut);
    }

    #[test]
    fn the_shortest_that_may_be_asked_for_has_faults_whatever_the_seed() {
        for seed in 0..1_000 {
            let plan = plan(seed, crate::args::LEAST);
            assert!(
                plan.len() >= 2 && plan.last().unwrap().kind == Kind::NetworkCut,
                "seed {seed}: {plan:?}"
            );
        }
    }

    #[test]
    fn what_is_too_short_for_a_fault_has_none() {
        assert!(plan(7, Duration::from_secs(30)).is_empty());
        let kinds: Vec<_> = plan(7, Duration::from_secs(40)).iter().map(|planned| planned.kind).collect();
        assert_eq!(kinds, [Kind::NetworkCut]);
    }
}

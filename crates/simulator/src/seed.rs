use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
};

use fastrand::Rng;

pub(crate) const VARIABLE: &str = "BUTTRESS_SIMULATION_SEED";

/// What takes chance from a seed. Each has a generator of its own, so that what one of them does (a stack that retries)
/// does not change what befalls the others (when calls arrive).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    Arrivals { population: usize, leaf: usize },
    Thinking { population: usize },
    Backend { number: usize },
    Layers,
}

impl Stream {
    pub(crate) fn seed(self, seed: u64) -> u64 {
        let (kind, a, b) = match self {
            Self::Arrivals { population, leaf } => (1, population, leaf),
            Self::Thinking { population } => (2, population, 0),
            Self::Backend { number } => (3, number, 0),
            Self::Layers => (4, 0, 0),
        };
        [kind, a as u64, b as u64].into_iter().fold(mix(seed), |state, word| mix(state ^ word))
    }

    pub(crate) fn rng(self, seed: u64) -> Rng {
        Rng::with_seed(self.seed(seed))
    }
}

/// The finalizer of splitmix64: neighbouring seeds give unrelated generators.
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The seed that the environment asks for.
pub(crate) fn from_environment() -> Option<u64> {
    let value = env::var(VARIABLE).ok()?;
    Some(value.trim().parse().unwrap_or_else(|_| panic!("{VARIABLE} is `{value}`, which is no number")))
}

/// How to see the same again. The test harness names a thread after its test.
pub(crate) fn replay_hint(seed: u64) -> String {
    match thread::current().name() {
        Some(name) if name != "main" => format!("{VARIABLE}={seed} cargo test {name}"),
        _ => format!("{VARIABLE}={seed}"),
    }
}

/// Runs a test with one seed after another, and stops at the first that fails, naming it.
///
/// Where the environment variable `BUTTRESS_SIMULATION_SEED` is set, that seed alone is run.
///
/// ```
/// use std::time::Duration;
/// use buttress_simulator::{Arrivals, Backend, Callers, Simulation, for_seeds};
///
/// for_seeds(0..5, |seed| {
///     let report = Simulation::new(Duration::from_secs(10))
///         .seed(seed)
///         .callers(Callers::arriving(Arrivals::poisson(50.0)))
///         .run(|world| world.backend(Backend::workers(10)))
///         .unwrap();
///     report.assert_goodput(.., 0.99);
/// });
/// ```
///
/// # Panics
/// With the panic of the test, after a line on standard error that says which seed it was and how to replay it; and where
/// the variable is set to what is no number.
pub fn for_seeds(seeds: impl IntoIterator<Item = u64>, mut test: impl FnMut(u64)) {
    let mut run = |seed, passed| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(seed))) {
            eprintln!("seed {seed} failed, after {passed} that passed; replay: {}", replay_hint(seed));
            resume_unwind(panic);
        }
    };
    match from_environment() {
        Some(seed) => run(seed, 0),
        None => seeds.into_iter().enumerate().for_each(|(passed, seed)| run(seed, passed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_and_repeat() {
        let streams = [
            Stream::Arrivals { population: 0, leaf: 0 },
            Stream::Arrivals { population: 0, leaf: 1 },
            Stream::Arrivals { population: 1, leaf: 0 },
            Stream::Thinking { population: 0 },
            Stream::Backend { number: 0 },
            Stream::Backend { number: 1 },
            Stream::Layers,
        ];
        let mut seeds: Vec<u64> = (0..100).flat_map(|seed| streams.map(|stream| stream.seed(seed))).collect();
        assert_eq!(seeds[0], streams[0].seed(0));
        let all = seeds.len();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), all);
    }

    #[test]
    fn stops_at_the_first_seed_that_fails() {
        let mut seen = Vec::new();
        let failed = catch_unwind(AssertUnwindSafe(|| {
            for_seeds(0..10, |seed| {
                seen.push(seed);
                assert!(seed < 3, "seed {seed}");
            });
        }));
        assert_eq!(*failed.unwrap_err().downcast::<String>().unwrap(), "seed 3");
        assert_eq!(seen, [0, 1, 2, 3]);
    }

    #[test]
    fn the_hint_names_the_test() {
        assert_eq!(
            replay_hint(7),
            "BUTTRESS_SIMULATION_SEED=7 cargo test seed::tests::the_hint_names_the_test"
        );
    }
}

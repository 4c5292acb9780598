use std::time::Duration;

/// Netflix's Gradient2: the limit times how much better or worse the latency is than its long average, plus some calls
/// that may queue.
#[derive(Debug)]
pub(crate) struct Gradient2 {
    long: f64,
    windows: f64,
    /// How many windows the long average looks back.
    memory: f64,
}

/// How long the average is.
const LONG: Duration = Duration::from_secs(600);
/// The first windows count alike.
const WARM_UP: f64 = 10.0;
/// By how much the latency may be above the long average before the limit shrinks.
const TOLERANCE: f64 = 1.5;
/// How many calls may queue at the backend.
const QUEUE: f64 = 4.0;
const SMOOTHING: f64 = 0.2;

impl Gradient2 {
    pub(crate) fn new(window: Duration) -> Self {
        Self { long: 0.0, windows: 0.0, memory: (LONG.as_secs_f64() / window.as_secs_f64()).max(WARM_UP) }
    }

    /// Takes one more latency into the average, and proposes a limit.
    pub(crate) fn propose(&mut self, limit: f64, latency: f64) -> f64 {
        self.windows += 1.0;
        let weight = if self.windows <= WARM_UP { 1.0 / self.windows } else { 2.0 / (self.memory + 1.0) };
        self.long += (latency - self.long) * weight;
        // After a long overload the average comes down with the latency, and not in ten minutes.
        if self.long > 2.0 * latency {
            self.long *= 0.95;
        }
        let gradient = (TOLERANCE * self.long / latency).clamp(0.5, 1.0);
        limit + (limit * gradient + QUEUE - limit) * SMOOTHING
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    fn warm(latency: f64) -> Gradient2 {
        let mut gradient = Gradient2::new(Duration::from_secs(1));
        for _ in 0..100 {
            gradient.propose(100.0, latency);
        }
        gradient
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 0.2
    }

    #[test]
    fn within_the_tolerance_it_grows_by_a_fifth_of_the_queue() {
        assert!(near(warm(0.01).propose(100.0, 0.01), 100.8));
        assert!(near(warm(0.01).propose(100.0, 0.0149), 100.8));
    }

    #[test]
    fn above_it_it_shrinks_by_a_fifth_of_the_excess_and_at_most_a_tenth() {
        // Three times the average: half of the limit, and 4, of which a fifth counts.
        assert!(near(warm(0.01).propose(100.0, 0.03), 90.8));
        assert!(near(warm(0.01).propose(100.0, 10.0), 90.8));
        // Twice the average: three quarters.
        assert!(near(warm(0.01).propose(100.0, 0.02), 95.8));
    }

    #[test]
    fn the_first_windows_count_alike() {
        let mut gradient = Gradient2::new(Duration::from_millis(100));
        for latency in [1.0, 2.0, 1.5, 2.5, 3.0] {
            gradient.propose(20.0, latency);
        }
        assert!((gradient.long - 2.0).abs() < 1e-9, "{}", gradient.long);
    }

    #[test]
    fn the_average_follows_downwards_soon() {
        let mut gradient = warm(1.0);
        for _ in 0..60 {
            gradient.propose(100.0, 0.01);
        }
        assert!(gradient.long < 0.05, "{}", gradient.long);
    }
}

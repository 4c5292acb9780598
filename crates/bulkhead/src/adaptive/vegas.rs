/// TCP Vegas: a latency above the least one means that calls queue at the backend, and by how much says how many.
#[derive(Debug)]
pub(crate) struct Vegas {
    /// The least latency of this period, and of the one before: a backend that got slower for good is believed after two.
    /// (Taking a single latency afresh now and then would take one under load for the best there is.)
    least: [f64; 2],
    windows: f64,
}

/// A period is so many windows times the limit.
const PERIOD: f64 = 30.0;

impl Default for Vegas {
    fn default() -> Self {
        Self { least: [f64::INFINITY; 2], windows: 0.0 }
    }
}

impl Vegas {
    /// Takes one more latency, and proposes a limit.
    pub(crate) fn propose(&mut self, limit: f64, latency: f64) -> f64 {
        self.windows += 1.0;
        if self.windows > PERIOD * limit {
            self.windows = 0.0;
            self.least = [f64::INFINITY, self.least[0]];
        }
        let known = self.least[0].min(self.least[1]);
        self.least[0] = self.least[0].min(latency);
        if latency < known {
            // The first, or a better one than ever: there is nothing to compare it with.
            return limit;
        }
        let queue = (limit * (1.0 - known / latency)).ceil();
        let step = limit.log10().max(1.0);
        if queue <= step {
            limit + 6.0 * step
        } else if queue < 3.0 * step {
            limit + step
        } else if queue > 6.0 * step {
            limit - step
        } else {
            limit
        }
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    /// At a limit of 100 a step is 2; a latency of `1 / (1 - share)` means that `share` of the calls queue.
    fn after(share: f64) -> f64 {
        let mut vegas = Vegas::default();
        assert_eq!(vegas.propose(100.0, 1.0), 100.0, "nothing to compare with");
        vegas.propose(100.0, 1.0 / (1.0 - share))
    }

    #[test]
    fn the_queue_decides() {
        assert_eq!(after(0.0), 112.0);
        assert_eq!(after(0.019), 112.0);
        assert_eq!(after(0.04), 102.0);
        assert_eq!(after(0.06), 100.0);
        assert_eq!(after(0.119), 100.0);
        assert_eq!(after(0.13), 98.0);
        assert_eq!(after(0.9), 98.0);
    }

    #[test]
    fn a_backend_that_got_slower_for_good_is_believed_after_two_periods() {
        let mut vegas = Vegas::default();
        vegas.propose(10.0, 1.0);
        let shrinks = (0..1000).take_while(|_| vegas.propose(10.0, 3.0) < 10.0).count();
        assert!((300..=601).contains(&shrinks), "{shrinks}");
        assert!(vegas.propose(10.0, 3.0) > 10.0);
    }
}

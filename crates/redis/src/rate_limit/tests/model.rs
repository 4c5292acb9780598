//! The limits as one would write them down: every unit with its time, and exact numbers.

use buttress_rate_limit::{Algorithm, Limit};

const PARTS: i128 = 128;

/// Times are microseconds.
#[derive(Debug)]
pub(super) struct Model {
    limit: Limit,
    /// When each unit came, the oldest first.
    units: Vec<i128>,
    /// Of GCRA: in nanoseconds.
    arrival: i128,
}

impl Model {
    pub(super) fn new(limit: Limit) -> Self {
        Self { limit, units: Vec::new(), arrival: 0 }
    }

    fn nanos(&self) -> i128 {
        self.limit.rate().period().as_nanos().try_into().unwrap()
    }

    /// As the store's clock counts.
    fn period(&self) -> i128 {
        (self.nanos() + 999) / 1000
    }

    fn interval(&self) -> i128 {
        let units = i128::from(self.limit.rate().units());
        (self.nanos() + units - 1) / units
    }

    fn counts(&self, unit: i128, now: i128) -> bool {
        let period = self.period();
        match self.limit.algorithm() {
            Algorithm::SlidingLog => unit + period > now,
            Algorithm::FixedWindow => unit / period == now / period,
            Algorithm::SlidingWindow => {
                let parts = PARTS.min(period);
                let part = |at: i128| at * parts / period;
                part(now) - part(unit) <= parts
            }
            other => panic!("{other:?} counts no units"),
        }
    }

    pub(super) fn available(&self, now: u64) -> u64 {
        let now = i128::from(now);
        let free = match self.limit.algorithm() {
            Algorithm::Gcra { burst } => {
                let debt = (self.arrival - now * 1000).max(0);
                (self.interval() * i128::from(burst) - debt) / self.interval()
            }
            _ => {
                let counted = self.units.iter().filter(|unit| self.counts(**unit, now)).count();
                i128::from(self.limit.rate().units()) - i128::try_from(counted).unwrap()
            }
        };
        free.try_into().expect("never more than the limit")
    }

    pub(super) fn take(&mut self, units: u64, now: u64) {
        let now = i128::from(now);
        if let Algorithm::Gcra { .. } = self.limit.algorithm() {
            self.arrival = self.arrival.max(now * 1000) + self.interval() * i128::from(units);
        } else {
            self.units.extend((0..units).map(|_| now));
        }
    }

    pub(super) fn give_back(&mut self, units: u64, now: u64) {
        let now = i128::from(now);
        if let Algorithm::Gcra { .. } = self.limit.algorithm() {
            self.arrival = (self.arrival - self.interval() * i128::from(units)).max(now * 1000);
        } else {
            let mut counted = std::mem::take(&mut self.units);
            counted.retain(|unit| self.counts(*unit, now));
            let back = usize::try_from(units).unwrap().min(counted.len());
            self.units = counted.split_off(back);
        }
    }

    /// The shortest wait after which so many are there, if nobody takes any.
    pub(super) fn wait(&self, units: u64, now: u64) -> u64 {
        let (mut low, mut high) = (0, u64::try_from(4 * self.nanos() / 1000 + 4).unwrap() * 50);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.available(now + middle) >= units { high = middle } else { low = middle + 1 }
        }
        low
    }
}

/// All limits of one subject, and what an ask gets: units, what is left, and the wait.
pub(super) fn decide(
    models: &mut [Model],
    (least, most, returned): (u64, u64, u64),
    now: u64,
) -> (u64, u64, Option<u64>) {
    for model in &mut *models {
        model.give_back(returned, now);
    }
    let free = models.iter().map(|model| model.available(now)).min().unwrap();
    let units = free.min(most);
    if units >= least && units > 0 {
        for model in &mut *models {
            model.take(units, now);
        }
        return (units, free - units, None);
    }
    let possible = least <= most && models.iter().all(|model| least <= u64::from(model.limit.most_at_once()));
    let wait = || models.iter().map(|model| model.wait(least, now)).max().unwrap();
    (0, free, possible.then(wait))
}

use std::time::Duration;

use buttress_core::{Setting, SettingValue};

use crate::clock;

type ByValue<K, V, R> = Box<dyn Fn(&K, &V) -> R + Send + Sync>;

/// What a cache was built with. Times are in nanoseconds where every hit or miss reads them.
pub(crate) struct Config<K, V> {
    pub(crate) max_weight: u64,
    pub(crate) ttl: Duration,
    pub(crate) jitter: f64,
    pub(crate) idle: Option<u64>,
    pub(crate) revalidate: u64,
    pub(crate) on_error: u64,
    pub(crate) expiry: Option<ByValue<K, V, Option<Duration>>>,
    pub(crate) weigher: Option<ByValue<K, V, u64>>,
    pub(crate) tags: Option<ByValue<K, V, Vec<String>>>,
}

impl<K, V> Config<K, V> {
    pub(crate) const fn new() -> Self {
        Self {
            max_weight: 10_000,
            ttl: Duration::from_secs(60),
            jitter: 0.1,
            idle: None,
            revalidate: 0,
            on_error: 0,
            expiry: None,
            weigher: None,
            tags: None,
        }
    }

    /// What a function decides is `custom`: it stands in the program alone.
    pub(crate) fn settings(&self, has_store: bool, visit: &mut dyn FnMut(Setting)) {
        let lasting = |life: Duration| match life {
            Duration::MAX => SettingValue::Off,
            life => SettingValue::Duration(life),
        };
        let window = |nanos: u64| match nanos {
            0 => SettingValue::Off,
            u64::MAX => SettingValue::Duration(Duration::MAX),
            nanos => SettingValue::Duration(Duration::from_nanos(nanos)),
        };
        let custom = |is_set: bool| if is_set { SettingValue::Word("custom") } else { SettingValue::Off };
        let idle = self.idle.filter(|idle| *idle != u64::MAX).map(Duration::from_nanos);
        let settings = [
            ("ttl", lasting(self.ttl)),
            ("expiry", custom(self.expiry.is_some())),
            ("jitter", SettingValue::Ratio(self.jitter)),
            ("time_to_idle", idle.map_or(SettingValue::Off, SettingValue::Duration)),
            ("stale_while_revalidate", window(self.revalidate)),
            ("stale_if_error", window(self.on_error)),
            ("max_weight", SettingValue::Count(self.max_weight)),
            ("weigher", custom(self.weigher.is_some())),
            ("tags", custom(self.tags.is_some())),
            ("store", custom(has_store)),
        ];
        settings.into_iter().for_each(|(name, value)| visit(Setting::new(name, value)));
    }

    /// Without a weigher each value weighs one. Else the average is not known; a thousand shards' worth is plenty.
    pub(crate) fn estimated_entries(&self) -> usize {
        let most = if self.weigher.is_some() { 10_000 } else { u64::MAX };
        usize::try_from(self.max_weight.min(most)).unwrap_or(usize::MAX)
    }

    /// For how long a value is worth keeping after its time.
    pub(crate) fn stale(&self) -> u64 {
        self.revalidate.max(self.on_error)
    }

    pub(crate) fn weigh(&self, key: &K, value: &V) -> u64 {
        self.weigher.as_ref().map_or(1, |weigher| weigher(key, value))
    }

    /// A life that is shorter by chance, so that what was loaded together does not end together.
    pub(crate) fn jittered(&self, life: Duration) -> Duration {
        let nanos = clock::nanos(life);
        if self.jitter == 0.0 || nanos == u64::MAX {
            return life;
        }
        // A quarter of what `mul_f64` takes; more than 53 bits of nanoseconds are a hundred days.
        Duration::from_nanos((nanos as f64 * (1.0 - self.jitter * fastrand::f64())) as u64).min(life)
    }
}

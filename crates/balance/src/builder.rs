use std::{fmt, hash::Hash, time::Duration};

use buttress_core::{ByError, Origin};

use crate::{
    Balance, Change, Ejection, Endpoint, InvalidBalance, LeastLoaded, Members, Sticky,
    config::{Settings, nanos},
    gate::MAX_ENDPOINTS,
    pool::{Discovering, Pool},
};

/// The settings of a balancer: from [`Balance::builder`].
#[derive(Debug, Clone)]
pub struct Builder<P = LeastLoaded, C = ByError> {
    pub(crate) settings: Settings,
    policy: P,
    classify: C,
}

impl Builder {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            settings: Settings {
                origin: Origin::new("balance", name),
                ejection: Ejection::default(),
                decay: Duration::from_secs(10),
                slow_start: nanos(Duration::from_secs(10)),
                first_wait: Duration::from_secs(5),
                max_endpoints: MAX_ENDPOINTS,
                zone: None,
                bound: None,
            },
            policy: LeastLoaded,
            classify: ByError,
        }
    }
}

impl<C> Builder<LeastLoaded, C> {
    /// Sends calls with the same key to the same endpoint: any `Fn(&Req) -> Option<impl Hash>`. A call without a key goes
    /// where it costs least. See the [crate's documentation](crate#sticky-calls).
    #[must_use]
    pub fn sticky<F>(self, key: F) -> Builder<Sticky<F>, C> {
        let Self { settings, classify, .. } = self;
        Builder { settings, policy: Sticky(key), classify }
    }
}

impl<F, C> Builder<Sticky<F>, C> {
    /// Lets an endpoint have at most so many times its share of the calls in flight (1.05 to 100; 1.25 is usual); what is
    /// above it goes to the next in the key's order. Default: no bound.
    ///
    /// # Errors
    /// When it is no number in these bounds.
    pub fn bounded(mut self, times: f64) -> Result<Self, InvalidBalance> {
        if !(1.05..=100.0).contains(&times) {
            return Err(InvalidBalance("the bound of a sticky balancer is from 1.05 to 100 times the share"));
        }
        self.settings.bound = Some(times);
        Ok(self)
    }
}

impl<P, C> Builder<P, C> {
    /// When endpoints that fail are taken out. Default: [`Ejection::default`].
    #[must_use]
    pub fn ejection(mut self, ejection: Ejection) -> Self {
        self.settings.ejection = ejection;
        self
    }

    /// In what time the latency of an endpoint that gets no calls fades to a third (1/e), so that it is tried again, from
    /// 100 ms to 1 h; in three times that, it has faded to a ten-thousandth. Default: 10 s.
    ///
    /// # Errors
    /// When it is out of these bounds.
    pub fn decay(mut self, decay: Duration) -> Result<Self, InvalidBalance> {
        if !(Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&decay) {
            return Err(InvalidBalance("the decay of a latency is from 100 ms to 1 h"));
        }
        self.settings.decay = decay;
        Ok(self)
    }

    /// In what time an endpoint that is new or comes back gets to its full share of the calls, beginning with a tenth.
    /// Zero: at once. Default: 10 s.
    #[must_use]
    pub fn slow_start(mut self, window: Duration) -> Self {
        self.settings.slow_start = nanos(window);
        self
    }

    /// How long a call waits for the first endpoint of a discovery, if its deadline is not sooner. Default: 5 s.
    #[must_use]
    pub const fn first_wait(mut self, limit: Duration) -> Self {
        self.settings.first_wait = limit;
        self
    }

    /// The zone that this process is in: endpoints of the same one are preferred while at least half of them are in the
    /// rotation. Default: none.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<Box<str>>) -> Self {
        self.settings.zone = Some(zone.into());
        self
    }

    /// Judges results by this classifier. Default: [`ByError`]. It is cloned for every call: one that holds something
    /// large should hold an `Arc` of it.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> Builder<P, D> {
        let Self { settings, policy, .. } = self;
        Builder { settings, policy, classify }
    }

    /// A balancer over these endpoints. They can be changed later: [`Balance::members`].
    #[must_use]
    pub fn build<K, S>(self, endpoints: impl IntoIterator<Item = (K, Endpoint<S>)>) -> Balance<K, S, P, C>
    where
        K: Eq + Hash + Clone + fmt::Display,
    {
        self.build_with(|_, members| {
            members.discovered();
            for (key, endpoint) in endpoints {
                members.apply(Change::Insert(key, endpoint));
            }
            None
        })
    }

    /// A balancer whose endpoints are not known yet. What `discover` returns is dropped with it.
    pub(crate) fn build_with<K, S>(
        self,
        discover: impl FnOnce(Origin, Members<K, S>) -> Option<Discovering>,
    ) -> Balance<K, S, P, C> {
        let Self { settings, policy, classify } = self;
        let origin = settings.origin;
        let pool = Pool::new(settings);
        let discovery = discover(origin, Members { pool: pool.clone() });
        Balance::new(pool, policy, classify, discovery)
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    };

    use buttress_core::{BoxError, Deadline, Reason, Rejectable};
    use tokio::time::{Instant, sleep};
    use tower::{ServiceExt, service_fn, util::BoxCloneSyncService};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    type Echo = BoxCloneSyncService<u32, u32, std::io::Error>;

    fn echo() -> Endpoint<Echo> {
        Endpoint::new(BoxCloneSyncService::new(service_fn(async |n: u32| Ok(n))))
    }

    /// Its discovery has not brought anything yet.
    fn undiscovered() -> (Balance<u32, Echo>, Members<u32, Echo>) {
        let mut members = None;
        let balance = Balance::builder("undiscovered").build_with(|origin, them| {
            assert_eq!(origin, Origin::new("balance", "undiscovered"));
            members = Some(them);
            None
        });
        (balance, members.unwrap())
    }

    fn reason(error: impl Into<BoxError>) -> Reason {
        error.into().rejected().unwrap().reason()
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_for_the_first_endpoint_but_not_for_ever() {
        let (balance, members) = undiscovered();
        let waits: Vec<_> = (0..10).map(|n| tokio::spawn(balance.clone().oneshot(n))).collect();
        sleep(MS).await;
        members.apply(Change::Insert(1, echo()));
        for (n, call) in (0..).zip(waits) {
            assert_eq!(call.await.unwrap().unwrap(), n);
        }

        let (balance, _members) = undiscovered();
        let began = Instant::now();
        assert_eq!(reason(balance.clone().oneshot(1).await.unwrap_err()), Reason::NoEndpoint);
        assert_eq!(began.elapsed().as_secs(), 5);
        let late = Deadline::after(20 * MS).scope(balance.oneshot(1)).await.unwrap_err();
        assert_eq!(reason(late), Reason::DeadlineExceeded);
    }

    #[tokio::test(start_paused = true)]
    async fn a_discovery_that_fails_or_finds_nothing_keeps_nobody_waiting() {
        for fails in [true, false] {
            let (balance, members) = undiscovered();
            let waits = tokio::spawn(balance.clone().oneshot(1));
            sleep(MS).await;
            let began = Instant::now();
            if fails {
                members.failed()
            } else {
                members.discovered()
            }
            assert_eq!(reason(waits.await.unwrap().unwrap_err()), Reason::NoEndpoint);
            assert_eq!(reason(balance.clone().oneshot(1).await.unwrap_err()), Reason::NoEndpoint);
            assert!(began.elapsed() < MS);
            // It may still find some.
            members.apply(Change::Insert(1, echo()));
            members.failed();
            assert_eq!(balance.oneshot(2).await.unwrap(), 2);
        }
    }

    /// The discovery lives as long as the balancer, or a call that waits for it; handles do not keep it.
    #[tokio::test(start_paused = true)]
    async fn its_discovery_ends_with_it() {
        struct Ends(Arc<AtomicBool>);
        impl Drop for Ends {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        let ended = Arc::new(AtomicBool::new(false));
        let kept = Mutex::new(None);
        let balance: Balance<u32, Echo> = Balance::builder("ends").build_with(|_, members| {
            *kept.lock().unwrap() = Some(members);
            Some(Arc::new(Ends(Arc::clone(&ended))))
        });
        let handle = balance.balancer();
        let call = tokio::spawn(balance.oneshot(3));
        sleep(MS).await;
        assert!(!ended.load(Relaxed), "the call waits for it");
        kept.lock().unwrap().as_ref().unwrap().apply(Change::Insert(1, echo()));
        assert_eq!(call.await.unwrap().unwrap(), 3);
        assert!(ended.load(Relaxed));
        assert_eq!(handle.snapshot().endpoints.len(), 1);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let builder = || Balance::builder("refused");
        for decay in [Duration::ZERO, Duration::from_millis(99), Duration::from_secs(3_601)] {
            assert!(builder().decay(decay).is_err());
        }
        for bound in [1.0, f64::NAN, f64::INFINITY, -2.0, 101.0] {
            assert!(builder().sticky(|n: &u32| Some(*n)).bounded(bound).is_err());
        }
        for weight in [0.0, -1.0, f64::NAN, f64::INFINITY, 1_001.0] {
            assert!(Endpoint::new(()).weight(weight).is_err());
        }
    }
}

//! What becomes of a call.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use buttress_core::{Reason, Rejected};
use tokio::runtime::Handle;

use crate::{
    clock,
    cluster::{
        WhenAway,
        desk::Desk,
        purse::Local,
        shared::{Shared, Step, nanos},
        wait::Wait,
    },
};

impl Shared {
    /// What follows from what the desk said.
    ///
    /// # Panics
    /// Outside of a tokio runtime, where the caller has to wait.
    #[inline(always)]
    pub(crate) fn step(self: &Arc<Self>, desk: &Arc<Desk>, units: u32, local: Local, now: u64) -> Step {
        if local == Local::Admitted { Step::Admitted } else { self.other_step(desk, units, local, now) }
    }

    #[inline(never)]
    fn other_step(self: &Arc<Self>, desk: &Arc<Desk>, units: u32, local: Local, now: u64) -> Step {
        match self.known(desk, units, local, now) {
            Some(Ok(())) => Step::Admitted,
            Some(Err(rejected)) => Step::Refused(rejected),
            None => match Wait::begin(self, desk, units) {
                Ok(wait) => Step::Wait(wait),
                Err(rejected) => Step::Refused(rejected),
            },
        }
    }

    /// The same for a call that does not wait: where it would have to, it is refused.
    pub(crate) fn step_now(
        self: &Arc<Self>,
        desk: &Arc<Desk>,
        units: u32,
        local: Local,
        now: u64,
    ) -> Result<(), Rejected> {
        self.known(desk, units, local, now).unwrap_or_else(|| Err(self.wish(desk, units, now)))
    }

    /// What can be decided without asking the store.
    fn known(
        self: &Arc<Self>,
        desk: &Arc<Desk>,
        units: u32,
        local: Local,
        now: u64,
    ) -> Option<Result<(), Rejected>> {
        match local {
            Local::Admitted => return Some(Ok(())),
            Local::AdmittedAndLow => {
                self.ring(desk);
                return Some(Ok(()));
            }
            Local::Refused(wait) => return Some(Err(self.refuse(Some(wait)))),
            Local::Unknown => {}
        }
        if units == 0 {
            return Some(Ok(()));
        }
        if units > self.plan.most_at_once {
            return Some(Err(self.refuse(None)));
        }
        let probe_at = self.probe_at.load(Relaxed);
        if probe_at != 0 {
            self.want_it_back(probe_at, now);
            return Some(self.decide_alone(desk, units));
        }
        None
    }

    /// Refuses one who does not wait; a lease is asked for, for those who come after him.
    fn wish(self: &Arc<Self>, desk: &Arc<Desk>, units: u32, now: u64) -> Rejected {
        if !self.plan.leases {
            self.warned.call_once(|| {
                let name = self.origin.name();
                tracing::warn!(
                    name,
                    "a rate limit that is not leased has nothing for calls that do not wait"
                );
            });
            return self.refuse(None);
        }
        // A key that there is no room for has no lease.
        if desk.is_known {
            desk.count_refused(units.into());
            let since = desk.slow().wish(units, now);
            if Handle::try_current().is_ok() {
                // It may have been rung for outside of a runtime.
                self.start();
            }
            self.ring(desk);
            if now > since.saturating_add(Self::LATE + nanos(self.timeout)) {
                self.replace_if_stuck(since);
            }
        }
        self.refuse(Some(nanos(self.timeout)))
    }

    /// The rate limit is reached, for so many nanoseconds.
    pub(crate) fn refuse(&self, after: Option<u64>) -> Rejected {
        let rejected = self.origin.reject(Reason::RateLimited);
        match after {
            Some(after) => rejected.with_retry_after(Duration::from_nanos(after)),
            None => rejected,
        }
    }

    /// Decides by policy, without the store.
    pub(crate) fn decide_alone(&self, desk: &Desk, units: u32) -> Result<(), Rejected> {
        self.counts.alone.fetch_add(1, Relaxed);
        let now = clock::now();
        match self.when_away {
            WhenAway::FailOpen => Ok(()),
            WhenAway::FailClosed => {
                let after = match self.probe_at.load(Relaxed).saturating_sub(now) {
                    0 => self.timeout,
                    wait => Duration::from_nanos(wait),
                };
                Err(self.origin.reject(Reason::Overloaded).with_retry_after(after))
            }
            WhenAway::LocalShare => {
                let nodes = self.nodes();
                let desk = if desk.is_known { desk } else { &self.crowded_out };
                let mut slow = desk.slow();
                let taken = slow.share(&self.limits, nodes).take(units, nodes, now);
                drop(slow);
                taken.map_err(|wait| self.refuse(wait))
            }
        }
    }

    /// Somebody had to be decided without the store.
    fn want_it_back(self: &Arc<Self>, probe_at: u64, now: u64) {
        if now > probe_at + Self::LATE + nanos(self.timeout) {
            self.replace_if_stuck(probe_at);
        }
        if !self.is_wanted.load(Relaxed) {
            self.is_wanted.store(true, Relaxed);
            self.bell.notify_one();
        }
    }
}

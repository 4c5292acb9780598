use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{Deadline, Rejected};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    clock,
    inner::{Gate, Inner, Stage},
    machine::Wait,
    places::{Standing, Whose},
};

/// A call that waits. Dropped, its place is free at once, and units that it had go to the next.
#[derive(Debug)]
pub(crate) struct Ticket {
    inner: Arc<Inner>,
    whose: Whose,
    units: u32,
    /// By when it was to be let through.
    until: u64,
    /// The caller's deadline, where it is the earlier.
    expires: Option<u64>,
    /// None when it is over.
    stage: Option<Stage>,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// What becomes of a call at the door.
#[derive(Debug)]
pub(crate) enum Door {
    Open,
    Wait(Ticket),
    Shut(Rejected),
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Ticket {
    /// Takes units, or a place to wait for them.
    pub(crate) fn draw(inner: &Arc<Inner>, whose: Whose, units: u32, longest: Duration) -> Door {
        let now = clock::now();
        let bound = now.saturating_add(nanos(longest));
        let deadline = Deadline::current().map(|deadline| now.saturating_add(nanos(deadline.remaining())));
        let expires = deadline.filter(|deadline| *deadline < bound);
        let until = expires.unwrap_or(bound);
        match inner.enter(whose, units, now, until) {
            Gate::Through => Door::Open,
            Gate::Refused(Some(wait)) if expires.is_some() && now.saturating_add(wait) <= bound => {
                Door::Shut(inner.reject_for_the_deadline(wait))
            }
            Gate::Refused(wait) => Door::Shut(inner.reject(wait)),
            Gate::Waits(stage) => Door::Wait(Self {
                inner: Arc::clone(inner),
                whose,
                units,
                until,
                expires,
                stage: Some(stage),
                sleep: None,
            }),
        }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejected>> {
        loop {
            let now = clock::now();
            let stage = self.stage.expect("polled after its completion");
            let (whose, id) = self.place(stage);
            let standing = self.inner.places.look(&*self.inner, whose, id, cx.waker(), now, self.until);
            let refused = match standing {
                Standing::Granted(taken) => {
                    self.stage = None;
                    match stage {
                        Stage::Whole(..) => return Poll::Ready(Ok(())),
                        Stage::Key(_) => {
                            match self.inner.enter_whole(
                                self.whose,
                                self.units,
                                taken,
                                now,
                                self.until.max(now),
                            ) {
                                Gate::Through => return Poll::Ready(Ok(())),
                                Gate::Refused(wait) => return Poll::Ready(Err(self.reject(wait))),
                                Gate::Waits(stage) => {
                                    self.stage = Some(stage);
                                    continue;
                                }
                            }
                        }
                    }
                }
                Standing::Never => {
                    self.stage = None;
                    if let Stage::Whole(_, taken) = stage {
                        self.inner.return_key(self.whose, self.units, taken, now);
                    }
                    return Poll::Ready(Err(self.inner.reject(None)));
                }
                Standing::Refused(wait) => wait,
                Standing::Waits(wait) if self.expires.is_some_and(|expires| expires <= now) => wait,
                Standing::Waits(wait) => {
                    let rest = wait.min(self.expires.map_or(u64::MAX, |expires| expires - now));
                    let at = Instant::now() + Duration::from_nanos(rest);
                    let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
                    if sleep.deadline() != at {
                        sleep.as_mut().reset(at);
                    }
                    if sleep.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    continue;
                }
            };
            self.leave(now);
            return Poll::Ready(Err(self.reject(Some(refused))));
        }
    }

    fn reject(&self, wait: Wait) -> Rejected {
        match (wait, self.expires) {
            (Some(wait), Some(_)) => self.inner.reject_for_the_deadline(wait),
            _ => self.inner.reject(wait),
        }
    }

    fn place(&self, stage: Stage) -> (Whose, u64) {
        match stage {
            Stage::Key(id) => (self.whose, id),
            Stage::Whole(id, _) => (None, id),
        }
    }

    fn leave(&mut self, now: u64) {
        let Some(stage) = self.stage.take() else { return };
        let inner = &*self.inner;
        let (whose, id) = self.place(stage);
        if let Some(taken) = inner.places.leave(inner, whose, id, now) {
            inner.places.give_back(inner, whose, self.units, taken, now);
        }
        if let Stage::Whole(_, taken) = stage {
            inner.return_key(self.whose, self.units, taken, now);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.stage.is_some() {
            self.leave(clock::now());
        }
    }
}

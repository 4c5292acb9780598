use std::{
    future::Future,
    hash::Hash,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use buttress_core::{BoxError, Classify, Outcome, Reason, Rejectable};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    inner::{Brought, Judged, OfValue, Since},
    lead::Lead,
    stats::count,
    store::{Entry, Want},
    tier::{AnyLease, Boxed},
};

pin_project! {
    /// A load: by way of the store, where there is one, to the service and back.
    ///
    /// Dropped, or unwound by a panic of the service's, it hands its key over to the next caller in line.
    pub(crate) struct Load<S, F, Req, K, V, C>
    where
        K: Hash,
        K: Eq,
    {
        lead: Lead<K, V>,
        key: K,
        service: S,
        request: Option<Req>,
        classify: C,
        lease: Option<AnyLease>,
        // What was invalidated after this is not kept.
        epoch: u64,
        refreshes: bool,
        #[pin]
        step: Step<F, V>,
    }
}

pin_project! {
    #[project = Project]
    enum Step<F, V> {
        Begin,
        Enter { entering: Boxed<Result<Entry<V, AnyLease>, BoxError>> },
        Ready,
        Call { #[pin] future: F },
        Fill { filling: Boxed<Result<(), BoxError>>, judged: Option<Box<Judged<V>>> },
        // The store's old value is not true any more, and the new one is not to be kept.
        Remove { removing: Boxed<Result<(), BoxError>>, value: Option<V> },
    }
}

impl<S, F, Req, K, V, C> Load<S, F, Req, K, V, C>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    #[inline(always)]
    pub(crate) fn new(
        lead: Lead<K, V>,
        key: K,
        service: S,
        request: Req,
        classify: C,
        refreshes: bool,
    ) -> Self {
        let epoch = lead.cache().tags.epoch();
        let request = Some(request);
        Self { lead, key, service, request, classify, lease: None, epoch, refreshes, step: Step::Begin }
    }
}

impl<S, Req, K, V, C> Future for Load<S, S::Future, Req, K, V, C>
where
    S: Service<Req, Response = V>,
    S::Error: Rejectable,
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    C: Classify<V, S::Error>,
{
    type Output = Result<V, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            match this.step.as_mut().project() {
                Project::Begin => {
                    // Somebody may have brought it between the caller's look and his turn to lead.
                    if !*this.refreshes
                        && let Some(value) = this.lead.cache().fresh(this.key)
                    {
                        this.lead.land(Brought::now(value.clone()), |_| {});
                        return Poll::Ready(Ok(value));
                    }
                    let want = if *this.refreshes { Want::Fresh } else { this.lead.cache().wanted() };
                    self.as_mut().ask_store(want);
                }
                Project::Enter { entering } => match ready!(entering.as_mut().poll(cx)) {
                    Ok(Entry::Found(stored)) => {
                        count(&this.lead.cache().counters.store_hits);
                        let serves = this.lead.cache().serves(&stored);
                        let judged = this.lead.cache().judge_stored(this.key, stored, *this.epoch);
                        let value = judged.slot.value.clone();
                        if serves {
                            let brought = judged.brought(*this.epoch);
                            this.lead.land(brought, |inner| inner.keep(this.key, judged));
                            return Poll::Ready(Ok(value));
                        }
                        // Good for nothing but a failure of what comes now, unless the key was invalidated meanwhile.
                        this.lead.keep(|inner| inner.keep(this.key, judged));
                        self.as_mut().ask_store(Want::Fresh);
                    }
                    Ok(Entry::Vacant(lease)) => {
                        *this.lease = Some(lease);
                        this.step.set(Step::Ready);
                    }
                    Err(error) => {
                        let inner = this.lead.cache();
                        let tier = inner.tier.iter();
                        tier.for_each(|tier| tier.failed(&inner.counters, inner.origin, &error));
                        this.step.set(Step::Ready);
                    }
                },
                Project::Ready => match ready!(this.service.poll_ready(cx)) {
                    Ok(()) => {
                        let request = this.request.take().expect("it is called once");
                        let future = this.service.call(request);
                        this.step.set(Step::Call { future });
                    }
                    Err(error) => {
                        let result = Err(error);
                        let outcome = this.classify.classify(&result);
                        return Poll::Ready(self.as_mut().settle_failure(result, outcome));
                    }
                },
                Project::Call { future } => {
                    let result = ready!(future.poll(cx));
                    this.lead.cache().counters.load();
                    let value = match (this.classify.classify(&result), result) {
                        (Outcome::Success, Ok(value)) => value,
                        (outcome, result) => {
                            return Poll::Ready(self.as_mut().settle_failure(result, outcome));
                        }
                    };
                    let Some(mut judged) = this.lead.cache().judge(this.key, &value, *this.epoch) else {
                        match (this.lease.take(), &this.lead.cache().tier) {
                            (Some(lease), Some(tier)) if this.lead.cache().config.stale() > 0 => {
                                drop(lease);
                                let removing = tier.store().remove(this.key.clone());
                                this.step.set(Step::Remove { removing, value: Some(value) });
                                continue;
                            }
                            _ => return Poll::Ready(Ok(self.as_mut().let_go(value))),
                        }
                    };
                    let lease = this.lease.take();
                    match (lease, judged.stored.take(), &this.lead.cache().tier) {
                        (Some(lease), Some(stored), Some(tier)) => {
                            let filling = tier.store().fill(lease, this.key.clone(), stored);
                            this.step.set(Step::Fill { filling, judged: Some(Box::new(judged)) });
                        }
                        _ => return Poll::Ready(Ok(self.as_mut().keep(judged))),
                    }
                }
                Project::Remove { removing, value } => {
                    let removed = ready!(removing.as_mut().poll(cx));
                    let value = value.take().expect("it is removed once");
                    if let (Err(error), Some(tier)) = (removed, &this.lead.cache().tier) {
                        tier.failed(&this.lead.cache().counters, this.lead.cache().origin, &error);
                    }
                    return Poll::Ready(Ok(self.as_mut().let_go(value)));
                }
                Project::Fill { filling, judged } => {
                    let filled = ready!(filling.as_mut().poll(cx));
                    let judged = judged.take().expect("it is filled once");
                    let judged = *judged;
                    if let (Err(error), Some(tier)) = (filled, &this.lead.cache().tier) {
                        tier.failed(&this.lead.cache().counters, this.lead.cache().origin, &error);
                    }
                    return Poll::Ready(Ok(self.as_mut().keep(judged)));
                }
            }
        }
    }
}

impl<S, F, Req, K, V, C> Load<S, F, Req, K, V, C>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn ask_store(self: Pin<&mut Self>, want: Want) {
        let mut this = self.project();
        let step = match &this.lead.cache().tier {
            Some(tier) if !tier.rests() => {
                Step::Enter { entering: tier.store().enter(this.key.clone(), want) }
            }
            _ => Step::Ready,
        };
        this.step.set(step);
    }

    fn keep(self: Pin<&mut Self>, judged: Judged<V>) -> V {
        let this = self.project();
        let value = judged.slot.value.clone();
        let brought = judged.brought(*this.epoch);
        this.lead.land(brought, |inner| inner.keep(this.key, judged));
        value
    }

    /// A value that is not to be kept. What was there is past its time, and not true any more.
    fn let_go(self: Pin<&mut Self>, value: V) -> V {
        let this = self.project();
        let since = Since { epoch: *this.epoch, tags: OfValue::Unknown };
        this.lead.land(Brought::Value(value.clone(), since), |inner| _ = inner.memory.remove(this.key));
        value
    }

    /// After an error, or an answer that tells of one: what was there before, if it may be served for that.
    fn settle_failure<E: Rejectable>(
        self: Pin<&mut Self>,
        result: Result<V, E>,
        outcome: Outcome,
    ) -> Result<V, E> {
        let this = self.project();
        let inner = Arc::clone(this.lead.cache());
        count(&inner.counters.failures);
        if *this.refreshes {
            inner.rest(this.key);
        }
        let rejected = result.as_ref().err().and_then(Rejectable::rejected).copied();
        // What says nothing about the backend is the answer: `NotFound`, for example. A refusal is none.
        let failed = rejected.is_some() || matches!(outcome, Outcome::Failure | Outcome::Throttled(_));
        if failed && let Some(value) = inner.on_error(this.key, *this.refreshes) {
            if !*this.refreshes {
                count(&inner.counters.stale);
            }
            inner.note_stale(this.key, "the load failed");
            this.lead.land(Brought::now(value.clone()), |_| {});
            return Ok(value);
        }
        match (&result, rejected) {
            (Ok(value), _) => {
                let since = Since { epoch: *this.epoch, tags: OfValue::Unknown };
                this.lead.land(Brought::Value(value.clone(), since), |_| {});
            }
            // His own deadline is not that of those who wait: the next one leads.
            (Err(_), Some(rejected)) if rejected.reason() == Reason::DeadlineExceeded => {
                this.lead.hand_over()
            }
            (Err(_), Some(rejected)) => this.lead.land(Brought::Failed(rejected), |_| {}),
            (Err(_), None) if outcome == Outcome::Ignored => this.lead.land(Brought::Apart, |_| {}),
            (Err(_), None) => {
                // Counted by those who get it.
                let rejected = inner.origin.reject(Reason::LoadFailed).after_sending();
                this.lead.land(Brought::Failed(rejected), |_| {});
            }
        }
        result
    }
}

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    vec,
};

use buttress_core::Rejectable;
use futures_core::Stream;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    carry::{Members, Places, carry, outcomes},
    outcome::Outcome,
    rules::{Assembly, Rules},
};

pin_project! {
    /// The results of a stream's items, which are sent in batches: made by [`BatchLayer::process`](crate::BatchLayer::process).
    ///
    /// It runs in the task that polls it: no call goes on while nobody does, and with it are dropped the calls that are in flight
    /// and what has been gathered. A panic of the stream or the service goes on to whoever polls.
    ///
    /// A batch goes when it is full, when the stream has ended, or when the stream has nothing more for now and no other batch is
    /// in flight. In memory are at most `in_flight` batches, one that is gathered, and one whose results are handed out. What a
    /// caller does with a result may take as long as he likes: the stream is not asked for more meanwhile than there is room for.
    ///
    /// With [`dedupe`](crate::BatchLayer::dedupe), a batch is full when that many items are in it, equal ones included.
    #[must_use = "streams do nothing unless polled"]
    pub struct Process<T, S, Req, Res, E> {
        #[pin]
        stream: T,
        ended: bool,
        service: S,
        rules: Arc<Rules<Req, Res, E>>,
        load: Load<Req>,
        flying: VecDeque<Flying<Res, E>>,
        landed: vec::IntoIter<Outcome<Res, E>>,
        // How many were handed out since the calls were polled.
        handed_out: u32,
    }
}

/// Results of one batch that are handed out before the calls in flight are polled again.
const UNPOLLED: u32 = 32;
/// Items that are gathered before they are: a large batch that is put together must not keep the one before from its backend.
const UNPOLLED_GATHERING: u32 = 128;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

enum Flying<Res, E> {
    Call(Boxed<Vec<Outcome<Res, E>>>),
    Landed(Vec<Outcome<Res, E>>),
}

/// A batch that is gathered.
struct Load<Req> {
    items: Vec<Req>,
    weight: u64,
    /// It did not fit, and is the first of the next.
    over: Option<(Req, u64)>,
}

impl<T, S, Req, Res, E> Process<T, S, Req, Res, E> {
    pub(crate) fn new(stream: T, service: S, rules: Rules<Req, Res, E>) -> Self {
        Self {
            stream,
            ended: false,
            service,
            rules: Arc::new(rules),
            load: Load { items: Vec::new(), weight: 0, over: None },
            flying: VecDeque::new(),
            landed: Vec::new().into_iter(),
            handed_out: 0,
        }
    }
}

impl<T, S, Req, Res, E> Process<T, S, Req, Res, E>
where
    T: Stream<Item = Req>,
    S: Service<Vec<Req>, Response = Vec<Result<Res, E>>, Error = E> + Clone + Send + 'static,
    S::Future: Send,
    Req: Send + 'static,
    Res: Send + 'static,
    E: Rejectable + Send + 'static,
{
    /// Gathers and sends what there is room for, and polls what is in flight.
    fn drive(mut self: Pin<&mut Self>, cx: &mut Context<'_>) {
        loop {
            let gathers = self.as_mut().send(cx);
            let mut landed = false;
            for flying in self.as_mut().project().flying {
                if let Flying::Call(call) = flying
                    && let Poll::Ready(outcomes) = call.as_mut().poll(cx)
                {
                    *flying = Flying::Landed(outcomes);
                    landed = true;
                }
            }
            // What waited for that can go now.
            if !landed && !gathers {
                return;
            }
        }
    }

    /// Says whether it stopped gathering only to let those in flight have their turn.
    fn send(self: Pin<&mut Self>, cx: &mut Context<'_>) -> bool {
        let mut this = self.project();
        let limits = this.rules.limits;
        let mut gathered = 0;
        loop {
            while !*this.ended && !this.load.is_full(this.rules) {
                if gathered == UNPOLLED_GATHERING {
                    return true;
                }
                match this.stream.as_mut().poll_next(cx) {
                    Poll::Ready(Some(item)) => {
                        let weight = this.rules.weight_of(&item);
                        this.load.add(item, weight, limits.weight);
                        gathered += 1;
                    }
                    Poll::Ready(None) => *this.ended = true,
                    Poll::Pending => break,
                }
            }
            let idle = !this.flying.iter().any(|flying| matches!(flying, Flying::Call(_)));
            let goes = *this.ended || idle || this.load.is_full(this.rules);
            if this.load.items.is_empty() || !goes || this.flying.len() >= limits.in_flight {
                return false;
            }
            let items = this.load.take();
            this.flying.push_back(Flying::Call(Box::pin(fly(
                this.service.clone(),
                items,
                this.rules.clone(),
            ))));
        }
    }
}

impl<T, S, Req, Res, E> Stream for Process<T, S, Req, Res, E>
where
    T: Stream<Item = Req>,
    S: Service<Vec<Req>, Response = Vec<Result<Res, E>>, Error = E> + Clone + Send + 'static,
    S::Future: Send,
    Req: Send + 'static,
    Res: Send + 'static,
    E: Rejectable + Send + 'static,
{
    type Item = Result<Res, E>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if self.handed_out >= UNPOLLED || self.landed.len() == 0 {
                self.as_mut().drive(cx);
                *self.as_mut().project().handed_out = 0;
            }
            let this = self.as_mut().project();
            if let Some(outcome) = this.landed.next() {
                *this.handed_out += 1;
                return Poll::Ready(Some(outcome.into_result()));
            }
            match this.flying.pop_front() {
                Some(Flying::Landed(outcomes)) => {
                    *this.landed = outcomes.into_iter();
                    // There is room for one more batch.
                    *this.handed_out = UNPOLLED;
                }
                Some(call) => {
                    this.flying.push_front(call);
                    return Poll::Pending;
                }
                None if *this.ended && this.load.items.is_empty() => return Poll::Ready(None),
                None => return Poll::Pending,
            }
        }
    }
}

impl<Req> Load<Req> {
    fn is_full<Res, E>(&self, rules: &Rules<Req, Res, E>) -> bool {
        let limits = &rules.limits;
        // Whatever the limits are, there is room for one.
        let full = self.items.len() >= limits.size || self.weight >= limits.weight;
        self.over.is_some() || full && !self.items.is_empty()
    }

    fn add(&mut self, item: Req, weight: u64, most: u64) {
        let sum = self.weight.saturating_add(weight);
        if sum > most && !self.items.is_empty() {
            self.over = Some((item, weight));
        } else {
            self.items.push(item);
            self.weight = sum;
        }
    }

    fn take(&mut self) -> Vec<Req> {
        let items = mem::take(&mut self.items);
        let (over, weight) = self.over.take().unzip();
        self.items.extend(over);
        self.weight = weight.unwrap_or(0);
        items
    }
}

async fn fly<S, Req, Res, E>(
    mut service: S,
    items: Vec<Req>,
    rules: Arc<Rules<Req, Res, E>>,
) -> Vec<Outcome<Res, E>>
where
    S: Service<Vec<Req>, Response = Vec<Result<Res, E>>, Error = E>,
    E: Rejectable,
{
    let (items, places) = match &rules.dedupe {
        None => (items, None),
        Some(dedupe) => {
            let mut assembly = Assembly::new(dedupe);
            items.into_iter().for_each(|item| assembly.add(item, 0));
            (assembly.requests, Some((assembly.places, dedupe.clone)))
        }
    };
    let size = items.len();
    let settled = match poll_fn(|cx| service.poll_ready(cx)).await {
        Err(error) => outcomes(&rules, Err(error), size, false),
        Ok(()) => {
            let mut sheet = Sheet { size, whole: Vec::new(), parts: Vec::new() };
            carry(service, items, &rules, &mut sheet).await;
            sheet.filled()
        }
    };
    let Some((places, clone)) = places else { return settled };
    let copy = |place: u32| match &settled[place as usize] {
        Outcome::Answer(result) => Outcome::Answer(clone(result)),
        Outcome::Rejected(rejected) => Outcome::Rejected(*rejected),
    };
    places.into_iter().map(copy).collect()
}

/// The results of a batch, which mostly come all at once.
struct Sheet<Res, E> {
    size: usize,
    whole: Vec<Outcome<Res, E>>,
    parts: Vec<Option<Outcome<Res, E>>>,
}

impl<Res, E> Sheet<Res, E> {
    fn filled(self) -> Vec<Outcome<Res, E>> {
        if self.whole.len() == self.size {
            return self.whole;
        }
        self.parts.into_iter().map(|outcome| outcome.expect("a batch settles all its requests")).collect()
    }
}

impl<Res, E> Members<Res, E> for Sheet<Res, E> {
    fn is_wanted(&mut self, _: usize) -> bool {
        true
    }

    fn sent(&mut self) {}

    fn settle(&mut self, places: Places<'_>, outcomes: Vec<Outcome<Res, E>>) {
        if outcomes.len() == self.size {
            self.whole = outcomes;
            return;
        }
        self.parts.resize_with(self.size, || None);
        for (at, outcome) in outcomes.into_iter().enumerate() {
            self.parts[places.at(at)] = Some(outcome);
        }
    }
}

impl<T, S, Req, Res, E> fmt::Debug for Process<T, S, Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("origin", &self.rules.origin)
            .field("gathered", &self.load.items.len())
            .field("in_flight", &self.flying.len())
            .finish_non_exhaustive()
    }
}

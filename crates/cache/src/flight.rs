use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    hash::{BuildHasher, Hash},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use buttress_core::thread_stripes;
use foldhash::fast::RandomState;

pub use self::leader::Leader;
pub(crate) use self::leader::Post;
use crate::sync::{Mutex, lock};

mod leader;

/// Single-flight: of all who want the same key at the same time, one leads and the others get what he brings.
///
/// ```text
///            join, nobody there            land(value)
///   (no flight) ----------------> leader ----------------> all followers have the value
///                                   |  ^
///                 dropped unfinished|  | the first follower leads now
///                                   v  |
///                                 followers? ---- none ---> (no flight)
/// ```
///
/// Followers are woken once: when there is a value, or when it is their turn to lead. There are as many flights as
/// leaders, and a flight without followers takes no allocation.
pub struct Flights<K, T> {
    /// Each locked before the line of one of its flights, never after.
    shards: Box<[Mutex<Shard<K, T>>]>,
    hasher: RandomState,
}

struct Shard<K, T> {
    flights: Vec<Flight<K, T>>,
    next: u64,
}

struct Flight<K, T> {
    hash: u64,
    key: K,
    id: u64,
    /// What it finds is not to be kept, and nobody joins it any more.
    detached: bool,
    /// There since the first follower.
    line: Option<Arc<Mutex<Line<T>>>>,
}

/// The followers of a flight.
struct Line<T> {
    waiting: VecDeque<(u64, Option<Waker>)>,
    next: u64,
    /// The ticket of the follower whose turn it is to lead.
    called: Option<u64>,
    landed: Option<T>,
}

/// What [`Flights::join`] made of the caller.
#[derive(Debug)]
pub enum Joined<K: Hash + Eq, T> {
    /// He goes and brings the value.
    Lead(Leader<K, T>),
    /// Somebody else has gone already.
    Follow(Follower<K, T>),
}

/// How it ended for a [`Follower`].
#[derive(Debug)]
pub enum Landed<K: Hash + Eq, T> {
    /// The leader brought a value.
    With(T),
    /// The leader went away without one: the follower leads now.
    Lead(Leader<K, T>),
}

impl<K: Hash + Eq, T> Flights<K, T> {
    /// Without any flight.
    #[must_use]
    pub fn new() -> Self {
        Self::with_shards(thread_stripes())
    }

    pub(crate) fn with_shards(shards: usize) -> Self {
        let shard = || Mutex::new(Shard { flights: Vec::new(), next: 0 });
        Self {
            shards: (0..shards.next_power_of_two()).map(|_| shard()).collect(),
            hasher: RandomState::default(),
        }
    }

    /// Joins the flight of a key, or begins it.
    pub fn join(self: &Arc<Self>, key: &K) -> Joined<K, T>
    where
        K: Clone,
    {
        match self.join_post(key) {
            Ok(post) => Joined::Lead(Leader { seat: Some((self.clone(), post)) }),
            Err(follower) => Joined::Follow(follower),
        }
    }

    /// The same, for whoever holds these flights anyway.
    pub(crate) fn join_post(self: &Arc<Self>, key: &K) -> Result<Post, Follower<K, T>>
    where
        K: Clone,
    {
        let (hash, shard) = self.place(key);
        // Where a clone of the key panics, nothing is locked.
        let mine = key.clone();
        let mut flights = lock(&self.shards[shard]);
        if let Some(flight) = flights.flights.iter_mut().find(|flight| flight.is(hash, key)) {
            let line = flight.line.get_or_insert_with(|| Arc::new(Mutex::new(Line::new()))).clone();
            let id = flight.id;
            let mut waiting = lock(&line);
            let ticket = waiting.next;
            waiting.next += 1;
            waiting.waiting.push_back((ticket, None));
            drop(waiting);
            drop(flights);
            let post = Post { shard, id };
            return Err(Follower { seat: Some(Seat { flights: self.clone(), post, line, ticket }) });
        }
        Ok(begin(&mut flights, hash, mine, shard))
    }

    /// Begins the flight of a key, if there is none.
    pub fn try_lead(self: &Arc<Self>, key: &K) -> Option<Leader<K, T>>
    where
        K: Clone,
    {
        self.try_post(key).map(|post| Leader { seat: Some((self.clone(), post)) })
    }

    /// The same, for whoever holds these flights anyway.
    pub(crate) fn try_post(&self, key: &K) -> Option<Post>
    where
        K: Clone,
    {
        let (hash, shard) = self.place(key);
        let mine = key.clone();
        let mut flights = lock(&self.shards[shard]);
        let free = !flights.flights.iter().any(|flight| flight.is(hash, key));
        free.then(|| begin(&mut flights, hash, mine, shard))
    }

    /// Begins a flight of a key in any case: the one that there may be is [detached](Self::detach).
    pub fn lead(self: &Arc<Self>, key: &K) -> Leader<K, T>
    where
        K: Clone,
    {
        let (hash, shard) = self.place(key);
        let mine = key.clone();
        let mut flights = lock(&self.shards[shard]);
        if let Some(flight) = flights.flights.iter_mut().find(|flight| flight.is(hash, key)) {
            flight.detached = true;
        }
        let post = begin(&mut flights, hash, mine, shard);
        drop(flights);
        Leader { seat: Some((self.clone(), post)) }
    }

    /// Lets the flight of a key go on by itself: who comes from now on begins a new one.
    pub fn detach(&self, key: &K) {
        let (hash, shard) = self.place(key);
        if let Some(flight) = lock(&self.shards[shard]).flights.iter_mut().find(|flight| flight.is(hash, key))
        {
            flight.detached = true;
        }
    }

    /// The same for all flights.
    pub fn detach_all(&self) {
        self.detach_where(|_| true);
    }

    /// The same for those of such keys. It looks at all flights. `which` must not use these flights.
    pub fn detach_where(&self, which: impl Fn(&K) -> bool) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard
                .flights
                .iter_mut()
                .filter(|flight| which(&flight.key))
                .for_each(|flight| flight.detached = true);
        }
    }

    /// How many flights there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).flights.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn place(&self, key: &K) -> (u64, usize) {
        let hash = self.hasher.hash_one(key);
        // From the upper half: the tables beside this one take the lower bits.
        (hash, (hash >> 32) as usize & (self.shards.len() - 1))
    }
}

impl<K: Hash + Eq, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Hash + Eq, T> fmt::Debug for Flights<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("len", &self.len()).finish()
    }
}

impl<K: Eq, T> Flight<K, T> {
    fn is(&self, hash: u64, key: &K) -> bool {
        self.hash == hash && !self.detached && self.key == *key
    }
}

impl<K, T> Shard<K, T> {
    fn index(&self, id: u64) -> Option<usize> {
        self.flights.iter().position(|flight| flight.id == id)
    }

    /// The next in the line is called to lead; where there is none, the flight is over. Wake him after the locks.
    fn hand_over(&mut self, id: u64) -> (Option<Waker>, Option<Flight<K, T>>) {
        let Some(index) = self.index(id) else { return (None, None) };
        if let Some(line) = &self.flights[index].line {
            let mut line = lock(line);
            if let Some((ticket, waker)) = line.waiting.pop_front() {
                line.called = Some(ticket);
                return (waker, None);
            }
        }
        (None, Some(self.flights.swap_remove(index)))
    }
}

fn begin<K, T>(flights: &mut Shard<K, T>, hash: u64, key: K, shard: usize) -> Post {
    let id = flights.next;
    flights.next += 1;
    flights.flights.push(Flight { hash, key, id, detached: false, line: None });
    Post { shard, id }
}

impl<T> Line<T> {
    const fn new() -> Self {
        Self { waiting: VecDeque::new(), next: 0, called: None, landed: None }
    }
}

/// Who waits for the value of a key. Dropped, he leaves the line.
///
/// A follower must be polled when it is woken: it may be its turn to lead, and the others wait for it then.
#[must_use = "futures do nothing unless polled"]
pub struct Follower<K: Hash + Eq, T> {
    seat: Option<Seat<K, T>>,
}

struct Seat<K, T> {
    flights: Arc<Flights<K, T>>,
    post: Post,
    line: Arc<Mutex<Line<T>>>,
    ticket: u64,
}

impl<K: Hash + Eq, T: Clone> Future for Follower<K, T> {
    type Output = Landed<K, T>;

    /// # Panics
    /// When it is polled after it was ready.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let seat = self.seat.as_ref().expect("a follower is not polled after it was ready");
        let mut line = lock(&seat.line);
        let landed = if let Some(value) = &line.landed {
            Some(value.clone())
        } else if line.called == Some(seat.ticket) {
            line.called = None;
            None
        } else {
            let entry = line.waiting.iter_mut().find(|(ticket, _)| *ticket == seat.ticket);
            let (_, waker) = entry.expect("a follower that was not called waits in line");
            match waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        };
        drop(line);
        let seat = self.seat.take().expect("it was there");
        Poll::Ready(match landed {
            Some(value) => Landed::With(value),
            None => Landed::Lead(Leader { seat: Some((seat.flights, seat.post)) }),
        })
    }
}

impl<K: Hash + Eq, T> Drop for Follower<K, T> {
    fn drop(&mut self) {
        let Some(seat) = self.seat.take() else { return };
        let mut shard = lock(&seat.flights.shards[seat.post.shard]);
        let mut line = lock(&seat.line);
        if line.called == Some(seat.ticket) {
            // It was his turn.
            line.called = None;
            drop(line);
            let (waker, _over) = shard.hand_over(seat.post.id);
            drop(shard);
            waker.into_iter().for_each(Waker::wake);
        } else {
            let left = line.waiting.iter().position(|(ticket, _)| *ticket == seat.ticket);
            let _left = left.and_then(|index| line.waiting.remove(index));
            drop((line, shard));
        }
    }
}

impl<K: Hash + Eq, T> fmt::Debug for Follower<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").finish_non_exhaustive()
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_models;

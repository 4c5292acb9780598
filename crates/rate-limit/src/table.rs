//! The limits of keys.

use std::num::NonZeroU64;

use crate::{
    machine::{Machine, State, Wait, Word},
    sync::{Mutex, lock},
};

/// What the states of keys are kept by.
pub(crate) trait Rules {
    /// What is known of one key.
    type State;

    /// That of a key whose past does not matter.
    fn idle(&self) -> Self::State;
    fn copy(&self, state: &Self::State) -> Self::State;
    fn take(&self, state: &mut Self::State, units: u32, since: u64, now: u64) -> Result<(), Wait>;
    fn wait(&self, state: &Self::State, units: u64, now: u64) -> u64;
    fn give_back(&self, state: &mut Self::State, units: u32, taken: u64, now: u64);
    fn idle_after(&self, state: &Self::State, now: u64) -> u64;
    /// The units that are there, and when all of them will be, of the limit with that index.
    fn quota(&self, state: &Self::State, index: usize, now: u64) -> (u32, u64);
}

/// One limit that fits in a word.
impl Rules for Word {
    type State = u64;

    fn idle(&self) -> u64 {
        Self::IDLE
    }

    fn copy(&self, state: &u64) -> u64 {
        *state
    }

    #[inline]
    fn take(&self, state: &mut u64, units: u32, since: u64, now: u64) -> Result<(), Wait> {
        *state = Self::take(*self, *state, units, since, now)?;
        Ok(())
    }

    fn wait(&self, state: &u64, units: u64, now: u64) -> u64 {
        Self::wait(*self, *state, units, now)
    }

    fn give_back(&self, state: &mut u64, units: u32, taken: u64, now: u64) {
        *state = Self::give_back(*self, *state, units, taken, now);
    }

    #[inline]
    fn idle_after(&self, state: &u64, now: u64) -> u64 {
        Self::idle_after(*self, *state, now)
    }

    fn quota(&self, state: &u64, _: usize, now: u64) -> (u32, u64) {
        (self.available(*state, now), Self::idle_after(*self, *state, now))
    }
}

/// Any limits, of which units are taken together.
#[derive(Debug)]
pub(crate) struct Several(pub(crate) Box<[Machine]>);

impl Several {
    fn pairs<'a>(
        &'a self,
        states: &'a Option<Box<[State]>>,
    ) -> impl Iterator<Item = (&'a Machine, &'a State)> {
        self.0.iter().zip(states.iter().flatten())
    }
}

impl Rules for Several {
    /// None takes no memory: the key was never seen.
    type State = Option<Box<[State]>>;

    fn idle(&self) -> Self::State {
        None
    }

    fn copy(&self, state: &Self::State) -> Self::State {
        state.clone()
    }

    fn take(&self, states: &mut Self::State, units: u32, since: u64, now: u64) -> Result<(), Wait> {
        let states = states.get_or_insert_with(|| self.0.iter().map(Machine::idle).collect());
        for at in 0..self.0.len() {
            if let Err(wait) = self.0[at].take_late(&mut states[at], units, since, now) {
                for back in 0..at {
                    self.0[back].give_back(&mut states[back], units, now, now);
                }
                // It can go when all of them let it.
                let pairs = || self.0.iter().zip(states.iter());
                return Err(wait.map(|_| {
                    pairs().map(|(machine, state)| machine.wait(state, units.into(), now)).max().unwrap_or(0)
                }));
            }
        }
        Ok(())
    }

    fn wait(&self, states: &Self::State, units: u64, now: u64) -> u64 {
        match states {
            Some(_) => {
                self.pairs(states).map(|(machine, state)| machine.wait(state, units, now)).max().unwrap_or(0)
            }
            None => self.0.iter().map(|machine| machine.wait(&machine.idle(), units, now)).max().unwrap_or(0),
        }
    }

    fn give_back(&self, states: &mut Self::State, units: u32, taken: u64, now: u64) {
        for (machine, state) in self.0.iter().zip(states.iter_mut().flatten()) {
            machine.give_back(state, units, taken, now);
        }
    }

    fn idle_after(&self, states: &Self::State, now: u64) -> u64 {
        self.pairs(states).map(|(machine, state)| machine.idle_after(state, now)).max().unwrap_or(0)
    }

    fn quota(&self, states: &Self::State, index: usize, now: u64) -> (u32, u64) {
        let machine = &self.0[index];
        match states {
            Some(states) => (machine.available(&states[index], now), machine.idle_after(&states[index], now)),
            None => (machine.available(&machine.idle(), now), 0),
        }
    }
}

/// A fixed number of places for the states of keys, in sets of seven.
///
/// A key's hash says in which set it stands, and stands for the key: the key itself is not kept. Two keys with the same 64
/// bits would share a limit; the hash is seeded by chance, so nobody can look for such.
///
/// A state becomes idle by itself as time passes: then it says the same as none, and its place is free for another key.
/// So nothing has to be swept, and a key under an active limit is never forgotten. Where all places of a set hold active
/// states, further keys of that set share one more, the crowd's; when a place becomes free for one of them, it begins with
/// what the crowd has used. So a flood of keys makes nobody exceed his limit: it makes strangers share one.
#[derive(Debug)]
pub(crate) struct Table<R: Rules> {
    rules: R,
    sets: Box<[Slot<R::State>]>,
}

/// Two lines of the processor's cache, where a state is one word: the first has the lock and what is searched.
#[derive(Debug)]
#[repr(align(128))]
struct Slot<S>(Mutex<Set<S>>);

#[derive(Debug)]
struct Set<S> {
    /// Zero is nobody.
    prints: [u64; PLACES],
    states: [S; PLACES],
    crowd: S,
}

const PLACES: usize = 7;

/// What stands for a key. The whole of all keys together has none.
pub(crate) type Print = NonZeroU64;

impl<R: Rules> Table<R> {
    /// For so many keys that are active at the same time.
    pub(crate) fn new(rules: R, keys: usize) -> Self {
        // Keys fall into the sets by chance: with 2.75 for each in the mean, one in 270 finds its set full.
        let sets = keys.saturating_mul(4).div_ceil(11).max(1);
        let idle = || std::array::from_fn(|_| rules.idle());
        let sets = (0..sets)
            .map(|_| Slot(Mutex::new(Set { prints: [0; PLACES], states: idle(), crowd: rules.idle() })))
            .collect();
        Self { rules, sets }
    }

    #[expect(clippy::cast_possible_truncation, reason = "it is below the count of the sets")]
    #[inline]
    fn set(&self, print: Print) -> &Mutex<Set<R::State>> {
        // The high half of the product is below the count: a division without a division.
        let at = (u128::from(print.get()) * self.sets.len() as u128) >> 64;
        &self.sets[at as usize].0
    }

    /// The state of that key, which gets a place if there is one.
    #[inline]
    fn state<'a>(&self, set: &'a mut Set<R::State>, print: Print, now: u64) -> &'a mut R::State {
        match set.prints.iter().position(|held| *held == print.get()) {
            Some(place) => &mut set.states[place],
            None => self.place(set, print, now),
        }
    }

    #[cold]
    fn place<'a>(&self, set: &'a mut Set<R::State>, print: Print, now: u64) -> &'a mut R::State {
        let free = (0..PLACES)
            .find(|place| set.prints[*place] == 0 || self.rules.idle_after(&set.states[*place], now) == 0);
        let Some(place) = free else { return &mut set.crowd };
        set.prints[place] = print.get();
        // The key may have been in the crowd.
        let state = if self.rules.idle_after(&set.crowd, now) == 0 {
            self.rules.idle()
        } else {
            self.rules.copy(&set.crowd)
        };
        set.states[place] = state;
        &mut set.states[place]
    }

    /// The state of that key, without giving it a place.
    fn peek(set: &Set<R::State>, print: Print) -> &R::State {
        let place = set.prints.iter().position(|held| *held == print.get());
        place.map_or(&set.crowd, |place| &set.states[place])
    }

    #[inline]
    pub(crate) fn take(&self, print: Print, units: u32, since: u64, now: u64) -> Result<(), Wait> {
        let mut set = lock(self.set(print));
        self.rules.take(self.state(&mut set, print, now), units, since, now)
    }

    pub(crate) fn wait(&self, print: Print, units: u64, now: u64) -> u64 {
        self.rules.wait(Self::peek(&lock(self.set(print)), print), units, now)
    }

    pub(crate) fn give_back(&self, print: Print, units: u32, taken: u64, now: u64) {
        let mut set = lock(self.set(print));
        let set = &mut *set;
        // A key without a place may have had one when the units were taken: the crowd keeps what it has used.
        if let Some(place) = set.prints.iter().position(|held| *held == print.get()) {
            self.rules.give_back(&mut set.states[place], units, taken, now);
        }
    }

    pub(crate) fn quota(&self, print: Print, index: usize, now: u64) -> (u32, u64) {
        self.rules.quota(Self::peek(&lock(self.set(print)), print), index, now)
    }

    /// How many keys are active. It looks at every place.
    pub(crate) fn active(&self, now: u64) -> usize {
        let active = |set: &Set<R::State>| {
            let states = set.prints.iter().zip(&set.states);
            states.filter(|(print, state)| **print != 0 && self.rules.idle_after(state, now) > 0).count()
        };
        self.sets.iter().map(|set| active(&lock(&set.0))).sum()
    }
}

/// The limits of keys, in the smallest form that they fit in.
pub(crate) enum Keys {
    Word(Table<Word>),
    Several(Table<Several>),
}

macro_rules! either {
    ($keys:expr, $table:ident => $do:expr) => {
        match $keys {
            Keys::Word($table) => $do,
            Keys::Several($table) => $do,
        }
    };
}

impl Keys {
    pub(crate) fn new(machines: Box<[Machine]>, keys: usize) -> Self {
        match &*machines {
            [Machine::Word(word)] => Self::Word(Table::new(*word, keys)),
            _ => Self::Several(Table::new(Several(machines), keys)),
        }
    }

    #[inline]
    pub(crate) fn take(&self, print: Print, units: u32, since: u64, now: u64) -> Result<(), Wait> {
        either!(self, table => table.take(print, units, since, now))
    }

    pub(crate) fn wait(&self, print: Print, units: u64, now: u64) -> u64 {
        either!(self, table => table.wait(print, units, now))
    }

    pub(crate) fn give_back(&self, print: Print, units: u32, taken: u64, now: u64) {
        either!(self, table => table.give_back(print, units, taken, now));
    }

    pub(crate) fn quota(&self, print: Print, index: usize, now: u64) -> (u32, u64) {
        either!(self, table => table.quota(print, index, now))
    }

    pub(crate) fn active(&self, now: u64) -> usize {
        either!(self, table => table.active(now))
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests;

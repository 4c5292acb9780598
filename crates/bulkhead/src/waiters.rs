use std::task::Waker;

use crate::Criticality;

/// Those who wait for a permit: for each level of criticality a line, first come first served.
///
/// Everything here takes the same time however many wait. A place is the waiter's until it [`leaves`](Self::leave), also
/// when its permit has been granted or it has been shed.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    places: Vec<Place>,
    vacant: Option<u32>,
    lines: [Line; Criticality::ALL.len()],
    waiting: usize,
    taken: usize,
}

/// A place, owned by one waiter.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) struct Key(u32);

/// Where a permit comes from and goes back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    General,
    Reserve,
}

/// How it stands with a waiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Waiting,
    Granted(Source),
    /// One that matters more took the place.
    Shed,
}

#[derive(Debug, Default, Clone, Copy)]
struct Line {
    first: Option<u32>,
    last: Option<u32>,
}

#[derive(Debug)]
struct Place {
    standing: Standing,
    level: Criticality,
    before: Option<u32>,
    /// The next one in the line, or the next vacant place.
    behind: Option<u32>,
    waker: Option<Waker>,
}

impl Waiters {
    /// How many wait.
    pub(crate) const fn len(&self) -> usize {
        self.waiting
    }

    /// How many places are not vacant.
    pub(crate) const fn taken(&self) -> usize {
        self.taken
    }

    /// The level of the one whose turn it is.
    pub(crate) fn best(&self) -> Option<Criticality> {
        Criticality::ALL.into_iter().rev().find(|level| self.lines[*level as usize].first.is_some())
    }

    /// Joins the line of that level.
    pub(crate) fn join(&mut self, level: Criticality) -> Key {
        let line = &mut self.lines[level as usize];
        let place =
            Place { standing: Standing::Waiting, level, before: line.last, behind: None, waker: None };
        let at = match self.vacant {
            Some(at) => {
                self.vacant = self.places[at as usize].behind;
                self.places[at as usize] = place;
                at
            }
            None => {
                self.places.push(place);
                u32::try_from(self.places.len() - 1).expect("a queue is bounded far below")
            }
        };
        match line.last.replace(at) {
            Some(last) => self.places[last as usize].behind = Some(at),
            None => line.first = Some(at),
        }
        self.waiting += 1;
        self.taken += 1;
        Key(at)
    }

    /// Gives a permit to the one whose turn it is: the first of the highest level.
    pub(crate) fn grant(&mut self, source: Source) -> Option<Waker> {
        let at = self.lines[self.best()? as usize].first?;
        self.settle(at, Standing::Granted(source))
    }

    /// Sheds the last of the lowest level, if that is below `level`, and says whether it did.
    pub(crate) fn shed_below(&mut self, level: Criticality) -> Option<Option<Waker>> {
        let below = Criticality::ALL.into_iter().take_while(|lowest| *lowest < level);
        let at = below.into_iter().find_map(|lowest| self.lines[lowest as usize].last)?;
        Some(self.settle(at, Standing::Shed))
    }

    /// How it stands; the waker is kept for as long as it waits. The one that is not wanted is given back, to be dropped
    /// where no lock is held.
    pub(crate) fn look(&mut self, key: Key, waker: Waker) -> (Standing, Option<Waker>) {
        let place = &mut self.places[key.0 as usize];
        let spare = match &place.waker {
            _ if place.standing != Standing::Waiting => Some(waker),
            Some(kept) if kept.will_wake(&waker) => Some(waker),
            _ => place.waker.replace(waker),
        };
        (place.standing, spare)
    }

    /// Gives the place up, and says how it stood.
    pub(crate) fn leave(&mut self, key: Key) -> (Standing, Option<Waker>) {
        let standing = self.places[key.0 as usize].standing;
        let waker = match standing {
            Standing::Waiting => self.settle(key.0, Standing::Shed),
            Standing::Granted(_) | Standing::Shed => None,
        };
        self.places[key.0 as usize].behind = self.vacant.replace(key.0);
        self.taken -= 1;
        (standing, waker)
    }

    /// Takes one out of its line.
    fn settle(&mut self, at: u32, standing: Standing) -> Option<Waker> {
        let place = &mut self.places[at as usize];
        let (before, behind) = (place.before.take(), place.behind.take());
        place.standing = standing;
        let waker = place.waker.take();
        let line = &mut self.lines[place.level as usize];
        match before {
            Some(before) => self.places[before as usize].behind = behind,
            None => line.first = behind,
        }
        match behind {
            Some(behind) => self.places[behind as usize].before = before,
            None => line.last = before,
        }
        self.waiting -= 1;
        waker
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Join(usize),
        Grant,
        Shed(usize),
        Leave(prop::sample::Index),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..4_usize).prop_map(Step::Join),
            2 => Just(Step::Grant),
            1 => (0..4_usize).prop_map(Step::Shed),
            2 => any::<prop::sample::Index>().prop_map(Step::Leave),
        ];
        prop::collection::vec(step, 0..200)
    }

    /// Everybody who has a place, in the order in which they came.
    #[derive(Debug, Clone, Copy)]
    struct Naive {
        key: Key,
        level: Criticality,
        standing: Standing,
    }

    proptest! {
        #[test]
        fn does_what_a_plain_list_does(steps in steps()) {
            let mut waiters = Waiters::default();
            let mut naive: Vec<Naive> = Vec::new();
            for step in steps {
                match step {
                    Step::Join(level) => {
                        let level = Criticality::ALL[level];
                        let key = waiters.join(level);
                        prop_assert!(naive.iter().all(|other| other.key != key), "a place belongs to one");
                        naive.push(Naive { key, level, standing: Standing::Waiting });
                    }
                    Step::Grant => {
                        waiters.grant(Source::General);
                        let best = naive
                            .iter_mut()
                            .filter(|one| one.standing == Standing::Waiting)
                            .rev()
                            .max_by_key(|one| one.level);
                        if let Some(best) = best {
                            best.standing = Standing::Granted(Source::General);
                        }
                    }
                    Step::Shed(level) => {
                        let level = Criticality::ALL[level];
                        let shed = waiters.shed_below(level).is_some();
                        let lowest = naive
                            .iter_mut()
                            .filter(|one| one.standing == Standing::Waiting && one.level < level)
                            .rev()
                            .min_by_key(|one| one.level);
                        prop_assert_eq!(shed, lowest.is_some());
                        if let Some(lowest) = lowest {
                            lowest.standing = Standing::Shed;
                        }
                    }
                    Step::Leave(index) => {
                        if !naive.is_empty() {
                            let gone = naive.remove(index.index(naive.len()));
                            prop_assert_eq!(waiters.leave(gone.key).0, gone.standing);
                        }
                    }
                }
                let waiting = || naive.iter().filter(|one| one.standing == Standing::Waiting);
                prop_assert_eq!(waiters.len(), waiting().count());
                prop_assert_eq!(waiters.taken(), naive.len());
                prop_assert_eq!(waiters.best(), waiting().map(|one| one.level).max());
                for one in &naive {
                    prop_assert_eq!(waiters.look(one.key, Waker::noop().clone()).0, one.standing);
                }
            }
        }
    }

    #[test]
    fn places_are_used_again() {
        let mut waiters = Waiters::default();
        for _ in 0..1000 {
            let keys = [waiters.join(Criticality::Critical), waiters.join(Criticality::Sheddable)];
            keys.into_iter().for_each(|key| _ = waiters.leave(key));
        }
        assert_eq!(waiters.places.len(), 2);
    }
}

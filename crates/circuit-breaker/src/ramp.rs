use std::{error::Error, fmt, time::Duration};

use crate::trip::{Kind, Policy, Window};

/// How the breaker lets calls back in after it has closed: a share of them that grows evenly, from a tenth on, until the
/// ramp's end, and some calls at any rate. A backend that returns has cold caches and few connections; all of its callers
/// at once would bring it down again.
///
/// The default lasts 5 s, or as long as a window of time that is shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ramp {
    length: Length,
    from: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Window,
    Of(Duration),
}

/// All, in millionths.
pub(crate) const WHOLE: u32 = 1_000_000;
/// A window may reach back for minutes; caches are warm and connections there sooner.
const LONGEST: Duration = Duration::from_secs(5);
/// The parts of a ramp in each of which some calls are let through, whatever the share.
const PARTS: u64 = 16;

impl Ramp {
    /// The whole of the calls at once.
    pub const NONE: Self = Self { length: Length::Of(Duration::ZERO), from: WHOLE };

    /// A ramp of that length, from a tenth of the calls to all of them.
    ///
    /// # Errors
    /// If the length is zero ([`NONE`](Self::NONE) says that) or above a day.
    pub const fn over(length: Duration) -> Result<Self, InvalidRamp> {
        if length.is_zero() || length.as_secs() > 86_400 {
            return Err(InvalidRamp::Length(length));
        }
        Ok(Self { length: Length::Of(length), from: WHOLE / 10 })
    }

    /// The share of calls that it begins with, instead of a tenth.
    ///
    /// # Errors
    /// If the share is not above 0 and at most 1.
    pub fn from_share(mut self, share: f64) -> Result<Self, InvalidRamp> {
        if !(share > 0.0 && share <= 1.0) {
            return Err(InvalidRamp::Share(share));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most a million")]
        let millionths = (share * f64::from(WHOLE)) as u32;
        self.from = millionths.max(1);
        Ok(self)
    }

    pub(crate) fn length(self, policy: Policy) -> Duration {
        match (self.length, policy.window()) {
            (Length::Of(length), _) => length,
            (Length::Window, Some(Window(Kind::Time(length)))) => length.min(LONGEST),
            (Length::Window, _) => LONGEST,
        }
    }

    pub(crate) const fn first_share(self) -> u32 {
        self.from
    }
}

impl Default for Ramp {
    fn default() -> Self {
        Self { length: Length::Window, from: WHOLE / 10 }
    }
}

/// A ramp that has begun: times are nanoseconds on one clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Climb {
    pub(crate) since: u64,
    pub(crate) length: u64,
    pub(crate) from: u32,
}

impl Climb {
    /// The share of the calls that is admitted, in millionths; none when the ramp is over.
    pub(crate) const fn share(self, now: u64) -> Option<u32> {
        let elapsed = now.saturating_sub(self.since);
        if elapsed >= self.length {
            return None;
        }
        let grown = (WHOLE - self.from) as u128 * elapsed as u128 / self.length as u128;
        Some(self.from + grown as u32)
    }

    /// The part of the ramp, for [`Floor`].
    pub(crate) const fn part(self, now: u64) -> u64 {
        let elapsed = now.saturating_sub(self.since);
        (elapsed as u128 * PARTS as u128 / (self.length as u128 + 1)) as u64
    }
}

/// Calls that are let through whatever the share: so many in each part of a ramp. Where calls are few, a share of them
/// would refuse most to no purpose. One word: the part, and how many there were.
pub(crate) struct Floor;

impl Floor {
    /// The word with one more call of that part, or none if there were enough.
    pub(crate) const fn take(word: u64, tag: u64, most: u32) -> Option<u64> {
        let tag = tag & (u64::MAX >> 16);
        let taken = if word >> 16 == tag { word & 0xffff } else { 0 };
        if taken >= most as u64 { None } else { Some(tag << 16 | (taken + 1)) }
    }
}

/// Why a [`Ramp`] cannot be.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum InvalidRamp {
    /// No length, or more than a day.
    Length(Duration),
    /// A share outside of 0 to 1, or none, with which nothing would be let through.
    Share(f64),
}

impl fmt::Display for InvalidRamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => {
                write!(
                    f,
                    "a ramp must last above zero and at most a day, not {length:?}; Ramp::NONE is no ramp"
                )
            }
            Self::Share(share) => {
                write!(f, "a ramp's first share must be above 0 and at most 1, not {share}")
            }
        }
    }
}

impl Error for InvalidRamp {}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_cannot_be() {
        assert_eq!(Ramp::over(Duration::ZERO), Err(InvalidRamp::Length(Duration::ZERO)));
        assert!(Ramp::over(Duration::MAX).is_err());
        for share in [0.0, -1.0, 1.1, f64::NAN, f64::INFINITY] {
            assert!(matches!(Ramp::default().from_share(share), Err(InvalidRamp::Share(_))));
        }
        assert_eq!(Ramp::default().from_share(1.0).unwrap().first_share(), WHOLE);
    }

    proptest! {
        #[test]
        fn the_share_grows_from_the_first_to_all_of_it(
            since: u32, length in 1..u64::MAX / 2, from in 1..=WHOLE, a: prop::sample::Index, b: prop::sample::Index,
        ) {
            let climb = Climb { since: since.into(), length, from };
            let at = |index: prop::sample::Index| climb.since + index.index(usize::try_from(length).unwrap()) as u64;
            let [a, b] = { let mut both = [at(a), at(b)]; both.sort_unstable(); both };
            let (first, second) = (climb.share(a).unwrap(), climb.share(b).unwrap());
            prop_assert!(from <= first && first <= second && second <= WHOLE);
            prop_assert!(climb.part(a) <= climb.part(b) && climb.part(b) < PARTS);
            prop_assert_eq!(climb.share(climb.since), Some(from));
            prop_assert_eq!(climb.share(climb.since + length), None);
        }

        #[test]
        fn so_many_of_each_part_are_let_through(word: u64, parts in prop::collection::vec(0..4_u64, 1..200), most in 1..50_u32) {
            let mut parts = parts;
            parts.sort_unstable();
            // Whatever stood there before is of another part.
            let mut word = word | 1 << 63;
            let mut taken = [0; 4];
            for part in parts {
                let next = Floor::take(word, part, most);
                prop_assert_eq!(next.is_some(), taken[part as usize] < most);
                if let Some(next) = next {
                    (word, taken[part as usize]) = (next, taken[part as usize] + 1);
                }
            }
        }
    }
}

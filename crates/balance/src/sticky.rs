//! Calls with the same key go to the same endpoint: weighted rendezvous hashing, with bounded loads.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::{config::Nanos, member::Member};

/// What a call's endpoint is chosen by: made by [`Builder`](crate::Builder).
pub trait Policy<Req>: sealed::Sealed {
    /// The hash of what a call sticks to, if anything.
    #[doc(hidden)]
    fn key(&self, request: &Req) -> Option<u64>;
}

mod sealed {
    pub trait Sealed {}
}

/// Calls go where they cost least: the better of two endpoints. The default.
#[derive(Debug, Clone, Copy, Default)]
pub struct LeastLoaded;

impl sealed::Sealed for LeastLoaded {}

impl<Req> Policy<Req> for LeastLoaded {
    #[inline]
    fn key(&self, _: &Req) -> Option<u64> {
        None
    }
}

/// Calls with the same key go to the same endpoint: by [`Builder::sticky`](crate::Builder::sticky).
#[derive(Clone, Copy)]
pub struct Sticky<F>(pub(crate) F);

impl<F> fmt::Debug for Sticky<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sticky").finish_non_exhaustive()
    }
}

impl<F> sealed::Sealed for Sticky<F> {}

impl<Req, F, T> Policy<Req> for Sticky<F>
where
    F: Fn(&Req) -> Option<T>,
    T: Hash,
{
    fn key(&self, request: &Req) -> Option<u64> {
        (self.0)(request).as_ref().map(hash)
    }
}

/// The endpoint with the highest score among those that may have one more call.
pub(crate) fn owner<K, S>(
    among: &[Arc<Member<K, S>>],
    key: u64,
    bound: Option<f64>,
    now: Nanos,
) -> Option<&Arc<Member<K, S>>> {
    let best = |passes: &dyn Fn(&Member<K, S>) -> bool| {
        let passing = among.iter().filter(|member| passes(member));
        passing.map(|member| (score(member, key), member)).max_by(|(one, _), (other, _)| one.total_cmp(other))
    };
    let willing = |member: &Member<K, S>| !member.state.is_avoided(now);
    let found = match bound {
        None => best(&willing),
        Some(bound) => {
            let pending: f64 = among.iter().map(|member| f64::from(member.state.pending())).sum();
            let weights: f64 = among.iter().map(|member| member.endpoint.weight).sum();
            let most =
                |member: &Member<K, S>| (bound * (pending + 1.0) * member.endpoint.weight / weights).ceil();
            best(&|member| willing(member) && f64::from(member.state.pending()) + 1.0 <= most(member))
                .or_else(|| best(&willing))
        }
    };
    found.or_else(|| best(&|_| true)).map(|(_, member)| member)
}

/// How much an endpoint wants a key. Of all that want it, each gets it as often as its weight says.
pub(crate) fn score<K, S>(member: &Member<K, S>, key: u64) -> f64 {
    weighted(mixed(key ^ member.hash), member.endpoint.weight)
}

#[expect(clippy::cast_precision_loss, reason = "it has 53 bits")]
fn weighted(hash: u64, weight: f64) -> f64 {
    // Between 0 and 1, without either.
    let unit = ((hash >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
    -weight / unit.ln()
}

/// The same for equal values in every process, whatever machine it runs on, so that several balancers agree.
pub(crate) fn hash(value: &impl Hash) -> u64 {
    let mut hasher = Stable(0xcbf2_9ce4_8422_2325);
    value.hash(&mut hasher);
    hasher.finish()
}

/// FNV-1a, with the finish of `SplitMix64`. Nobody's map can be flooded: keys are only compared with endpoints.
struct Stable(u64);

impl Hasher for Stable {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    // Else they would be written in the machine's own order.
    fn write_u16(&mut self, value: u16) {
        self.write(&value.to_le_bytes());
    }

    fn write_u32(&mut self, value: u32) {
        self.write(&value.to_le_bytes());
    }

    fn write_u64(&mut self, value: u64) {
        self.write(&value.to_le_bytes());
    }

    fn write_u128(&mut self, value: u128) {
        self.write(&value.to_le_bytes());
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn finish(&self) -> u64 {
        mixed(self.0)
    }
}

const fn mixed(mut hash: u64) -> u64 {
    hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

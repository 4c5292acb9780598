//! What is asked of a request: whose units it takes, and how many.

use std::hash::Hash;

use crate::{inner::Inner, places::Whose};

/// Whose limits a request is charged to: [`Everybody`] or [`ByKey`]. It cannot be implemented outside of this crate.
#[expect(private_interfaces, reason = "it is sealed")]
pub trait Keyed<Req>: sealed::Sealed {
    #[doc(hidden)]
    fn whose(&self, inner: &Inner, request: &Req) -> Whose;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Everybody {}
    impl<F> Sealed for super::ByKey<F> {}
}

/// All calls share the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Everybody;

#[expect(private_interfaces, reason = "it is sealed")]
impl<Req> Keyed<Req> for Everybody {
    #[inline]
    fn whose(&self, _: &Inner, _: &Req) -> Whose {
        None
    }
}

/// Each key that this function takes from the requests has limits of its own.
#[derive(Debug, Clone, Copy)]
pub struct ByKey<F>(pub(crate) F);

#[expect(private_interfaces, reason = "it is sealed")]
impl<Req, K: Hash, F: Fn(&Req) -> K> Keyed<Req> for ByKey<F> {
    #[inline]
    fn whose(&self, inner: &Inner, request: &Req) -> Whose {
        inner.print(&(self.0)(request))
    }
}

/// How many units a request takes: one, or what a `Fn(&Req) -> u32` says.
pub trait Weigh<Req> {
    /// The units. Zero takes none; more than a limit has at once is refused for good.
    fn units(&self, request: &Req) -> u32;
}

/// Every call takes one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct One;

impl<Req> Weigh<Req> for One {
    #[inline]
    fn units(&self, _: &Req) -> u32 {
        1
    }
}

impl<Req, F: Fn(&Req) -> u32> Weigh<Req> for F {
    #[inline]
    fn units(&self, request: &Req) -> u32 {
        self(request)
    }
}

//! Whose limit a request asks for.

use std::fmt::Display;

use crate::{
    ByKey, Everybody,
    cluster::{ClusterLimiter, shared::Step},
};

/// Whose limit a request asks for: [`Everybody`]'s, or that of a key ([`ByKey`]). It cannot be implemented outside of this
/// crate.
#[expect(private_interfaces, reason = "it is sealed")]
pub trait Select<Req>: sealed::Sealed {
    /// Whether all requests ask for the limiter's own limit.
    #[doc(hidden)]
    const IS_ONE: bool;

    #[doc(hidden)]
    fn enter(&self, limiter: &ClusterLimiter, request: &Req, units: u32) -> Step;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for crate::Everybody {}
    impl<F> Sealed for crate::ByKey<F> {}
}

#[expect(private_interfaces, reason = "it is sealed")]
impl<Req> Select<Req> for Everybody {
    const IS_ONE: bool = true;

    #[inline(always)]
    fn enter(&self, limiter: &ClusterLimiter, _: &Req, units: u32) -> Step {
        limiter.enter(units)
    }
}

#[expect(private_interfaces, reason = "it is sealed")]
impl<F: Fn(&Req) -> K, K: Display, Req> Select<Req> for ByKey<F> {
    const IS_ONE: bool = false;

    #[inline]
    fn enter(&self, limiter: &ClusterLimiter, request: &Req, units: u32) -> Step {
        limiter.enter_for(&(self.0)(request), units)
    }
}

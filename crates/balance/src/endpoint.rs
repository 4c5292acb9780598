use std::{error::Error, fmt};

/// A service behind a balancer, with its weight and its zone.
///
/// The service is cloned for each call that goes to it, and shared between threads: it must be `Clone` and `Sync`. A boxed
/// one is `tower::util::BoxCloneSyncService`.
#[derive(Debug, Clone)]
pub struct Endpoint<S> {
    pub(crate) service: S,
    pub(crate) weight: f64,
    pub(crate) zone: Option<Box<str>>,
}

impl<S> Endpoint<S> {
    /// An endpoint of weight 1, in no zone.
    pub const fn new(service: S) -> Self {
        Self { service, weight: 1.0, zone: None }
    }

    /// The same, with its share of the calls against that of the others: of two that are equally fast, one of weight 2 has
    /// twice as many calls in flight as one of weight 1. From 0.001 to 1,000.
    ///
    /// # Errors
    /// When it is no number in these bounds.
    pub fn weight(mut self, weight: f64) -> Result<Self, InvalidWeight> {
        if !(0.001..=1_000.0).contains(&weight) {
            return Err(InvalidWeight(weight));
        }
        self.weight = weight;
        Ok(self)
    }

    /// The same, in a zone, such as `eu-1a`: see [`Builder::zone`](crate::Builder::zone).
    #[must_use]
    pub fn zone(mut self, zone: impl Into<Box<str>>) -> Self {
        self.zone = Some(zone.into());
        self
    }
}

/// A change of the endpoints.
#[derive(Debug, Clone)]
pub enum Change<K, S> {
    /// There is an endpoint under this key; it replaces one that had the key.
    Insert(K, Endpoint<S>),
    /// The endpoint of this key is gone.
    Remove(K),
}

/// A weight that cannot be: from [`Endpoint::weight`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InvalidWeight(f64);

impl fmt::Display for InvalidWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the weight of an endpoint is from 0.001 to 1000, and not {}", self.0)
    }
}

impl Error for InvalidWeight {}

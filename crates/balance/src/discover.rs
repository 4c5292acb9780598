use std::{fmt, hash::Hash, num::NonZeroUsize, sync::Arc};

use futures_core::Stream;

use crate::{Balance, Builder, Change, InvalidBalance, driver::Driver};

impl<P, C> Builder<P, C> {
    /// So many endpoints of a [discovery](Self::discover) are used; those that come later wait for a place. Default: 1,000.
    ///
    /// # Errors
    /// When it is 0.
    pub fn max_endpoints(mut self, most: usize) -> Result<Self, InvalidBalance> {
        let one_at_least = InvalidBalance("a balancer has room for one endpoint at least");
        self.settings.max_endpoints = NonZeroUsize::new(most).ok_or(one_at_least)?;
        Ok(self)
    }

    /// A balancer over the endpoints that this source brings, for as long as it does. See the
    /// [crate's documentation](crate#where-endpoints-come-from).
    ///
    /// A task follows the source. It ends, and the source is dropped, when the source ends or panics, or with the last clone
    /// of the balancer and the last call that waits because it found no endpoint; [`Members`](crate::Members) and
    /// [`Balancer`](crate::Balancer) do not keep it alive.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn discover<K, S, D, E>(self, source: D) -> Balance<K, S, P, C>
    where
        K: Eq + Hash + Clone + fmt::Display + Send + Sync + 'static,
        S: Send + Sync + 'static,
        D: Stream<Item = Result<Change<K, S>, E>> + Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        let limit = self.settings.max_endpoints.get();
        self.build_with(|origin, members| Some(Arc::new(Driver::spawn(origin, members, source, limit))))
    }
}

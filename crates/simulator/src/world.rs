use std::{
    fmt,
    sync::{Arc, PoisonError},
    time::Duration,
};

use crate::{Backend, BackendService, state::Shared};

/// A simulation that is about to begin: it makes backends, for a stack to be built around them.
pub struct World {
    pub(crate) shared: Arc<Shared>,
}

impl World {
    /// A backend. What it does follows from the seed, whatever the other backends do.
    #[must_use]
    pub fn backend(&self, backend: Backend) -> BackendService {
        let number = self.shared.with(|state| state.add_backend(backend));
        BackendService { shared: Arc::clone(&self.shared), number }
    }

    /// A figure of the stack to be read at the end of each sampling interval, such as a breaker's state or a limit that
    /// adapts itself. Reports and charts show it.
    pub fn gauge(&self, name: &str, read: impl FnMut() -> f64 + Send + 'static) {
        let mut gauges = self.shared.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        gauges.push((name.to_owned(), Box::new(read)));
    }

    /// The virtual time since the beginning. tokio's clock tells the same.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.shared.now())
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("now", &self.now()).finish_non_exhaustive()
    }
}

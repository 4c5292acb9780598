use std::{sync::Arc, time::Duration};

use buttress_core::{Origin, thread_stripes};
use tower_layer::Layer;

use crate::{
    ByKey, Everybody, Limit, One,
    cluster::{
        ClusterLimiter, Clustered, Store, WhenAway,
        shared::{Settings, Shared, Spawn},
        worker::work,
    },
};

/// Puts a cluster-wide limit before a service. All services that one layer makes, and their clones, are one node.
///
/// See the [module's documentation](crate::cluster).
#[derive(Debug, Clone)]
pub struct ClusterLayer<W = One, K = Everybody> {
    limiter: ClusterLimiter,
    weight: W,
    keys: K,
}

impl ClusterLayer {
    /// A limit of that name, kept in that store. Nodes that use the same name and store share it, and must give it the same
    /// limits.
    #[must_use]
    pub fn builder<St: Store>(name: &str, limit: impl Into<Limit>, store: St) -> ClusterBuilder<St> {
        let settings = Settings {
            origin: Origin::new("rate-limit", name),
            limits: vec![limit.into()],
            leases: false,
            when_away: WhenAway::default(),
            timeout: Duration::from_millis(50),
            capacity: 1_024,
            node: None,
        };
        ClusterBuilder { settings, store, weight: One, keys: Everybody }
    }
}

impl<W, K> ClusterLayer<W, K> {
    /// The handle of the limit.
    #[must_use]
    pub fn limiter(&self) -> ClusterLimiter {
        self.limiter.clone()
    }
}

impl<S, W: Clone, K: Clone> Layer<S> for ClusterLayer<W, K> {
    type Service = Clustered<S, W, K>;

    fn layer(&self, inner: S) -> Self::Service {
        Clustered::new(inner, self.limiter.clone(), self.weight.clone(), self.keys.clone())
    }
}

/// The settings of a cluster-wide limit: made by [`ClusterLayer::builder`].
#[derive(Debug, Clone)]
pub struct ClusterBuilder<St, W = One, K = Everybody> {
    settings: Settings,
    store: St,
    weight: W,
    keys: K,
}

impl<St, W, K> ClusterBuilder<St, W, K> {
    /// Holds this limit as well: a call takes its units from all of them, or is refused.
    #[must_use]
    pub fn and(mut self, limit: impl Into<Limit>) -> Self {
        self.settings.limits.push(limit.into());
        self
    }

    /// Decides locally, on units that are taken ahead of need. Default: the store decides each call.
    #[must_use]
    pub const fn leased(mut self) -> Self {
        self.settings.leases = true;
        self
    }

    /// What becomes of calls while the store is away. Default: [`WhenAway::LocalShare`].
    #[must_use]
    pub const fn when_away(mut self, when_away: WhenAway) -> Self {
        self.settings.when_away = when_away;
        self
    }

    /// So long a call waits for the store, and so long the store has for an answer. Default: 50 ms. Of no time at all, a
    /// store that does not answer at once is away.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// So many keys at most are remembered at the same time; rounded up to a multiple of 16, and at least one. Each takes
    /// about 1 kB. Default: 1,024. Keys that there is no room for are asked for call by call.
    #[must_use]
    pub const fn capacity(mut self, keys: usize) -> Self {
        self.settings.capacity = if keys == 0 { 1 } else { keys };
        self
    }

    /// A number that no other node has. Default: a random one. Simulations set it, so that they can be repeated.
    #[must_use]
    pub const fn node_id(mut self, id: u64) -> Self {
        self.settings.node = Some(id);
        self
    }

    /// So many units a request takes: any `Fn(&Req) -> u32`. One of no units is always admitted. Default: one.
    #[must_use]
    pub fn weight<F>(self, weight: F) -> ClusterBuilder<St, F, K> {
        let Self { settings, store, keys, .. } = self;
        ClusterBuilder { settings, store, weight, keys }
    }

    /// Gives each key of the requests limits of its own: any `Fn(&Req) -> T` with `T: Display`. What a key shows is what the
    /// store knows it by: `"7"` and `7` are one key.
    #[must_use]
    pub fn keyed<F>(self, key: F) -> ClusterBuilder<St, W, ByKey<F>> {
        let Self { settings, store, weight, .. } = self;
        ClusterBuilder { settings, store, weight, keys: ByKey(key) }
    }

    /// The layer. Nothing is asked of the store before the first call.
    #[must_use]
    pub fn build(self) -> ClusterLayer<W, K>
    where
        St: Store,
    {
        let Self { settings, store, weight, keys } = self;
        let store = Arc::new(store);
        let spawn: Spawn = Box::new(move |shared, number| {
            // It ends by itself.
            drop(tokio::spawn(work(shared, Arc::clone(&store), number)));
        });
        ClusterLayer {
            limiter: ClusterLimiter::new(Shared::new(settings, thread_stripes(), spawn)),
            weight,
            keys,
        }
    }
}

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use buttress_core::{Classify, Observe, Rejectable};
use buttress_telemetry::{Convention, RegisterError, Registry};
use pin_project_lite::pin_project;
use tower::{ServiceExt, util::Oneshot};
use tower_service::Service;

use super::layers::{Layers, Stack, Values};
use crate::explain;

/// An adapter behind its layers, which can be exchanged while calls are on their way: those have the layers with which they
/// began.
pub(crate) struct Part<S, V, C> {
    name: Arc<str>,
    pub(crate) adapter: S,
    classify: C,
    current: ArcSwap<Current<S, V, C>>,
}

struct Current<S, V, C> {
    layers: Layers<V, C>,
    stack: Stack<S, V, C>,
}

impl<S, V, C> Part<S, V, C>
where
    S: Clone,
    V: Convention + Clone + Send + Sync,
    C: Clone + Send + Sync,
{
    pub(crate) fn new(name: &str, adapter: S, classify: C, layers: Layers<V, C>) -> Self {
        let stack = layers.service(adapter.clone());
        let current = ArcSwap::from_pointee(Current { layers, stack });
        Self { name: name.into(), adapter, classify, current }
    }

    /// The layers work by other values from here on.
    pub(crate) fn change(&self, values: Values, registry: &Registry, observe: &dyn Observe) {
        let before = self.layers();
        let layers = before.changed(&self.name, &self.classify, values);
        if let Err(error) = layers.register(&self.name, registry, observe) {
            // They work, and that is what counts.
            tracing::warn!(%error, part = &*self.name, "the changed layers cannot be shown");
        }
        before.leave(Some(&layers), registry);
        let stack = layers.service(self.adapter.clone());
        self.current.store(Arc::new(Current { layers, stack }));
    }

    pub(crate) fn explained(&self, observe: &dyn Observe) -> explain::Stack {
        self.current.load().layers.explained(&self.name).layer(observe)
    }

    /// Takes the layers out of the registry, for another part of this name.
    pub(crate) fn leave(&self, registry: &Registry, observe: &dyn Observe) {
        self.current.load().layers.leave(None, registry);
        let adapter = observe.origin();
        registry.remove(adapter.layer(), adapter.name());
    }

    pub(crate) fn register(&self, registry: &Registry, observe: &dyn Observe) -> Result<(), RegisterError> {
        self.current.load().layers.register(&self.name, registry, observe)
    }

    /// A question after its health: past all layers but the breaker, which refuses it while it is open, and hears how it ends.
    /// So who asks is told what callers get, and an open circuit is tried although nobody calls.
    pub(crate) async fn probe<Req>(&self, request: Req) -> Result<S::Response, S::Error>
    where
        S: Service<Req>,
        S::Error: Rejectable,
        C: Classify<S::Response, S::Error>,
    {
        let layers = self.layers();
        layers.behind_the_breaker(self.adapter.clone()).oneshot(request).await
    }

    pub(crate) fn layers(&self) -> Layers<V, C> {
        self.current.load().layers.clone()
    }

    /// A call through the layers as they are now.
    pub(crate) fn call<Req>(&self, request: Req) -> Calling<S, V, C, Req>
    where
        Stack<S, V, C>: Service<Req>,
    {
        let stack = self.current.load().stack.clone();
        Calling { call: Oneshot::new(stack, request) }
    }
}

pin_project! {
    /// A call of a part.
    pub(crate) struct Calling<S, V, C, Req>
    where
        Stack<S, V, C>: Service<Req>,
    {
        #[pin]
        call: Oneshot<Stack<S, V, C>, Req>,
    }
}

impl<S, V, C, Req> Future for Calling<S, V, C, Req>
where
    Stack<S, V, C>: Service<Req>,
{
    type Output = Result<<Stack<S, V, C> as Service<Req>>::Response, <Stack<S, V, C> as Service<Req>>::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}

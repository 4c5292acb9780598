use buttress_core::{Observe, Setting};

use super::Layer;

/// A stack that is to be explained: its layers, outermost first.
#[derive(Debug, Clone, PartialEq)]
pub struct Stack {
    pub(super) name: String,
    pub(super) layers: Vec<Layer>,
    pub(super) repeats: Repeats,
}

/// Which calls the retries and hedges of a stack send twice. No setting tells it, since it is a function of yours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Repeats {
    /// Nobody has said it.
    #[default]
    Untold,
    /// Those alone that may be carried out twice without harm.
    Safe,
    /// All of them, also those that do harm when they are carried out twice.
    All,
}

impl Stack {
    /// One without any layer.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), layers: Vec::new(), repeats: Repeats::Untold }
    }

    /// The next layer, inside of those before: by the settings that its handle tells now.
    #[must_use]
    pub fn layer(self, handle: &(impl Observe + ?Sized)) -> Self {
        let mut settings = Vec::new();
        handle.settings(&mut |setting| settings.push(setting));
        let origin = handle.origin();
        self.settings(origin.layer(), origin.name(), settings)
    }

    /// The next layer, inside of those before, where there is no handle yet: by its kind and its settings, as a handle
    /// would tell them.
    #[must_use]
    pub fn settings(mut self, kind: &str, name: &str, settings: Vec<Setting>) -> Self {
        self.layers.push(Layer::new(kind, name, settings));
        self
    }

    /// One more setting of the layer that was added last, which its handle does not tell: the `wait` of a rate limit, which
    /// is the layer's and not the limiter's. Without a layer it is nobody's, and nothing happens.
    #[must_use]
    pub fn also(mut self, setting: Setting) -> Self {
        if let Some(layer) = self.layers.last_mut() {
            layer.settings.push(setting);
        }
        self
    }

    /// Says which calls its retries and hedges send twice.
    #[must_use]
    pub const fn repeats(mut self, repeats: Repeats) -> Self {
        self.repeats = repeats;
        self
    }
}

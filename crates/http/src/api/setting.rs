use std::{borrow::Cow, error::Error as StdError, fmt};

use buttress_core::BoxError;

/// What is wrong with a setting of an [`ApiClient`](crate::ApiClient), or of one call of it. Nothing was sent.
///
/// It names the knob and never shows the value, which may be secret.
#[derive(Debug)]
pub struct InvalidSetting {
    knob: Cow<'static, str>,
    why: &'static str,
    source: Option<BoxError>,
}

impl InvalidSetting {
    pub(crate) fn new(knob: impl Into<Cow<'static, str>>, why: &'static str) -> Self {
        Self { knob: knob.into(), why, source: None }
    }

    pub(crate) fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The knob, and the name of the header or parameter where there is one, as in ``param `id` ``.
    #[must_use]
    pub fn knob(&self) -> &str {
        &self.knob
    }
}

impl fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.knob, self.why)
    }
}

impl StdError for InvalidSetting {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

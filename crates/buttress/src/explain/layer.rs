use std::{fmt, time::Duration};

use buttress_core::{Setting, SettingValue};

/// A layer or a client of a [`Stack`](super::Stack), by what it tells of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    kind: String,
    name: String,
    pub(super) settings: Vec<Setting>,
}

impl Layer {
    pub(super) fn new(kind: &str, name: &str, settings: Vec<Setting>) -> Self {
        Self { kind: kind.to_owned(), name: name.to_owned(), settings }
    }

    /// The kind of layer: `circuit-breaker`, `timeout`, `postgres`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is set to. Where one is there twice, the last one counts.
    #[must_use]
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// `None` where it is not told.
    pub(super) fn value(&self, name: &str) -> Option<SettingValue> {
        self.settings.iter().rev().find(|setting| setting.name == name).map(|setting| setting.value)
    }

    pub(super) fn duration(&self, name: &str) -> Option<Duration> {
        if let Some(SettingValue::Duration(duration)) = self.value(name) { Some(duration) } else { None }
    }

    pub(super) fn count(&self, name: &str) -> Option<u64> {
        if let Some(SettingValue::Count(count)) = self.value(name) { Some(count) } else { None }
    }

    pub(super) fn ratio(&self, name: &str) -> Option<f64> {
        if let Some(SettingValue::Ratio(ratio)) = self.value(name) { Some(ratio) } else { None }
    }

    /// Whether it says itself that this is off. What is not told is not off.
    pub(super) fn is_off(&self, name: &str) -> bool {
        self.value(name) == Some(SettingValue::Off)
    }

    pub(super) fn is_word(&self, name: &str, word: &str) -> bool {
        self.value(name).is_some_and(|value| matches!(value, SettingValue::Word(told) if told == word))
    }

    pub(super) fn is(&self, kind: &str) -> bool {
        self.kind == kind
    }

    pub(super) fn is_cache(&self) -> bool {
        self.is("cache") || self.is("http-cache")
    }

    pub(super) fn is_client(&self) -> bool {
        ["http", "postgres", "redis"].contains(&&*self.kind)
    }

    /// After how long it ends a call, whatever the call waits for.
    pub(super) fn limit(&self) -> Option<Duration> {
        match &*self.kind {
            "timeout" => self.duration("limit"),
            "api-client" => self.duration("timeout"),
            _ => None,
        }
    }

    /// How often it sends a call again at most.
    pub(super) fn retries(&self) -> u64 {
        if self.is("retry") { self.count("retries").unwrap_or(0) } else { 0 }
    }

    /// How many attempts of one call it has at the same time at most.
    pub(super) fn at_once(&self) -> u64 {
        if self.is("hedge") { self.count("attempts").unwrap_or(1).max(1) } else { 1 }
    }

    /// How long a call waits in it before it goes on, at most.
    pub(super) fn wait(&self) -> Option<Duration> {
        match &*self.kind {
            "bulkhead" => self.duration("max_wait"),
            "rate-limit" => self.duration("wait").or_else(|| self.duration("max_wait")),
            "balance" => self.duration("first_wait"),
            "batch" => self.duration("linger"),
            "postgres" => self.duration("wait_timeout"),
            _ => None,
        }
    }

    /// How many connections it has at most, where each carries one call at a time.
    pub(super) fn connections(&self) -> Option<u64> {
        match &*self.kind {
            "postgres" => {
                let more = self.count("max_overflow").unwrap_or(0);
                self.count("pool_size").map(|size| size.saturating_add(more))
            }
            // By HTTP/2 a connection carries many calls.
            "http" if self.is_off("http2") => {
                let counts = ["max_connections_per_host", "max_connections"];
                counts.into_iter().filter_map(|name| self.count(name)).min()
            }
            _ => None,
        }
    }
}

/// The kind and the name: ``timeout `stock` ``.
impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", Escaped(&self.kind), Quoted(&self.name))
    }
}

/// A name that may come from anywhere, on one line.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", Escaped(self.0))
    }
}

pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| {
            if c.is_control() || c == '`' { write!(f, "{}", c.escape_default()) } else { write!(f, "{c}") }
        })
    }
}

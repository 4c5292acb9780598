use std::{
    collections::HashMap,
    mem,
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    QueryError,
    named::{Parsed, parse},
    statistics::{Entry, Statistics},
    sync,
};

/// A rewritten text, and where what it costs is counted.
#[derive(Debug)]
pub(crate) struct Text {
    parsed: Parsed,
    pub(crate) entry: sync::Arc<Entry>,
}

impl Deref for Text {
    type Target = Parsed;

    fn deref(&self) -> &Parsed {
        &self.parsed
    }
}

/// The rewritten texts that were asked for recently, so that a static text costs a lookup.
///
/// It has two generations: when the young one is full it becomes the old one, and what the old one held is forgotten.
/// So it never holds more than twice [`GENERATION`] texts, and one that is asked for all the time is never forgotten.
#[derive(Debug)]
pub(crate) struct RecentTexts {
    statistics: Arc<Statistics>,
    generations: Mutex<Generations<Text>>,
}

#[derive(Debug)]
pub(crate) struct Generations<T> {
    young: HashMap<Box<str>, Arc<T>>,
    old: HashMap<Box<str>, Arc<T>>,
}

impl<T> Default for Generations<T> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

const GENERATION: usize = 256;
/// Longer texts are rewritten each time, and not kept prepared: they are made at run time and would fill the memory.
pub(crate) const LONGEST: usize = 16 * 1024;

impl RecentTexts {
    pub(crate) fn new(statistics: Arc<Statistics>) -> Self {
        Self { statistics, generations: Mutex::default() }
    }

    pub(crate) fn parse(&self, text: &str) -> Result<Arc<Text>, QueryError> {
        if text.len() > LONGEST {
            return self.read(text);
        }
        // One whose statistics gave way to others asks for a new place.
        if let Some(known) = self.lock().get(text).filter(|known| !known.entry.is_displaced()) {
            return Ok(known);
        }
        let read = self.read(text)?;
        self.lock().insert(text.into(), Arc::clone(&read));
        Ok(read)
    }

    /// A text of our own that is no query, and is sent as it is.
    pub(crate) fn verbatim(&self, text: &str) -> Text {
        let parsed = Parsed { sql: text.into(), names: HashMap::new() };
        Text { parsed, entry: self.statistics.entry(text) }
    }

    fn read(&self, text: &str) -> Result<Arc<Text>, QueryError> {
        let parsed = parse(text)?;
        Ok(Arc::new(Text { parsed, entry: self.statistics.entry(text) }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Generations<Text>> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Generations<T> {
    pub(crate) fn get(&mut self, text: &str) -> Option<Arc<T>> {
        if let Some(parsed) = self.young.get(text) {
            return Some(Arc::clone(parsed));
        }
        let (text, parsed) = self.old.remove_entry(text)?;
        self.insert(text, Arc::clone(&parsed));
        Some(parsed)
    }

    pub(crate) fn remove(&mut self, text: &str) {
        self.young.remove(text);
        self.old.remove(text);
    }

    pub(crate) fn insert(&mut self, text: Box<str>, parsed: Arc<T>) {
        if self.young.len() >= GENERATION {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(text, parsed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use buttress_core::Origin;

    use super::*;

    fn texts() -> RecentTexts {
        RecentTexts::new(Arc::new(Statistics::new(Origin::new("postgres", "recent"), Duration::MAX)))
    }

    #[test]
    fn is_bounded_and_keeps_what_is_used() {
        let texts = texts();
        let first = texts.parse("select :hot").unwrap();
        for n in 0..10_000 {
            texts.parse(&format!("select {n}")).unwrap();
            assert!(Arc::ptr_eq(&first, &texts.parse("select :hot").unwrap()));
        }
        let generations = texts.lock();
        assert!(generations.young.len() <= GENERATION && generations.old.len() <= GENERATION);
    }

    #[test]
    fn neither_errors_nor_long_texts_are_kept() {
        let texts = texts();
        assert!(texts.parse("begin").is_err());
        let long = format!("select '{}'", "a".repeat(LONGEST));
        assert_eq!(*texts.parse(&long).unwrap().sql, long);
        assert!(texts.lock().young.is_empty());
    }
}

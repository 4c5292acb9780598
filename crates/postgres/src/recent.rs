use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    QueryError,
    named::{Parsed, parse},
};

/// The rewritten texts that were asked for recently, so that a static text costs a lookup.
///
/// It has two generations: when the young one is full it becomes the old one, and what the old one held is forgotten.
/// So it never holds more than twice [`GENERATION`] texts, and one that is asked for all the time is never forgotten.
#[derive(Debug, Default)]
pub(crate) struct RecentTexts {
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Box<str>, Arc<Parsed>>,
    old: HashMap<Box<str>, Arc<Parsed>>,
}

const GENERATION: usize = 256;
/// Longer texts are rewritten each time, and not kept prepared: they are made at run time and would fill the memory.
pub(crate) const LONGEST: usize = 16 * 1024;

impl RecentTexts {
    pub(crate) fn parse(&self, text: &str) -> Result<Arc<Parsed>, QueryError> {
        if text.len() > LONGEST {
            return parse(text).map(Arc::new);
        }
        if let Some(parsed) = self.lock().get(text) {
            return Ok(parsed);
        }
        let parsed = Arc::new(parse(text)?);
        self.lock().insert(text.into(), Arc::clone(&parsed));
        Ok(parsed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn get(&mut self, text: &str) -> Option<Arc<Parsed>> {
        if let Some(parsed) = self.young.get(text) {
            return Some(Arc::clone(parsed));
        }
        let (text, parsed) = self.old.remove_entry(text)?;
        self.insert(text, Arc::clone(&parsed));
        Some(parsed)
    }

    fn insert(&mut self, text: Box<str>, parsed: Arc<Parsed>) {
        if self.young.len() >= GENERATION {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(text, parsed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bounded_and_keeps_what_is_used() {
        let texts = RecentTexts::default();
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
        let texts = RecentTexts::default();
        assert!(texts.parse("begin").is_err());
        let long = format!("select '{}'", "a".repeat(LONGEST));
        assert_eq!(*texts.parse(&long).unwrap().sql, long);
        assert!(texts.lock().young.is_empty());
    }
}

use std::collections::HashMap;

/// The prepared statements of one connection, at most `capacity` of them: the one that was used longest ago gives way.
///
/// It is generic so that it can be tested without a server.
#[derive(Debug)]
pub(crate) struct Statements<S> {
    capacity: usize,
    uses: u64,
    known: HashMap<Box<str>, Known<S>>,
}

#[derive(Debug)]
struct Known<S> {
    statement: S,
    last_use: u64,
}

impl<S: Clone> Statements<S> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, uses: 0, known: HashMap::new() }
    }

    pub(crate) fn get(&mut self, sql: &str) -> Option<S> {
        self.uses += 1;
        let known = self.known.get_mut(sql)?;
        known.last_use = self.uses;
        Some(known.statement.clone())
    }

    /// Makes room for one more. Called before that one is prepared, so that the server never holds more.
    pub(crate) fn make_room(&mut self) {
        while self.known.len() >= self.capacity {
            // A scan of a few hundred is nothing beside the round trip that follows.
            let oldest = self.known.iter().min_by_key(|(_, known)| known.last_use);
            let Some(sql) = oldest.map(|(sql, _)| sql.clone()) else { return };
            self.known.remove(&sql);
        }
    }

    pub(crate) fn insert(&mut self, sql: &str, statement: S) {
        if self.capacity > 0 {
            self.make_room();
            self.known.insert(sql.into(), Known { statement, last_use: self.uses });
        }
    }

    pub(crate) fn remove(&mut self, sql: &str) {
        self.known.remove(sql);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_used_longest_ago_gives_way() {
        let mut statements = Statements::new(2);
        statements.insert("a", 1);
        assert_eq!(statements.get("b"), None);
        statements.insert("b", 2);
        assert_eq!(statements.get("a"), Some(1));
        statements.insert("c", 3);
        assert_eq!((statements.get("a"), statements.get("b"), statements.get("c")), (Some(1), None, Some(3)));
        statements.remove("a");
        assert_eq!(statements.get("a"), None);
    }

    #[test]
    fn none_are_kept_where_none_may_be() {
        let mut statements = Statements::new(0);
        statements.make_room();
        statements.insert("a", 1);
        assert_eq!(statements.get("a"), None);
    }
}

use crate::{QueryError, identifier::quoted};

/// The name of a channel that Postgres takes as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Channel(Box<str>);

/// Postgres cuts longer names off, and `pg_notify` refuses them.
const LONGEST: usize = 63;

impl Channel {
    pub(crate) fn new(name: &str) -> Result<Self, QueryError> {
        if name.is_empty() || name.len() > LONGEST || name.contains('\0') {
            let shown = name.chars().take(LONGEST).collect::<String>().replace('\0', "\\0");
            return Err(QueryError::Channel { name: shown.into(), bytes: name.len() });
        }
        Ok(Self(name.into()))
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        *self.0 == *name
    }

    /// As it is written in SQL.
    pub(crate) fn quoted(&self) -> String {
        quoted(&self.0)
    }
}

/// So that a name that was heard is looked up as it is.
impl std::borrow::Borrow<str> for Channel {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_postgres_takes_as_it_is() {
        for name in ["orders", "Or\"ders", " ", "a'b", "é$1", "東京", &"x".repeat(63), &"é".repeat(31)] {
            assert!(Channel::new(name).is_ok(), "{name}");
        }
        for (name, shown, bytes) in [
            (String::new(), String::new(), 0),
            ("x".repeat(64), "x".repeat(63), 64),
            ("é".repeat(32), "é".repeat(32), 64),
            ("a\0b".into(), "a\\0b".into(), 3),
        ] {
            let refused = QueryError::Channel { name: shown.into(), bytes };
            assert_eq!(Channel::new(&name), Err(refused));
        }
    }

    #[test]
    fn quotes_cannot_be_left() {
        assert_eq!(Channel::new("x\"; drop table y --").unwrap().quoted(), r#""x""; drop table y --""#);
    }
}

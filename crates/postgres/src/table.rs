use std::{borrow::Cow, fmt};

use crate::identifier::quoted;

/// The name of a table, as the catalogue has it: without quotes, and in lower case unless it was made with quotes.
///
/// `"users"` is `public.users`, whatever the `search_path`; `"shop.orders"` is `orders` in the schema `shop`. Where a name has
/// a dot of its own, [`Table::new`].
///
/// ```
/// use buttress_postgres::Table;
///
/// assert_eq!(Table::from("users"), Table::new("public", "users"));
/// assert_eq!(Table::from("shop.orders").to_string(), "shop.orders");
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Table {
    schema: Cow<'static, str>,
    name: Cow<'static, str>,
}

impl Table {
    /// The table of this name in this schema.
    pub fn new(schema: impl Into<Cow<'static, str>>, name: impl Into<Cow<'static, str>>) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }

    /// As it is written in SQL.
    pub(crate) fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

#[cfg(feature = "cache")]
impl Table {
    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is what the trigger calls it: `schema.name`. Where dots make that ambiguous, it is true of both.
    pub(crate) fn is(&self, told: &str) -> bool {
        let name = told.strip_prefix(self.schema()).and_then(|rest| rest.strip_prefix('.'));
        name == Some(self.name())
    }
}

impl From<&'static str> for Table {
    fn from(name: &'static str) -> Self {
        match name.split_once('.') {
            Some((schema, name)) => Self::new(schema, name),
            None => Self::new("public", name),
        }
    }
}

impl From<String> for Table {
    fn from(name: String) -> Self {
        match name.split_once('.') {
            Some((schema, name)) => Self::new(schema.to_owned(), name.to_owned()),
            None => Self::new("public", name),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "cache")]
    #[test]
    fn what_the_trigger_says_meets_what_the_program_says() {
        for (table, told) in [
            (Table::from("users"), "public.users"),
            (Table::from("shop.orders".to_owned()), "shop.orders"),
            (Table::from("a.b.c"), "a.b.c"),
            (Table::new("a.b", "c"), "a.b.c"),
            (Table::from("public.Größe"), "public.Größe"),
        ] {
            assert!(table.is(told), "{table}");
            assert!(!table.is("public.user") && !table.is("") && !table.is(".") && !table.is("users"));
        }
    }

    #[test]
    fn quotes_cannot_be_left() {
        assert_eq!(Table::from("users").quoted(), r#""public"."users""#);
        assert_eq!(
            Table::new("Sh\"op", "x\"; drop table y --").quoted(),
            r#""Sh""op"."x""; drop table y --""#
        );
    }
}

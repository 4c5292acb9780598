use std::{borrow::Cow, error::Error, fmt, sync::Arc};

use bytes::BytesMut;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, WrongType};

use crate::{QueryError, named::Parsed, repeatable::only_reads};

/// A value that is bound. It can be asked which types it takes, which the driver's trait object cannot.
pub(crate) trait Value: ToSql + Send + Sync {
    #[cfg(feature = "cache")]
    fn takes(&self, ty: &Type) -> bool;
}

impl<T: ToSql + Send + Sync> Value for T {
    #[cfg(feature = "cache")]
    fn takes(&self, ty: &Type) -> bool {
        T::accepts(ty)
    }
}

/// One SQL statement with the values of its parameters.
///
/// A parameter is written `:name`. Where a colon means something else in SQL (`::type`, `:=`, array slices, inside of
/// strings, quoted identifiers and comments), it keeps that meaning. A name may be used several times; each must be
/// bound exactly once, which is checked before anything is sent.
///
/// A clone shares the values, so a retry or a hedge can send the query again cheaply.
///
/// `Debug` shows the names of the parameters, never their values.
///
/// ```
/// use buttress_postgres::Query;
///
/// let query = Query::new("select name from users where id = :id and created > :since::timestamptz")
///     .bind("id", 42_i64)
///     .bind("since", "2026-01-01");
/// assert!(!format!("{query:?}").contains("42"));
/// ```
#[derive(Clone)]
pub struct Query {
    text: Cow<'static, str>,
    values: Vec<(Cow<'static, str>, Arc<dyn Value>)>,
    /// What the caller knows better than the text.
    repeatable: Option<bool>,
    #[cfg(feature = "cache")]
    pub(crate) uses: crate::cache::Uses,
}

impl Query {
    /// A statement without values. The text must not contain what a client sent: bind it.
    #[must_use]
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            text: text.into(),
            values: Vec::new(),
            repeatable: None,
            #[cfg(feature = "cache")]
            uses: crate::cache::Uses::default(),
        }
    }

    /// Gives the parameter of this name (without the colon) its value. `Option::None` is SQL's `NULL`.
    #[must_use]
    pub fn bind(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl ToSql + Send + Sync + 'static,
    ) -> Self {
        self.values.push((name.into(), Arc::new(value)));
        self
    }

    /// The same, which may be carried out twice without harm: an `insert .. on conflict do nothing`, for example.
    #[must_use]
    pub fn repeatable(mut self) -> Self {
        self.repeatable = Some(true);
        self
    }

    /// The same, which must not be carried out twice: a `select` that calls a function that writes, for example.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.repeatable = Some(false);
        self
    }

    /// Whether the statement may be carried out twice, which a retry layer asks. This client never repeats a statement
    /// that may have been carried out.
    ///
    /// What was not said by [`repeatable`](Self::repeatable) or [`once`](Self::once) is told by the text, with caution:
    /// `SELECT`, `VALUES`, `TABLE`, `SHOW` and `EXPLAIN` are repeatable where none of the words `INTO`, `INSERT`,
    /// `UPDATE`, `DELETE`, `MERGE`, `ANALYZE` and no `FOR SHARE` follows, outside of strings, quoted identifiers and
    /// comments. All else is not, `WITH` included. The text does not tell what a function does: a `SELECT` that calls
    /// one that writes (`nextval`, `pg_notify`, one of your own) is taken for repeatable.
    ///
    /// ```
    /// use buttress_postgres::Query;
    ///
    /// assert!(Query::new("select name from users").is_repeatable());
    /// assert!(!Query::new("select reserve(1)").once().is_repeatable());
    /// assert!(!Query::new("update users set visits = visits + 1").is_repeatable());
    /// assert!(Query::new("update users set visits = 0").repeatable().is_repeatable());
    /// ```
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        self.repeatable.unwrap_or_else(|| only_reads(&self.text))
    }

    /// The text as it was written, with its names.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is bound, in the order in which it was.
    #[cfg(feature = "cache")]
    pub(crate) fn values(&self) -> impl Iterator<Item = (&str, &dyn Value)> {
        self.values.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The values in the order of `$1`, `$2`, ...
    pub(crate) fn resolve<'q>(&'q self, parsed: &'q Parsed) -> Result<Vec<Param<'q>>, QueryError> {
        #[cfg(feature = "cache")]
        self.uses.check(&self.text)?;
        let mut params: Vec<Option<Param<'q>>> = vec![None; parsed.names.len()];
        for (name, value) in &self.values {
            let index = *parsed.names.get(&**name).ok_or_else(|| QueryError::Unknown((&**name).into()))?;
            if params[index].replace(Param { name, value: &**value }).is_some() {
                return Err(QueryError::Twice((&**name).into()));
            }
        }
        params.into_iter().collect::<Option<_>>().ok_or_else(|| self.first_missing(parsed))
    }

    fn first_missing(&self, parsed: &Parsed) -> QueryError {
        let bound = |name: &str| self.values.iter().any(|(bound, _)| bound == name);
        let missing = parsed.names.iter().filter(|(name, _)| !bound(name)).min_by_key(|(_, index)| **index);
        QueryError::Missing(missing.map_or_else(Box::default, |(name, _)| name.clone()))
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.values.iter().map(|(name, _)| name).collect();
        f.debug_struct("Query").field("text", &self.text).field("bound", &names).finish()
    }
}

/// A value that knows its name. The driver logs its parameters by `Debug`, so that shows the name alone.
#[derive(Clone, Copy)]
pub(crate) struct Param<'q> {
    name: &'q str,
    value: &'q dyn Value,
}

impl<'q> Param<'q> {
    pub(crate) fn new(name: &'q str, value: &'q dyn Value) -> Self {
        Self { name, value }
    }
}

impl fmt::Debug for Param<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ":{}", self.name)
    }
}

impl ToSql for Param<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.to_sql_checked(ty, out)
    }

    /// The value's own word is not asked for here but in `to_sql_checked`, whose error can be given the name.
    fn accepts(_: &Type) -> bool {
        true
    }

    fn to_sql_checked(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.value.to_sql_checked(ty, out).map_err(|error| {
            // Only the driver's own reason is known not to show the value.
            let reason = match error.downcast_ref::<WrongType>() {
                Some(wrong) => wrong.to_string(),
                None => format!("its value cannot be written as the Postgres type `{ty}`"),
            };
            Unfit { name: self.name.into(), reason: reason.into() }.into()
        })
    }

    fn encode_format(&self, ty: &Type) -> Format {
        self.value.encode_format(ty)
    }
}

/// Carries a [`QueryError::Unfit`] through the driver.
#[derive(Debug, Clone)]
pub(crate) struct Unfit {
    pub(crate) name: Box<str>,
    pub(crate) reason: Box<str>,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`:{}`: {}", self.name, self.reason)
    }
}

impl Error for Unfit {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::named::parse;

    fn resolved(query: &Query) -> Result<String, QueryError> {
        query.resolve(&parse(&query.text)?).map(|params| format!("{params:?}"))
    }

    #[test]
    fn values_come_in_the_order_of_the_text() {
        let query = Query::new("select :b, :a, :b").bind("a", 1).bind("b", 2);
        assert_eq!(resolved(&query).unwrap(), "[:b, :a]");
    }

    #[test]
    fn every_name_is_bound_exactly_once() {
        let query = Query::new("select :b, :a");
        assert_eq!(resolved(&query), Err(QueryError::Missing("b".into())));
        let query = query.bind("b", 1);
        assert_eq!(resolved(&query), Err(QueryError::Missing("a".into())));
        let query = query.bind("a", 1);
        assert!(resolved(&query).is_ok());
        assert_eq!(resolved(&query.clone().bind("c", 1)), Err(QueryError::Unknown("c".into())));
        assert_eq!(resolved(&query.bind("a", 1)), Err(QueryError::Twice("a".into())));
    }

    #[test]
    fn neither_debug_nor_an_unfit_value_shows_the_value() {
        let query = Query::new("select :secret").bind("secret", "hunter2");
        assert_eq!(format!("{query:?}"), r#"Query { text: "select :secret", bound: ["secret"] }"#);
        let parsed = parse(&query.text).unwrap();
        let param = query.resolve(&parsed).unwrap()[0];
        let error = param.to_sql_checked(&Type::INT8, &mut BytesMut::new()).err().unwrap();
        assert_eq!(
            error.to_string(),
            "`:secret`: cannot convert between the Rust type `&str` and the Postgres type `int8`"
        );
    }
}

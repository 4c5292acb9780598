use tokio_postgres::types::FromSqlOwned;

use crate::{Error, Row, Rows};

/// What can be read from a [`Row`].
///
/// Tuples of up to 16 values are, by position. With the feature `derive`, `#[derive(FromRow)]` makes it so of a struct,
/// by the names of its fields. By hand it is short too:
///
/// ```
/// use buttress_postgres::{Error, FromRow, Row};
///
/// struct User {
///     name: String,
///     is_adult: bool,
/// }
///
/// impl FromRow for User {
///     fn from_row(row: &Row) -> Result<Self, Error> {
///         Ok(Self { name: row.get("name")?, is_adult: row.get::<i32>("age")? >= 18 })
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read from a row",
    note = "a struct can with `#[derive(FromRow)]` (feature `derive`), and so can tuples of up to 16 values",
    note = "a single value is read by `Row::get`, or as a tuple of one"
)]
pub trait FromRow: Sized {
    /// Reads it. It may have fewer values than the row has columns.
    ///
    /// # Errors
    /// [`Error::Decode`], which names the column, if there is no such one, its type is another, or it is `NULL` where
    /// there is no `Option`.
    fn from_row(row: &Row) -> Result<Self, Error>;
}

/// Itself, where something else asks for what rows are read as.
impl FromRow for Row {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(row.clone())
    }
}

impl Row {
    /// The row as a struct or a tuple.
    ///
    /// ```no_run
    /// # use buttress_postgres::{Error, Postgres, Query};
    /// # async fn f(db: Postgres) -> Result<(), Error> {
    /// let row = db.query(Query::new("select name, age from users limit 1")).await?.one()?;
    /// let (name, age): (String, Option<i32>) = row.read()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`FromRow::from_row`].
    pub fn read<T: FromRow>(&self) -> Result<T, Error> {
        T::from_row(self)
    }
}

impl Rows {
    /// All rows as structs or tuples, in their order.
    ///
    /// # Errors
    /// Those of [`FromRow::from_row`], for the first row that gives one.
    pub fn read_all<T: FromRow>(&self) -> Result<Vec<T>, Error> {
        // Not by `collect`, which does not know how many will come.
        let mut values = Vec::with_capacity(self.len());
        for row in self {
            values.push(row.read()?);
        }
        Ok(values)
    }
}

/// For the tuple of all that are named, and for each shorter one.
macro_rules! tuples {
    ([$($value:ident $index:literal)*]) => {};
    ([$($value:ident $index:literal)*] $next:ident $at:literal $($rest:tt)*) => {
        impl<$($value: FromSqlOwned,)* $next: FromSqlOwned> FromRow for ($($value,)* $next,) {
            fn from_row(row: &Row) -> Result<Self, Error> {
                Ok(($(row.get::<$value>($index)?,)* row.get::<$next>($at)?,))
            }
        }
        tuples!([$($value $index)* $next $at] $($rest)*);
    };
}

tuples!([] A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7 I 8 J 9 K 10 L 11 M 12 N 13 O 14 P 15);

//! Rows as structs and tuples.
#![cfg(feature = "derive")]

mod support;

use buttress_postgres::{Error, FromRow, Postgres, Query, Row, tokio_postgres::types::Type};
use buttress_testkit::TestDatabase;
use support::postgres;

#[derive(Debug, PartialEq, FromRow)]
struct User {
    id: i64,
    name: Option<String>,
    #[row(rename = "e_mail")]
    email: String,
    #[row(default)]
    visits: i32,
    r#type: String,
    #[row(flatten)]
    address: Address,
}

#[derive(Debug, PartialEq, FromRow)]
struct Address {
    city: String,
    #[row(rename = "Zip Code", default)]
    zip: Option<String>,
}

#[derive(Debug, PartialEq, FromRow)]
struct Pair(i32, String);

/// With parameters of every kind, but lifetimes.
#[derive(Debug, PartialEq, FromRow)]
struct Tagged<T, U = i32, const N: usize = 3>
where
    U: Clone,
{
    tag: Vec<T>,
    #[row(default)]
    missing: U,
    #[row(flatten)]
    sized: Sized<N>,
    #[row(flatten)]
    rest: Wrapped<T>,
}

#[derive(Debug, PartialEq)]
struct Sized<const N: usize>;

impl<const N: usize> FromRow for Sized<N> {
    fn from_row(_: &Row) -> Result<Self, Error> {
        Ok(Self)
    }
}

#[derive(Debug, PartialEq, FromRow)]
struct Wrapped<T>(Vec<T>);

/// The names in the derived code are its own, whoever wrote the struct.
macro_rules! reads {
    ($name:ident: $ty:ty) => {
        #[derive(Debug, PartialEq, FromRow)]
        #[row(crate = "buttress_postgres")]
        struct $name {
            row: $ty,
        }
    };
}
reads!(ByMacro: Option<String>);

async fn db() -> (TestDatabase, Postgres) {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    (test, db)
}

async fn one(db: &Postgres, sql: &'static str) -> Row {
    db.query(Query::new(sql)).await.unwrap().one().unwrap()
}

#[tokio::test]
async fn structs_are_read_by_name() {
    let (_test, db) = db().await;
    let sql = "select 'Paris' as city, 'admin' as type, 7::int8 as id, null::text as name, 'a@b' as e_mail, 1 as extra";
    let user: User = one(&db, sql).await.read().unwrap();
    let address = Address { city: "Paris".to_owned(), zip: None };
    let email = "a@b".to_owned();
    assert_eq!(user, User { id: 7, name: None, email, visits: 0, r#type: "admin".to_owned(), address });

    let row = one(&db, "select 'Rome' as \"CITY\", '00100' as \"Zip Code\"").await;
    assert_eq!(
        row.read::<Address>().unwrap(),
        Address { city: "Rome".to_owned(), zip: Some("00100".to_owned()) }
    );
    assert!(row.has("city") && row.has("zip code") && !row.has("zip"));
    // The first of several.
    assert_eq!(one(&db, "select 'a' as city, 'b' as city").await.read::<Address>().unwrap().city, "a");
}

#[tokio::test]
async fn tuples_and_tuple_structs_are_read_by_position() {
    let (_test, db) = db().await;
    let row = one(&db, "select 1 as b, 'x' as a, null::bool, 2.5::float8").await;
    assert_eq!(row.read::<(i32,)>().unwrap(), (1,));
    let all: (i32, String, Option<bool>, f64) = row.read().unwrap();
    assert_eq!(all, (1, "x".to_owned(), None, 2.5));
    assert_eq!(row.read::<Pair>().unwrap(), Pair(1, "x".to_owned()));

    type Sixteen = (i32, i32, i32, i32, i32, i32, i32, i32, i32, i32, i32, i32, i32, i32, i32, String);
    let row = one(&db, "select 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 'sixteen'").await;
    let read: Sixteen = row.read().unwrap();
    assert_eq!((read.0, read.9, read.14, &*read.15), (1, 10, 15, "sixteen"));
}

#[tokio::test]
async fn structs_with_parameters_and_those_that_macros_wrote_are_read() {
    let (_test, db) = db().await;
    let row = one(&db, "select array['a', 'b'] as tag").await;
    let read: Tagged<String> = row.read().unwrap();
    let names = || vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(read, Tagged { tag: names(), missing: 0, sized: Sized, rest: Wrapped(names()) });
    let row = one(&db, "select 'x' as row").await;
    assert_eq!(row.read::<ByMacro>().unwrap(), ByMacro { row: Some("x".to_owned()) });
}

#[tokio::test]
async fn all_rows_are_read_in_their_order() {
    let (_test, db) = db().await;
    let rows = db.query(Query::new("select n, 'n' || n from generate_series(1, 1000) n")).await.unwrap();
    let pairs: Vec<Pair> = rows.read_all().unwrap();
    assert_eq!((pairs.len(), &pairs[999]), (1000, &Pair(1000, "n1000".to_owned())));
    let none = db.query(Query::new("select 1 where false")).await.unwrap();
    // There is no row that could be of another type.
    assert_eq!(none.read_all::<Pair>().unwrap(), []);
    assert_eq!(
        none.one().and_then(|row| row.read::<Pair>()).unwrap_err().to_string().find("no row"),
        Some(21)
    );
}

fn column(error: &Error) -> &str {
    let Error::Decode { column, .. } = error else { panic!("{error}") };
    assert!(error.to_string().contains(&format!("column `{column}`: ")), "{error}");
    column
}

#[tokio::test]
async fn what_cannot_be_read_names_its_column() {
    let (_test, db) = db().await;
    for (columns, name, why) in [
        ("'x' as name", "id", "there is no such column"),
        ("1::int8 as id, 1 as name", "name", "cannot convert"),
        ("null::int8 as id", "id", "a Postgres value was `NULL`"),
        ("1::int8 as id, '' as name", "e_mail", "there is no such column"),
        ("1::int8 as id, '' as name, '' as e_mail, null::int4 as visits", "visits", "was `NULL`"),
        ("1::int8 as id, '' as name, '' as e_mail, 'x' as type", "city", "there is no such column"),
        (
            "1::int8 as id, '' as name, '' as e_mail, 'x' as type, '' as city, 5 as \"Zip Code\"",
            "Zip Code",
            "cannot",
        ),
    ] {
        let row = db.query(Query::new(format!("select {columns}"))).await.unwrap().one().unwrap();
        let error = row.read::<User>().unwrap_err();
        assert_eq!(column(&error), name, "{columns}: {error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    let row = one(&db, "select 1, null::text").await;
    assert_eq!(column(&row.read::<Pair>().unwrap_err()), "1");
    assert_eq!(column(&row.read::<(i32, Option<String>, i32)>().unwrap_err()), "2");
    assert_eq!(column(&row.read::<(i64,)>().unwrap_err()), "0");
    let rows =
        db.query(Query::new("select nullif(n, 3) as id from generate_series(1::int8, 5) n")).await.unwrap();
    assert_eq!(column(&rows.read_all::<Only>().unwrap_err()), "id");
}

#[derive(Debug, FromRow)]
struct Only {
    #[allow(dead_code, reason = "it is not read because a row is NULL")]
    id: i64,
}

/// A value that a type of the user's own cannot read is not quoted.
#[tokio::test]
async fn an_error_shows_no_value() {
    #[derive(Debug)]
    struct Small;
    impl buttress_postgres::tokio_postgres::types::FromSql<'_> for Small {
        fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
            Err(format!("too large: {}", String::from_utf8_lossy(raw)).into())
        }
        fn accepts(_: &Type) -> bool {
            true
        }
    }
    #[derive(Debug, FromRow)]
    struct Secret {
        #[allow(dead_code, reason = "it cannot be read")]
        secret: Small,
    }
    let (_test, db) = db().await;
    let error = one(&db, "select 'hunter2' as secret").await.read::<Secret>().unwrap_err();
    assert_eq!(column(&error), "secret");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
}

/// Names that stand around the struct are not in the way of the derived code's.
#[tokio::test]
async fn a_struct_among_names_like_those_of_the_trait_is_read() {
    mod surrounded {
        #![allow(dead_code, non_upper_case_globals, reason = "the names are there to be in the way")]
        type Result = ();
        type Error = ();
        struct Option;
        struct Row;
        static row: i32 = 0;
        trait Reads {
            fn from_row() {}
            fn get() {}
        }
        impl<T> Reads for T {}
        mod core {}
        mod buttress_postgres {}

        #[derive(Debug, ::buttress_postgres::FromRow)]
        pub(super) struct Surrounded {
            pub(super) row: i32,
            #[row(default)]
            pub(super) none: ::core::option::Option<i32>,
        }
    }
    let (_test, db) = db().await;
    let read = one(&db, "select 1 as row").await.read::<surrounded::Surrounded>().unwrap();
    assert_eq!((read.row, read.none), (1, None));
}

use std::{collections::HashMap, error::Error, time::SystemTime};

use proptest::prelude::*;
use tokio::time::Instant;
use tokio_postgres::types::{ToSql, accepts, to_sql_checked};

use super::*;
use crate::cache::versions::Versions;

fn key(query: &Query) -> Option<QueryKey> {
    QueryKey::new(query, Versions::new(Instant::now()).of(&[], Instant::now))
}

fn with(value: impl ToSql + Send + Sync + 'static) -> Option<QueryKey> {
    key(&Query::new("select :v").bind("v", value))
}

#[derive(Debug, Clone, PartialEq)]
enum Bound {
    Big(Option<i64>),
    Int(i32),
    Small(i16),
    Oid(u32),
    Float(f64),
    Flag(Option<bool>),
    Text(Option<String>),
    Bytes(Vec<u8>),
    Bigs(Vec<i64>),
    Ints(Vec<i32>),
    Texts(Vec<Option<String>>),
    NoTexts(Option<Vec<String>>),
}

fn bound() -> impl Strategy<Value = Bound> {
    // Few of each kind, so that equal ones meet; and parts that look like what stands between them.
    let text = || prop_oneof![Just(String::new()), "[ab\0\u{1}\u{ff}]{1,5}"];
    prop_oneof![
        prop::option::of(-1..3_i64).prop_map(Bound::Big),
        (-1..3_i32).prop_map(Bound::Int),
        (0..2_i16).prop_map(Bound::Small),
        (0..3_u32).prop_map(Bound::Oid),
        (0..2_u8).prop_map(|n| Bound::Float(f64::from(n))),
        prop::option::of(any::<bool>()).prop_map(Bound::Flag),
        prop::option::of(text()).prop_map(Bound::Text),
        prop::collection::vec(0..2_u8, 0..9).prop_map(Bound::Bytes),
        prop::collection::vec(0..2_i64, 0..3).prop_map(Bound::Bigs),
        prop::collection::vec(0..2_i32, 0..3).prop_map(Bound::Ints),
        prop::collection::vec(prop::option::of(text()), 0..3).prop_map(Bound::Texts),
        Just(Bound::NoTexts(None)),
    ]
}

fn bind(query: Query, name: &'static str, value: Bound) -> Query {
    match value {
        Bound::Big(value) => query.bind(name, value),
        Bound::Int(value) => query.bind(name, value),
        Bound::Small(value) => query.bind(name, value),
        Bound::Oid(value) => query.bind(name, value),
        Bound::Float(value) => query.bind(name, value),
        Bound::Flag(value) => query.bind(name, value),
        Bound::Text(value) => query.bind(name, value),
        Bound::Bytes(value) => query.bind(name, value),
        Bound::Bigs(value) => query.bind(name, value),
        Bound::Ints(value) => query.bind(name, value),
        Bound::Texts(value) => query.bind(name, value),
        Bound::NoTexts(value) => query.bind(name, value),
    }
}

/// A text, and what is bound to each of three names.
fn question() -> impl Strategy<Value = (String, [Option<Bound>; 3])> {
    let bound = || prop::option::of(bound());
    ("s[ab]{0,2}", [bound(), bound(), bound()])
}

fn build((text, values): &(String, [Option<Bound>; 3]), backwards: bool) -> Query {
    let mut named: Vec<_> = ["a", "ab", "b"].into_iter().zip(values.clone()).collect();
    if backwards {
        named.reverse();
    }
    named.into_iter().fold(Query::new(text.clone()), |query, (name, value)| match value {
        Some(value) => bind(query, name, value),
        None => query,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// No two that differ have the same key, and two that do not have it, in whatever order they were bound.
    #[test]
    fn keys_are_equal_where_the_questions_are(one in question(), other in question()) {
        let (a, b) = (key(&build(&one, false)).unwrap(), key(&build(&other, false)).unwrap());
        prop_assert_eq!(a == b, one == other);
        prop_assert_eq!(Some(a), key(&build(&one, true)));
    }

    /// The same, for a single value: pairs that are nearly alike meet more often.
    #[test]
    fn keys_are_equal_where_the_values_are(one in bound(), other in bound()) {
        let of = |value: &Bound| key(&bind(Query::new("select :v"), "v", value.clone())).unwrap();
        prop_assert_eq!(of(&one) == of(&other), one == other);
    }
}

#[test]
fn nothing_types_and_arrays_are_told_apart() {
    let keys = [
        with(None::<i64>),
        with(None::<i32>),
        with(None::<String>),
        with(0_i64),
        with(0_i32),
        with(String::new()),
        with("0"),
        with(false),
        with(Vec::<i64>::new()),
        with(vec![None::<i64>]),
        with(vec![0_i64]),
        with(vec![0_i64, 0]),
        with(Vec::<u8>::new()),
        with(None::<Vec<u8>>),
        with(SystemTime::UNIX_EPOCH),
        with(std::net::IpAddr::from([127, 0, 0, 1])),
    ];
    for (index, key) in keys.iter().enumerate() {
        assert!(key.is_some(), "{index}");
        assert!(keys[..index].iter().all(|other| other != key), "{index}");
    }
    // What a value says, and not how the program holds it.
    assert_eq!(with("a"), with("a".to_owned()));
    assert_eq!(with(7_i64), with(Some(7_i64)));
}

#[test]
fn what_is_too_long_or_of_an_unknown_type_has_no_key() {
    assert!(with("a".repeat(60_000)).is_some());
    assert!(with("a".repeat(70_000)).is_none());
    assert!(with(vec![0_i64; 10_000]).is_none());
    assert!(key(&Query::new("a".repeat(60_000))).is_some());
    assert!(key(&Query::new("a".repeat(70_000))).is_none());
    // Of an extension's type.
    assert!(with(HashMap::from([("a".to_owned(), None::<String>)])).is_none());
}

/// Rounded as an `int4`, and not as a `float8`.
#[derive(Debug)]
struct Price(f64);

impl ToSql for Price {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match *ty {
            Type::INT4 => (self.0.round() as i32).to_sql(ty, out),
            _ => self.0.to_sql(ty, out),
        }
    }

    accepts!(INT4, FLOAT8);
    to_sql_checked!();
}

#[test]
fn a_value_that_is_written_in_several_ways_is_told_apart_by_all_of_them() {
    assert_ne!(with(Price(1.2)), with(Price(1.4)));
    assert_eq!(with(Price(1.2)), with(Price(1.2)));
}

/// It cannot be written.
#[derive(Debug)]
struct Broken;

impl ToSql for Broken {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_slice(b"hunter2");
        Err("hunter2".into())
    }

    accepts!(INT4);
    to_sql_checked!();
}

#[test]
fn a_value_that_cannot_be_written_has_no_key_and_no_key_shows_one() {
    assert!(with(Broken).is_none());
    let shown = format!("{:?}", with("hunter2").unwrap());
    assert!(!shown.contains("hunter2") && !shown.contains("104"), "{shown}");
}

use std::{collections::BTreeMap, time::Duration};

use buttress_rate_limit::{
    Rate,
    cluster::{Ask, Subject},
};
use buttress_redis::{
    Value,
    fuzzing::{Found, entered, granted, key, read, write},
};
use serde::{Deserialize, Serialize};

use crate::cost::bounded;

/// A value of a cache, in which everything is that serde knows of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Cached {
    name: String,
    #[serde(default)]
    tree: Option<Tree>,
    #[serde(default)]
    notes: BTreeMap<u32, Vec<u8>>,
    #[serde(default)]
    pair: (i64, bool),
    #[serde(default)]
    letter: Option<char>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Number(u64),
    Nodes(Vec<Tree>),
    Named { name: String, next: Option<Box<Tree>> },
}

/// What is read from Redis: hostile bytes are an error and take no more memory than they have a right to, what was written is
/// read back as it was, and an answer of the rate limit's script never grants more than was asked for.
///
/// The input: a byte that chooses, and the body of a value (`b`), what a script answers (`a`), or a key that an invalidation
/// names (`k`).
///
/// # Panics
/// Where that does not hold.
pub fn redis_cache(data: &[u8]) {
    match data.split_first() {
        Some((b'b', body)) => {
            bodies::<Cached>(body);
            bodies::<Tree>(body);
            bodies::<Vec<BTreeMap<String, Vec<f32>>>>(body);
            bodies::<serde_json::Value>(body);
        }
        Some((b'a', answer)) => answers(answer),
        Some((b'k', told)) => keys(told),
        _ => {}
    }
}

/// As many bytes as a value takes in memory for each byte of the body, at most.
const FACTOR: usize = 256;

/// What is nested deeper is not read.
const DEEPEST: usize = 128;

fn bodies<V: Serialize + for<'de> Deserialize<'de>>(body: &[u8]) {
    let Some(value) = bounded(body, 4_096, FACTOR, || read::<V>(body)) else { return };
    // A number may have been written longer than it has to be, a field may be missing: the first writing is what counts.
    let Some(written) = write(&value, 1 << 20) else { return };
    let Some(back) = read::<V>(&written) else {
        // An empty list may have been written as no bytes, which is a level less. The store does not store what is then too deep.
        assert!(body.len() >= DEEPEST, "what was written can be read");
        return;
    };
    assert_eq!(write(&back, 1 << 20), Some(written.clone()), "it comes back as it was");
    assert!(write(&value, written.len()).is_some(), "it fits into its length");
    assert!(written.is_empty() || write(&value, written.len() - 1).is_none(), "and not into less");
    if let Some(last) = written.len().checked_sub(1) {
        assert!(read::<V>(&written[..last]).is_none(), "half of a value is none");
    }
    assert!(read::<V>(&[&written, &b"\xc0"[..]].concat()).is_none(), "nor is one with something behind it");
}

/// The values that the bytes stand for: a digit or `-` begins a number, `(` an array, `!` is null, the rest are texts.
fn values(text: &[u8]) -> Vec<Value> {
    let words = text.split(|byte| *byte == b' ');
    let value = |word: &[u8]| match word.first() {
        Some(b'0'..=b'9' | b'-') => {
            let number = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok());
            number.map_or(Value::Double(0.5), Value::Integer)
        }
        Some(b'(') => Value::Array(vec![Value::Integer(1), Value::Null]),
        Some(b'!') => Value::Null,
        Some(b'"') => match std::str::from_utf8(&word[1..]) {
            Ok(text) => Value::String(text.into()),
            Err(_) => Value::Bytes(word.to_vec().into()),
        },
        _ => Value::Bytes(word.to_vec().into()),
    };
    words.map(value).collect()
}

fn answers(text: &[u8]) {
    let values = values(text);
    let numbers: Vec<Option<i64>> = values
        .iter()
        .map(|value| if let Value::Integer(number) = value { Some(*number) } else { None })
        .collect();
    let answer = Value::Array(values.clone());
    let read = bounded(text, 4_096, FACTOR, || entered(answer.clone()));
    if let Ok(Some(Found { fresh_for, stale_for, body, tags })) = read {
        let expected = |at: usize| Some(Duration::from_millis(u64::try_from(numbers[at]?).ok()?));
        assert_eq!((numbers[0], Some(fresh_for), Some(stale_for)), (Some(1), expected(3), expected(4)));
        assert_eq!(values[5].as_bytes(), Some(&*body));
        assert!(tags.is_none_or(|tags| tags.len() == values.len() - 6));
    }
    for (least, most) in [(0, 0), (1, 1), (1, 5), (3, 7)] {
        let mut ask = Ask::exactly(Subject::of("api".into()), vec![Rate::per_second(9).into()].into(), least);
        ask.most = most;
        let asks = vec![&ask; (values.len() / 4).max(1)];
        let answered = granted(&answer, &asks);
        assert_eq!(answered.len(), asks.len(), "an answer for each ask");
        for (at, grant) in answered.into_iter().enumerate() {
            let Some(grant) = grant else { continue };
            let said = numbers.get(4 * at).copied().flatten();
            assert_eq!(said, Some(grant.units.into()), "{text:?}");
            assert!(grant.units == 0 || (least..=most).contains(&grant.units), "{grant:?}");
        }
    }
}

fn keys(told: &[u8]) {
    for store in ["users", "all users", ""] {
        let Some((key, named)) = bounded(told, 4_096, 16, || key::<String>(store, told)) else { continue };
        assert!(told.ends_with(key.as_bytes()));
        assert!(named.is_none_or(|named| named == told), "it is the key of what it names");
    }
}

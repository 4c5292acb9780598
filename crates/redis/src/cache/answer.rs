//! How the script's answers are read. Whatever is not one of them is an error.

use std::time::Duration;

use bytes::Bytes;
use fred::types::Value;

use crate::cache::StoreError;

/// From which number on invalidations count at all, and the last one's: see the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Era {
    pub(super) birth: u64,
    pub(super) number: u64,
}

/// What every operation answers, and what it says beside it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: u64,
    pub(super) era: Era,
    rest: std::vec::IntoIter<Value>,
}

/// What `enter` says.
#[derive(Debug)]
pub(super) enum Entered {
    Found(Found),
    /// The lock is the caller's. `odd`: there was something that is not a value of this version.
    Vacant {
        odd: bool,
    },
    /// The lock is another's.
    Busy,
}

#[derive(Debug)]
pub(super) struct Found {
    pub(super) fresh_for: Duration,
    pub(super) stale_for: Duration,
    pub(super) body: Bytes,
    /// Nothing, if they are no texts: such a value is none of ours.
    pub(super) tags: Option<Vec<String>>,
}

impl Answer {
    pub(super) fn read(value: Value) -> Result<Self, StoreError> {
        let Value::Array(values) = value else { return Err(StoreError::Nonsense) };
        let mut rest = values.into_iter();
        let mut next = || number(rest.next());
        let (code, birth, number) = (next()?, next()?, next()?);
        Ok(Self { code, era: Era { birth, number }, rest })
    }

    pub(super) fn entered(mut self) -> Result<Entered, StoreError> {
        if self.code == 1 {
            let millis = Duration::from_millis;
            let (fresh_for, stale_for) =
                (millis(number(self.rest.next())?), millis(number(self.rest.next())?));
            let body = bytes(self.rest.next())?;
            return Ok(Entered::Found(Found { fresh_for, stale_for, body, tags: self.tags() }));
        }
        let odd = match number(self.rest.next())? {
            0 => false,
            1 => true,
            _ => return Err(StoreError::Nonsense),
        };
        match (self.code, self.rest.next()) {
            (2, None) => Ok(Entered::Vacant { odd }),
            (3, None) => Ok(Entered::Busy),
            _ => Err(StoreError::Nonsense),
        }
    }

    /// What is left of it. Nothing, if it is not texts.
    pub(super) fn tags(self) -> Option<Vec<String>> {
        let text = |tag: Bytes| String::from_utf8(tag.into()).ok();
        self.rest.map(|tag| bytes(Some(tag)).ok().and_then(text)).collect()
    }
}

fn number(value: Option<Value>) -> Result<u64, StoreError> {
    match value {
        Some(Value::Integer(number)) => u64::try_from(number).map_err(|_odd| StoreError::Nonsense),
        _ => Err(StoreError::Nonsense),
    }
}

fn bytes(value: Option<Value>) -> Result<Bytes, StoreError> {
    match value {
        Some(Value::Bytes(bytes)) => Ok(bytes),
        Some(Value::String(text)) => Ok(text.into_inner()),
        _ => Err(StoreError::Nonsense),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            3 => (-2..5_i64).prop_map(Value::Integer),
            1 => any::<i64>().prop_map(Value::Integer),
            2 => prop::collection::vec(any::<u8>(), 0..9).prop_map(|bytes| Value::Bytes(bytes.into())),
            2 => "[a-z]{0,9}".prop_map(|text| Value::String(text.into())),
            1 => Just(Value::Null),
            1 => Just(Value::Array(vec![Value::Integer(1)])),
            1 => any::<f64>().prop_map(Value::Double),
        ]
    }

    #[test]
    fn a_value_a_lease_and_anothers_lease_are_read() {
        let (one, text) = (Value::Integer, |text: &'static str| Value::String(text.into()));
        let found = vec![one(1), one(5), one(9), one(40), one(2), text("body"), text("a"), text("b")];
        let answer = Answer::read(Value::Array(found)).unwrap();
        assert_eq!(answer.era, Era { birth: 5, number: 9 });
        let Ok(Entered::Found(found)) = answer.entered() else { panic!("it was found") };
        assert_eq!((found.fresh_for.as_millis(), found.stale_for.as_millis()), (40, 2));
        assert_eq!(
            (&*found.body, &*found.tags.unwrap()),
            (&b"body"[..], &["a".to_owned(), "b".to_owned()][..])
        );
        let read = |code, odd| {
            let numbers = [code, 5, 9, odd].map(Value::Integer);
            Answer::read(Value::Array(numbers.into())).unwrap().entered()
        };
        assert!(matches!(read(2, 1), Ok(Entered::Vacant { odd: true })));
        assert!(matches!(read(3, 0), Ok(Entered::Busy)));
        assert!(matches!(read(4, 0), Err(StoreError::Nonsense)));
        assert!(matches!(read(2, 2), Err(StoreError::Nonsense)));
    }

    proptest! {
        #[test]
        fn any_other_answer_is_an_error_and_no_panic(values in prop::collection::vec(value(), 0..9)) {
            let whole = |value: &Value| matches!(value, Value::Integer(number) if *number >= 0);
            let plain = values.len() > 2 && values[..3].iter().all(whole);
            let answer = Answer::read(Value::Array(values.clone()));
            prop_assert_eq!(answer.is_ok(), plain);
            if let Ok(answer) = answer {
                let code = answer.code;
                match answer.entered() {
                    Ok(Entered::Found(found)) => prop_assert!(code == 1 && found.tags.is_none_or(|tags| values.len() == 6 + tags.len())),
                    Ok(_) => prop_assert!((code == 2 || code == 3) && values.len() == 4),
                    Err(_) => {}
                }
            }
        }
    }
}

//! A value's bytes: MessagePack, with the names of fields.

use bytes::Bytes;
use rmp_serde::Deserializer;
use serde::{Serialize, de::DeserializeOwned};

use super::extent::is_whole;

/// What is nested deeper is not read: it would be the stack's end.
const DEEPEST: usize = 128;

/// Nothing, if it is larger than that or cannot be written at all.
pub(crate) fn write<V: Serialize>(value: &V, limit: usize) -> Option<Bytes> {
    let mut body = Vec::new();
    let mut within = Within { body: &mut body, limit };
    rmp_serde::encode::write_named(&mut within, value).ok()?;
    Some(body.into())
}

/// Nothing, if those are not the bytes of such a value.
pub(crate) fn read<V: DeserializeOwned>(body: &[u8]) -> Option<V> {
    if !is_whole(body) {
        return None;
    }
    let mut bytes = Deserializer::new(body);
    bytes.set_max_depth(DEEPEST);
    let value = V::deserialize(&mut bytes).ok()?;
    bytes.into_inner().is_empty().then_some(value)
}

/// Takes no more than its limit.
struct Within<'a> {
    body: &'a mut Vec<u8>,
    limit: usize,
}

impl std::io::Write for Within<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.body.len() + bytes.len() > self.limit {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.body.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct User {
        name: String,
        roles: Vec<Role>,
        notes: BTreeMap<u32, Vec<u8>>,
        boss: Option<Box<User>>,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Role {
        Reader,
        Writer { since: u64 },
    }

    fn user() -> impl Strategy<Value = User> {
        let role = prop_oneof![Just(Role::Reader), any::<u64>().prop_map(|since| Role::Writer { since })];
        let notes = prop::collection::btree_map(any::<u32>(), prop::collection::vec(any::<u8>(), 0..9), 0..4);
        let user = (".{0,9}", prop::collection::vec(role, 0..4), notes);
        let user = user.prop_map(|(name, roles, notes)| User { name, roles, notes, boss: None });
        (user.clone(), prop::option::of(user))
            .prop_map(|(user, boss)| User { boss: boss.map(Box::new), ..user })
    }

    #[test]
    fn a_value_above_the_limit_is_not_written() {
        let text = "x".repeat(100);
        let whole = write(&text, 1_000).unwrap();
        assert!(write(&text, whole.len()).is_some() && write(&text, whole.len() - 1).is_none());
    }

    #[test]
    fn what_claims_to_be_huge_or_is_nested_without_end_is_none() {
        for claim in [&b"\xdd\xff\xff\xff\xff\x01"[..], b"\xdb\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff"] {
            assert_eq!(read::<Vec<u64>>(claim), None);
            assert_eq!(read::<String>(claim), None);
            assert_eq!(read::<BTreeMap<u64, u64>>(claim), None);
        }
        #[derive(Debug, Deserialize)]
        struct Known {
            #[serde(default, rename = "a")]
            _a: u32,
        }
        // A field that is not known, and is skipped.
        let deep = [b"\x81\xa1b".to_vec(), vec![0x91; 500_000], vec![1]].concat();
        assert!(read::<Known>(&deep).is_none());
    }

    #[test]
    fn regression_61_no_room_is_made_for_what_a_list_only_claims_to_have() {
        struct Asked;
        impl<'de> serde::de::Visitor<'de> for Asked {
            type Value = Self;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, list: A) -> Result<Self, A::Error> {
                panic!("it is asked to make room for {:?}", list.size_hint())
            }
        }
        impl<'de> Deserialize<'de> for Asked {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_seq(Self)
            }
        }
        assert!(read::<Asked>(b"\xdd\xff\xff\xff\xff\x01").is_none());
        assert!(read::<Vec<Asked>>(b"\x91\xdc\x00\x02\x01").is_none());
    }

    proptest! {
        #[test]
        fn a_value_comes_back_and_half_of_it_does_not(user in user(), cut in any::<prop::sample::Index>()) {
            let body = write(&user, 1 << 20).unwrap();
            prop_assert_eq!(read::<User>(&body), Some(user));
            prop_assert_eq!(read::<User>(&body[..cut.index(body.len())]), None);
            prop_assert_eq!(read::<User>(&[&body, &b"\x01"[..]].concat()), None);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(
            user in user(), bytes in prop::collection::vec(any::<u8>(), 0..64), at in any::<prop::sample::Index>(),
        ) {
            let _any = read::<User>(&bytes);
            let mut body = write(&user, 1 << 20).unwrap().to_vec();
            let at = at.index(body.len());
            body.splice(at..(at + bytes.len()).min(body.len()), bytes);
            let _any = read::<User>(&body);
        }
    }
}

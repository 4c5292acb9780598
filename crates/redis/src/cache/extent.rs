//! Whether MessagePack has what it claims to have, before anything is made of it.
//!
//! serde makes room for as many elements as a list claims, up to a mebibyte for each, and again for each list in it: a hundred
//! bytes of lists that claim to be endless take a hundred times as much. Here all elements are counted first, without recursion.

/// Whether the bytes are one value, whole.
pub(super) fn is_whole(body: &[u8]) -> bool {
    let mut rest = body;
    // How many values are still to come.
    let mut due: u64 = 1;
    while due > 0 {
        // Each takes a byte at least, so there is no need to read on.
        if due > rest.len() as u64 {
            return false;
        }
        let Some((values, behind)) = next(rest) else { return false };
        due += values;
        due -= 1;
        rest = behind;
    }
    rest.is_empty()
}

/// How many values the one that comes next holds, and what stands behind its own bytes.
fn next(body: &[u8]) -> Option<(u64, &[u8])> {
    let (&marker, rest) = body.split_first()?;
    let (values, bytes, rest) = match marker {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (0, 0, rest),
        0x80..=0x8f => (2 * u64::from(marker & 0x0f), 0, rest),
        0x90..=0x9f => (u64::from(marker & 0x0f), 0, rest),
        0xa0..=0xbf => (0, u64::from(marker & 0x1f), rest),
        // Never used.
        0xc1 => return None,
        0xc4 | 0xd9 => sized(rest, 1, 0)?,
        0xc5 | 0xda => sized(rest, 2, 0)?,
        0xc6 | 0xdb => sized(rest, 4, 0)?,
        // With the byte of its type.
        0xc7 => sized(rest, 1, 1)?,
        0xc8 => sized(rest, 2, 1)?,
        0xc9 => sized(rest, 4, 1)?,
        0xcc | 0xd0 => (0, 1, rest),
        0xcd | 0xd1 | 0xd4 => (0, 2, rest),
        0xd5 => (0, 3, rest),
        0xca | 0xce | 0xd2 => (0, 4, rest),
        0xd6 => (0, 5, rest),
        0xcb | 0xcf | 0xd3 => (0, 8, rest),
        0xd7 => (0, 9, rest),
        0xd8 => (0, 17, rest),
        0xdc | 0xdd => {
            let (count, rest) = length(rest, if marker == 0xdc { 2 } else { 4 })?;
            (count, 0, rest)
        }
        0xde | 0xdf => {
            let (count, rest) = length(rest, if marker == 0xde { 2 } else { 4 })?;
            (2 * count, 0, rest)
        }
    };
    Some((values, rest.get(usize::try_from(bytes).ok()?..)?))
}

/// Of what is as long as its next bytes say, and so much more.
fn sized(body: &[u8], width: usize, more: u64) -> Option<(u64, u64, &[u8])> {
    let (length, rest) = length(body, width)?;
    Some((0, length + more, rest))
}

fn length(body: &[u8], width: usize) -> Option<(u64, &[u8])> {
    let (bytes, rest) = body.split_at_checked(width)?;
    Some((bytes.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    /// As the deserializer reads it.
    fn is_read(body: &[u8]) -> bool {
        let mut bytes = rmp_serde::Deserializer::new(body);
        <IgnoredAny as serde::Deserialize>::deserialize(&mut bytes).is_ok() && bytes.into_inner().is_empty()
    }

    #[test]
    fn every_marker_has_its_length() {
        for marker in 0..=u8::MAX {
            let wholes = (0..64).filter(|more| is_whole(&[vec![marker], vec![1; *more]].concat()));
            let read = (0..64).filter(|more| is_read(&[vec![marker], vec![1; *more]].concat()));
            assert_eq!(wholes.collect::<Vec<_>>(), read.collect::<Vec<_>>(), "{marker:#x}");
        }
    }

    #[test]
    fn what_claims_more_than_it_has_is_not_whole() {
        for claim in
            [&b"\xdd\xff\xff\xff\xff\x01"[..], b"\xdb\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\x91", b""]
        {
            assert!(!is_whole(claim), "{claim:?}");
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_deserializer(body in prop::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(&b"\x81\x91\x92\xa1\xc4\xc7\xd4\xd9\xdc\xde\x00\x01"[..])], 0..24,
        )) {
            prop_assert_eq!(is_whole(&body), is_read(&body));
        }
    }
}

//! Heads of messages as a corpus writes them: a line for each field, and a line without a colon between two messages.

use http::{HeaderMap, HeaderName, HeaderValue};

/// A head, and what a name that begins with a colon says beside it, as `:status: 404`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    pub(crate) fields: HeaderMap,
    said: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Head {
    /// The heads in the bytes; where there are fewer, the rest are empty.
    pub(crate) fn read<const N: usize>(bytes: &[u8]) -> [Self; N] {
        let mut heads = [(); N].map(|()| Self::default());
        let mut places = heads.iter_mut();
        let mut place = places.next();
        for line in bytes.split(|byte| *byte == b'\n') {
            let Some(head) = &mut place else { break };
            // The first one may be that of a name.
            match line.iter().skip(1).position(|byte| *byte == b':') {
                Some(before) => head.add(&line[..=before], line[before + 2..].trim_ascii()),
                None => place = places.next(),
            }
        }
        heads
    }

    fn add(&mut self, name: &[u8], value: &[u8]) {
        if let Some(name) = name.strip_prefix(b":") {
            self.said.push((name.to_vec(), value.to_vec()));
        } else if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            // More is refused by every server.
            let _full = self.fields.try_append(name, value);
        }
    }

    /// A number that was said, in its bounds; else the default.
    pub(crate) fn number(&self, name: &str, least: u64, most: u64, default: u64) -> u64 {
        let said = self.said.iter().find(|(said, _)| said == name.as_bytes());
        let number = said.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok());
        number.map_or(default, |number: u64| number.clamp(least, most))
    }

    /// The values of a field.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.fields.get_all(name).into_iter().map(HeaderValue::as_bytes)
    }
}

//! How much memory an answer packed by zstd may ask for.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use buttress_core::BoxError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::stack::AnyBody;

/// What RFC 9659 allows in HTTP. The decoder itself would take 128 MiB, for an answer of a few bytes.
const WIDEST: u64 = 8 << 20;

/// A body whose zstd frames (RFC 8878) are looked at as they pass.
pub(crate) struct Narrow {
    body: AnyBody,
    walk: Walk,
}

impl Narrow {
    pub(crate) fn new(body: AnyBody) -> Self {
        Self { body, walk: Walk::new() }
    }
}

impl Body for Narrow {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && self.walk.is_too_wide(data)
        {
            return Poll::Ready(Some(Err("its zstd window is larger than 8 MiB".into())));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// From header to header, over what is between them.
struct Walk {
    part: Part,
    taken: [u8; 16],
    count: usize,
    skip: u64,
}

#[derive(Clone, Copy)]
enum Part {
    Magic,
    SkippableLength,
    Descriptor,
    Window {
        is_single: bool,
        dictionary: usize,
        content: usize,
        checksum: u64,
    },
    Block {
        checksum: u64,
    },
    /// No zstd: the decoder says so.
    Unknown,
}

impl Walk {
    const fn new() -> Self {
        Self { part: Part::Magic, taken: [0; 16], count: 0, skip: 0 }
    }

    fn is_too_wide(&mut self, mut data: &[u8]) -> bool {
        while !data.is_empty() && !matches!(self.part, Part::Unknown) {
            let skipped = usize::try_from(self.skip).map_or(data.len(), |skip| skip.min(data.len()));
            data = &data[skipped..];
            self.skip -= skipped as u64;
            let Some((byte, rest)) = data.split_first() else { break };
            data = rest;
            self.taken[self.count] = *byte;
            self.count += 1;
            if self.count == self.part.length() {
                if self.pass() {
                    return true;
                }
                (self.taken, self.count) = ([0; 16], 0);
            }
        }
        false
    }

    /// A part is there. Whether it asks for too much.
    fn pass(&mut self) -> bool {
        let number = |from: usize| {
            let bytes = self.taken[from..from + 8].try_into().expect("there are eight");
            u64::from_le_bytes(bytes)
        };
        let first = self.taken[0];
        self.part = match self.part {
            Part::Magic => match number(0) {
                0xfd2f_b528 => Part::Descriptor,
                0x184d_2a50..=0x184d_2a5f => Part::SkippableLength,
                _ => Part::Unknown,
            },
            Part::SkippableLength => {
                self.skip = number(0);
                Part::Magic
            }
            Part::Descriptor => {
                let is_single = first & 0x20 != 0;
                Part::Window {
                    is_single,
                    dictionary: [0, 1, 2, 4][usize::from(first & 3)],
                    content: [usize::from(is_single), 2, 4, 8][usize::from(first >> 6)],
                    checksum: u64::from(first & 4),
                }
            }
            Part::Window { is_single, dictionary, content, checksum } => {
                let window = if is_single {
                    number(dictionary).saturating_add(if content == 2 { 256 } else { 0 })
                } else {
                    let base = 1_u64 << (10 + (first >> 3));
                    base + base / 8 * u64::from(first & 7)
                };
                if window > WIDEST {
                    return true;
                }
                Part::Block { checksum }
            }
            Part::Block { checksum } => {
                let header = number(0);
                // One byte is repeated that many times.
                self.skip = if header >> 1 & 3 == 1 { 1 } else { header >> 3 };
                if header & 1 == 1 {
                    self.skip += checksum;
                    Part::Magic
                } else {
                    Part::Block { checksum }
                }
            }
            Part::Unknown => Part::Unknown,
        };
        false
    }
}

impl Part {
    const fn length(self) -> usize {
        match self {
            Self::Magic | Self::SkippableLength => 4,
            Self::Descriptor | Self::Unknown => 1,
            Self::Window { is_single, dictionary, content, .. } => {
                dictionary + content + if is_single { 0 } else { 1 }
            }
            Self::Block { .. } => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_panic_and_no_cut_between_them_matters(
            magic in prop_oneof![Just(*b"\x28\xb5\x2f\xfd"), Just(*b"\x5a\x2a\x4d\x18"), any::<[u8; 4]>()],
            rest in prop::collection::vec(prop_oneof![any::<u8>(), 0..8_u8], 0..64),
            at in any::<prop::sample::Index>(),
        ) {
            let bytes = [&magic[..], &rest].concat();
            let (before, after) = bytes.split_at(at.index(bytes.len()));
            let mut walk = Walk::new();
            let in_two = walk.is_too_wide(before) || walk.is_too_wide(after);
            prop_assert_eq!(in_two, Walk::new().is_too_wide(&bytes));
        }
    }
}

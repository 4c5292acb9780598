//! A held body of several pieces.

use std::sync::Arc;

use hyper::body::Bytes;

/// Copied by reference, as a single `Bytes` is.
#[derive(Clone)]
pub(super) struct Pieces {
    all: Arc<[Bytes]>,
    next: usize,
    /// The bytes of those that come.
    left: u64,
}

impl Pieces {
    pub(super) fn new(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let all: Arc<[Bytes]> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        let left = all.iter().map(|piece| piece.len() as u64).sum();
        Self { all, next: 0, left }
    }

    pub(super) fn next(&mut self) -> Option<Bytes> {
        let piece = self.all.get(self.next)?.clone();
        self.next += 1;
        self.left -= piece.len() as u64;
        Some(piece)
    }

    pub(super) const fn left(&self) -> u64 {
        self.left
    }
}

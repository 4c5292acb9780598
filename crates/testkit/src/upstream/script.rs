//! A sequence of replies.

use std::collections::VecDeque;

use super::Reply;

/// Replies given in turn; the last one repeats.
#[derive(Debug, Clone)]
pub struct Script(VecDeque<Reply>);

impl Script {
    pub(super) fn next(&mut self) -> Reply {
        let next = if self.0.len() > 1 { self.0.pop_front() } else { self.0.front().cloned() };
        next.expect("a script is never empty")
    }
}

impl From<Reply> for Script {
    fn from(reply: Reply) -> Self {
        Self(VecDeque::from([reply]))
    }
}

impl<const N: usize> From<[Reply; N]> for Script {
    fn from(replies: [Reply; N]) -> Self {
        const { assert!(N > 0, "a script needs a reply") };
        Self(replies.into())
    }
}

impl From<Vec<Reply>> for Script {
    /// # Panics
    /// When there is none.
    fn from(replies: Vec<Reply>) -> Self {
        assert!(!replies.is_empty(), "a script needs a reply");
        Self(replies.into())
    }
}

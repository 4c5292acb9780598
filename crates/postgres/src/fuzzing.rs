//! What the workspace's fuzzers reach into. No part of the interface.

use std::collections::HashMap;

use crate::{QueryError, named};

/// The number of each name, from 0.
pub type Names = HashMap<Box<str>, usize>;

/// The text as it is sent, and its names.
///
/// # Errors
/// As [`Query`](crate::Query)'s text is refused.
pub fn rewritten(text: &str) -> Result<(Box<str>, Names), QueryError> {
    named::parse(text).map(|parsed| (parsed.sql, parsed.names))
}

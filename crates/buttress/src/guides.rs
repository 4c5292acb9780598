//! Guides, for reading in order or alone.

#[doc = include_str!("../docs/getting_started.md")]
pub mod getting_started {}
#[doc = include_str!("../docs/layers.md")]
pub mod layers {}
#[doc = include_str!("../docs/from_synchronous.md")]
pub mod from_synchronous {}
#[doc = include_str!("../docs/from_others.md")]
pub mod from_others {}
#[doc = include_str!("../docs/production.md")]
pub mod production {}
#[doc = include_str!("../docs/testing.md")]
pub mod testing {}

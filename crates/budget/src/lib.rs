#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod budget;
mod ledger;
mod sync;

pub use self::budget::{Budget, InvalidBudget};

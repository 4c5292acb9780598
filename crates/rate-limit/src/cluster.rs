//! One limit for several processes, kept in a [`Store`].

mod store;

pub use self::store::{Ask, Grant, Node, Store, Subject};

//! What every public type of every crate is, whatever else changes inside: `Debug`, and `Send`, `Sync`, `Unpin`, `Clone`,
//! `Error` by its kind. A field that takes one of them away would break the programs of users, and no other test of ours.
//!
//! A type that is public and not listed here fails the test.
#![cfg(all(feature = "dashboard", feature = "otlp", feature = "schema"))]

/// Asserts, for each type, what its list promises, and names all of them.
macro_rules! check {
    (
        $krate:literal:
        values: [$($value:ty),*];
        handles: [$($handle:ty),*];
        owned: [$($owned:ty),*];
        errors: [$($error:ty),*];
        futures: [$($future:ty),*];
        send_futures: [$($send_future:ty),*];
        send_only: [$($send_only:ty),*];
        traits: [$($trait:path),*];
    ) => {
        #[test]
        fn every_public_type_is_listed() {
            $(values::<$value>();)*
            $(handles::<$handle>();)*
            $(owned::<$owned>();)*
            $(errors::<$error>();)*
            $(futures::<$future>();)*
            $(send_futures::<$send_future>();)*
            $(send_only::<$send_only>();)*
            let listed = [
                $(stringify!($value),)*
                $(stringify!($handle),)*
                $(stringify!($owned),)*
                $(stringify!($error),)*
                $(stringify!($future),)*
                $(stringify!($send_future),)*
                $(stringify!($send_only),)*
                $(stringify!($trait),)*
            ];
            super::public_names::compare($krate, &listed);
        }
    };
}

mod auto_traits {
    mod balance;
    mod batch;
    mod budget;
    mod bulkhead;
    mod buttress;
    mod cache;
    mod circuit_breaker;
    mod core;
    mod given;
    mod health;
    mod hedge;
    mod http;
    mod http_cache;
    mod postgres;
    mod public_names;
    mod rate_limit;
    mod redis;
    mod retry;
    mod simulator;
    mod stacks;
    mod telemetry;
    mod timeout;
}

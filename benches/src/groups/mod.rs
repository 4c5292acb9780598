//! The rows: one file a group, in the order of the table.

mod balance;
mod batch;
mod breaker;
mod bulkhead;
mod cache;
mod hedge;
mod physical;
mod rate_limit;
mod retry;
mod stack;
mod telemetry;
mod timeout;

use crate::{
    ours::{FOR_EVER, UNREACHED},
    row::Row,
};

pub(crate) use crate::ours::bare;

pub(crate) fn rows() -> Vec<Row> {
    [
        physical::rows(),
        breaker::rows(),
        timeout::rows(),
        retry::rows(),
        hedge::rows(),
        rate_limit::rows(),
        bulkhead::rows(),
        cache::rows(),
        batch::rows(),
        balance::rows(),
        telemetry::rows(),
        stack::rows(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::body::runtime;

    #[test]
    fn every_row_does_what_its_name_says_on_each_handle() {
        for row in rows() {
            let runtime = runtime().unwrap();
            let mut body = row.build(&runtime).unwrap();
            if let Some(mut twin) = body.fork() {
                row.check(twin.as_mut(), &runtime).unwrap();
            }
            row.check(body.as_mut(), &runtime).unwrap();
        }
    }

    #[test]
    fn no_two_rows_have_the_same_name() {
        let mut ids = HashSet::new();
        for row in rows() {
            assert!(ids.insert(row.id()), "{} stands twice", row.id());
        }
    }
}

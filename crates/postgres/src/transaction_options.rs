use std::time::Duration;

use buttress_core::Backoff;

/// How [`Postgres::transaction_with`](crate::Postgres::transaction_with) runs a transaction.
///
/// ```
/// use buttress_postgres::{Isolation, TransactionOptions};
///
/// const REPORT: TransactionOptions = TransactionOptions::new().with_isolation(Isolation::RepeatableRead).read_only();
/// # let _ = REPORT;
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransactionOptions {
    isolation: Option<Isolation>,
    read_only: bool,
    deferrable: bool,
    pub(crate) retries: u32,
    backoff: Option<Backoff>,
}

/// What a transaction may see of others that run beside it. `READ UNCOMMITTED` is missing because it is `READ COMMITTED`
/// in Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// Each statement sees what was committed before it.
    ReadCommitted,
    /// Each statement sees what was committed before the first one. To write what another has written since is a
    /// serialization failure.
    RepeatableRead,
    /// As if there were no others: where no order of the transactions, one after the other, explains what each of them
    /// saw, one gets a serialization failure.
    Serializable,
}

const FIRST_DELAY: Duration = Duration::from_millis(10);
const LONGEST_DELAY: Duration = Duration::from_secs(1);

impl TransactionOptions {
    /// The server's default level of isolation, read and write, repeated four times at most.
    #[must_use]
    pub const fn new() -> Self {
        Self { isolation: None, read_only: false, deferrable: false, retries: 4, backoff: None }
    }

    /// The level of isolation. Default: the server's (`default_transaction_isolation`).
    #[must_use]
    pub const fn with_isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = Some(isolation);
        self
    }

    /// The server refuses to write (SQLSTATE 25006), but into temporary tables.
    #[must_use]
    pub const fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Serializable, read-only, and deferrable: the first statement may have to wait for others' transactions to end, but
    /// then the transaction runs as cheaply as under repeatable read, and can neither fail by a conflict nor make others
    /// fail. For long reports. (Postgres takes no notice of the word elsewhere, so it brings the other two.)
    #[must_use]
    pub const fn deferrable(mut self) -> Self {
        self.isolation = Some(Isolation::Serializable);
        self.read_only = true;
        self.deferrable = true;
        self
    }

    /// How often the closure is run again, at most, after a serialization failure or a deadlock. Zero: it is run once.
    /// Default: 4, so five runs in all.
    #[must_use]
    pub const fn with_retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// The waits before those. Default: exponential with full jitter, up to 10 ms before the first one and up to 1 s before
    /// any.
    #[must_use]
    pub const fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    pub(crate) fn backoff(&self) -> Backoff {
        self.backoff.unwrap_or_else(|| {
            Backoff::exponential(FIRST_DELAY, LONGEST_DELAY)
                .expect("the first is not zero, the cap not below it")
        })
    }

    /// The statement that begins it.
    pub(crate) fn begin(&self) -> String {
        let mut sql = String::from("BEGIN");
        if let Some(isolation) = self.isolation {
            sql.push_str(" ISOLATION LEVEL ");
            sql.push_str(match isolation {
                Isolation::ReadCommitted => "READ COMMITTED",
                Isolation::RepeatableRead => "REPEATABLE READ",
                Isolation::Serializable => "SERIALIZABLE",
            });
        }
        for (mode, is_set) in [(" READ ONLY", self.read_only), (" DEFERRABLE", self.deferrable)] {
            if is_set {
                sql.push_str(mode);
            }
        }
        sql
    }
}

impl Default for TransactionOptions {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_statement_says_all() {
        let options = TransactionOptions::new();
        assert_eq!(options.begin(), "BEGIN");
        assert_eq!(options.read_only().begin(), "BEGIN READ ONLY");
        let levels = [
            (Isolation::ReadCommitted, "BEGIN ISOLATION LEVEL READ COMMITTED"),
            (Isolation::RepeatableRead, "BEGIN ISOLATION LEVEL REPEATABLE READ"),
            (Isolation::Serializable, "BEGIN ISOLATION LEVEL SERIALIZABLE"),
        ];
        for (level, begin) in levels {
            assert_eq!(options.with_isolation(level).begin(), begin);
        }
        assert_eq!(options.deferrable().begin(), "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE");
    }

    #[test]
    fn the_default_waits_are_short_and_spread() {
        let backoff = TransactionOptions::new().backoff();
        assert_eq!((backoff.ceiling(0), backoff.cap()), (FIRST_DELAY, LONGEST_DELAY));
        assert!(backoff.delays().take(100).all(|delay| delay <= LONGEST_DELAY));
    }
}

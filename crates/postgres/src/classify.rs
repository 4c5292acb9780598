use buttress_core::{Classify, Outcome};

use crate::{Error, QueryError};

/// Tells by SQLSTATE what a result says about the database.
///
/// | outcome | for |
/// |---|---|
/// | `Success` | rows |
/// | `Failure` | no connection, a lost one, an uncertain commit; classes 08, 28, 53, 57P, 58, F0, XX; 3D000 and 57014 |
/// | `Throttled` | 53300 (too many connections), 40001, 40P01 and 55P03 (serialization, deadlock, lock not available) |
/// | its own, [`Rejected::outcome`](buttress_core::Rejected::outcome) | [`Error::Rejected`] |
/// | `Ignored` | the caller's own: data, constraints, syntax, rights, rows that are not there, a wrong query |
///
/// A serialization failure or a deadlock says that the database works and that this transaction came too close to
/// another: a retry helps, a breaker must not open. That is what `Throttled` means. 57014 is a statement that the
/// server itself cut off (`statement_timeout`): too slow, as a timeout on this side would be.
///
/// It does not know whether a call may be repeated: ask [`Error::sent`], or retry what is idempotent.
#[derive(Debug, Clone, Copy, Default)]
pub struct SqlStateClassifier;

impl SqlStateClassifier {
    /// What an error says about the database.
    #[must_use]
    pub fn outcome(error: &Error) -> Outcome {
        outcome(error)
    }

    /// Whether the server refused a statement for what one of its rows holds, so that nothing of it was carried out and the
    /// rest of the rows may well succeed without that one: what a batching layer's bisection asks.
    ///
    /// It is true of the classes 21, 22, 23, 44, 54 and P0 (data, constraints, size, and what a trigger raises), and of values
    /// that are too many bytes for one statement.
    #[must_use]
    pub fn blames_a_row(error: &Error) -> bool {
        match error {
            Error::Database { .. } => error
                .sqlstate()
                .and_then(|state| state.code().get(..2))
                .is_some_and(|class| ["21", "22", "23", "44", "54", "P0"].contains(&class)),
            Error::Query { cause: QueryError::TooLarge { .. }, .. } => true,
            _ => false,
        }
    }
}

impl<Res> Classify<Res, Error> for SqlStateClassifier {
    fn classify(&self, result: &Result<Res, Error>) -> Outcome {
        result.as_ref().err().map_or(Outcome::Success, outcome)
    }
}

pub(crate) fn outcome(error: &Error) -> Outcome {
    match error {
        Error::Rejected(rejected) => rejected.outcome(),
        Error::Connect { .. } | Error::Database { .. } => match error.sqlstate() {
            Some(state) => judge(state.code()),
            None => Outcome::Failure,
        },
        Error::Lost { .. } | Error::CommitUncertain { .. } => Outcome::Failure,
        Error::Query { .. }
        | Error::RolledBack { .. }
        | Error::Untold { .. }
        | Error::Decode { .. }
        | Error::NotFound { .. }
        | Error::TooMany { .. } => Outcome::Ignored,
    }
}

fn judge(sqlstate: &str) -> Outcome {
    match sqlstate {
        "53300" | "40001" | "40P01" | "55P03" => Outcome::Throttled(None),
        "57014" | "3D000" => Outcome::Failure,
        _ => match sqlstate.get(..2) {
            Some("08" | "28" | "53" | "58" | "F0" | "XX") => Outcome::Failure,
            Some("57") if sqlstate.starts_with("57P") => Outcome::Failure,
            _ => Outcome::Ignored,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_outcome() {
        for state in [
            "08006", "08P01", "28P01", "53100", "53200", "57P01", "57P02", "57P03", "58030", "XX000",
            "57014", "3D000",
        ] {
            assert_eq!(judge(state), Outcome::Failure, "{state}");
        }
        for state in ["53300", "40001", "40P01", "55P03"] {
            assert_eq!(judge(state), Outcome::Throttled(None), "{state}");
        }
        for state in
            ["22P02", "23505", "42601", "42P01", "0A000", "25P02", "P0001", "42501", "40002", "57000", ""]
        {
            assert_eq!(judge(state), Outcome::Ignored, "{state}");
        }
    }
}

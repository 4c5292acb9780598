use std::any::Any;

use buttress_core::{BoxError, ByError, Classify, Outcome, Rejectable, Rejected};

use crate::{Error, Rows, classify::outcome, error::is_fatal};

/// What became of the tables of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It was not carried out.
    Unchanged,
    /// It is over, and may have changed them.
    Changed,
    /// It may still be carried out.
    Unknown,
}

impl End {
    pub(crate) fn of<T, E: 'static>(result: &Result<T, E>) -> Self {
        let Err(error) = result else { return Self::Changed };
        match Ours::find(error) {
            Some(Ours::Error(error)) => Self::of_error(error),
            Some(Ours::Rejected(rejected)) => Self::of_rejected(rejected),
            None => Self::Unknown,
        }
    }

    fn of_error(error: &Error) -> Self {
        match error {
            Error::Rejected(rejected) => Self::of_rejected(rejected),
            error if !error.sent() => Self::Unchanged,
            Error::Database { cause, .. } if !cause.as_db_error().is_some_and(is_fatal) => Self::Changed,
            Error::Database { .. } | Error::Lost { .. } | Error::CommitUncertain { .. } => Self::Unknown,
            // It had an answer.
            _ => Self::Changed,
        }
    }

    pub(crate) const fn of_rejected(rejected: &Rejected) -> Self {
        if rejected.sent() { Self::Unknown } else { Self::Unchanged }
    }
}

/// Judges by SQLSTATE, whatever the service's own error is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judge;

impl<E: Rejectable + 'static> Classify<Rows, E> for Judge {
    fn classify(&self, result: &Result<Rows, E>) -> Outcome {
        match result.as_ref().err().and_then(Ours::find) {
            Some(Ours::Error(error)) => outcome(error),
            _ => ByError.classify(result),
        }
    }
}

/// What is known in an error whose type is not.
enum Ours<'a> {
    Error(&'a Error),
    Rejected(&'a Rejected),
}

impl<'a> Ours<'a> {
    fn find<E: 'static>(error: &'a E) -> Option<Self> {
        let error: &dyn Any = error;
        let error = match error.downcast_ref::<BoxError>() {
            Some(boxed) => match boxed.downcast_ref::<Error>() {
                Some(error) => error,
                None => return Rejected::in_error(&**boxed).map(Self::Rejected),
            },
            None => match error.downcast_ref::<Error>() {
                Some(error) => error,
                None => return error.downcast_ref().map(Self::Rejected),
            },
        };
        Some(Self::Error(error))
    }
}

#[cfg(test)]
mod tests {
    use buttress_core::{Origin, Reason};

    use super::*;

    fn end<E: 'static>(error: E) -> End {
        End::of(&Err::<(), E>(error))
    }

    #[test]
    fn what_was_not_sent_changed_nothing_and_what_has_no_answer_may_yet() {
        let origin = Origin::new("timeout", "judge");
        let unsent = || origin.reject(Reason::Overloaded);
        let sent = || origin.reject(Reason::DeadlineExceeded).after_sending();
        assert_eq!(End::of(&Ok::<_, Error>(())), End::Changed);
        assert_eq!((end(unsent()), end(sent())), (End::Unchanged, End::Unknown));
        assert_eq!((end(Error::from(unsent())), end(Error::from(sent()))), (End::Unchanged, End::Unknown));
        assert_eq!(
            (end(BoxError::from(unsent())), end(BoxError::from(sent()))),
            (End::Unchanged, End::Unknown)
        );
        assert_eq!(end(Error::CommitUncertain { instance: origin, cause: None }), End::Unknown);
        assert_eq!(end(BoxError::from(Error::RolledBack { instance: origin })), End::Unchanged);
        assert_eq!(end(Error::TooMany { instance: origin, rows: 2 }), End::Changed);
        // An error of the user's own tells nothing.
        assert_eq!((end("of the user's own"), end(BoxError::from("another"))), (End::Unknown, End::Unknown));
    }

    #[test]
    fn a_load_is_judged_by_its_sqlstate_in_a_box_too() {
        let origin = Origin::new("postgres", "judge");
        let caller = || Error::NotFound { instance: origin };
        assert_eq!(Judge.classify(&Err(caller())), Outcome::Ignored);
        assert_eq!(Judge.classify(&Err(BoxError::from(caller()))), Outcome::Ignored);
        assert_eq!(Judge.classify(&Err(BoxError::from("no route"))), Outcome::Failure);
    }
}

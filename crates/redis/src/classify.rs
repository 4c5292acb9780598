use buttress_core::{BoxError, Classify, Outcome, Rejectable, Rejected};

use crate::error::Error;

/// Tells from a command's result how the server is.
///
/// | result | outcome |
/// |---|---|
/// | an answer | `Success` |
/// | [`Error::Rejected`] | its own, [`Rejected::outcome`]: a command timeout is a `Failure`, also of one that waited for a connection |
/// | [`Error::Connection`] | `Failure` |
/// | `LOADING`, `MASTERDOWN`, `CLUSTERDOWN`, `READONLY`, `NOREPLICAS`, `MISCONF`, `MOVED`, `ASK` | `Failure`: it cannot serve now |
/// | `BUSY`, `UNKILLABLE` | `Failure`: while a script runs, nobody is served |
/// | `OOM` | `Failure`: no write is taken, and asking less soon does not help |
/// | `TRYAGAIN` | `Throttled`: a slot is moving, again in a moment |
/// | other errors of the server: `WRONGTYPE`, `NOSCRIPT`, `NOAUTH`, `ERR`, ... | `Ignored`: the caller's mistake |
/// | [`Error::Decode`], [`Error::Unshareable`], [`Error::InvalidName`] | `Ignored`: the caller's mistake |
///
/// It says whether a command failed, not whether it may be repeated: that is for [`Error::sent`] and
/// [`Command::is_repeatable`](crate::Command::is_repeatable).
#[derive(Debug, Clone, Copy, Default)]
pub struct KindClassifier;

impl<R> Classify<R, Error> for KindClassifier {
    fn classify(&self, result: &Result<R, Error>) -> Outcome {
        result.as_ref().map_or_else(of_error, |_| Outcome::Success)
    }
}

impl<R> Classify<R, BoxError> for KindClassifier {
    fn classify(&self, result: &Result<R, BoxError>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(error) => match error.downcast_ref() {
                Some(error) => of_error(error),
                None => error.rejected().map_or(Outcome::Failure, Rejected::outcome),
            },
        }
    }
}

fn of_error(error: &Error) -> Outcome {
    match error {
        Error::Rejected(rejected) => rejected.outcome(),
        Error::Connection(_) => Outcome::Failure,
        Error::Server(error) => match error.code() {
            "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "READONLY" | "NOREPLICAS" | "MISCONF" | "MOVED"
            | "ASK" | "BUSY" | "UNKILLABLE" | "OOM" => Outcome::Failure,
            "TRYAGAIN" => Outcome::Throttled(None),
            _ => Outcome::Ignored,
        },
        Error::Decode(_) | Error::Unshareable(_) | Error::InvalidName => Outcome::Ignored,
    }
}

#[cfg(test)]
mod tests {
    use buttress_core::{Origin, Reason};

    use super::*;
    use crate::error::ServerError;

    #[test]
    fn each_kind_is_judged_as_the_table_says() {
        let server = |text| Error::Server(ServerError::new(text));
        let timeout = Origin::new("redis", "each_kind").reject(Reason::TimedOut).after_sending();
        let full = Origin::new("redis", "each_kind").reject(Reason::Overloaded);
        for (error, outcome) in [
            (server("LOADING Redis is loading the dataset in memory"), Outcome::Failure),
            (server("OOM command not allowed"), Outcome::Failure),
            (server("BUSY Redis is busy running a script"), Outcome::Failure),
            (server("TRYAGAIN Multiple keys request during rehashing of slot"), Outcome::Throttled(None)),
            (server("WRONGTYPE Operation against a key"), Outcome::Ignored),
            (server("ERR syntax error"), Outcome::Ignored),
            (server("NOSCRIPT No matching script"), Outcome::Ignored),
            (Error::Connection("lost"), Outcome::Failure),
            (Error::Decode("nil"), Outcome::Ignored),
            (timeout.into(), Outcome::Failure),
            (full.into(), Outcome::Ignored),
        ] {
            let what = format!("{error:?}");
            assert_eq!(KindClassifier.classify(&Err::<(), _>(error)), outcome, "{what}");
        }
        let boxed: BoxError = server("LOADING").into();
        assert_eq!(KindClassifier.classify(&Err::<(), _>(boxed)), Outcome::Failure);
        assert_eq!(KindClassifier.classify(&Ok::<_, Error>(())), Outcome::Success);
    }
}

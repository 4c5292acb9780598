use buttress_core::{Decision, Origin, Reason, Rejected};

/// What a caller gets. A rejection becomes an error only where he takes it: that is the user's code, and runs with him.
#[derive(Debug)]
pub(crate) enum Outcome<Res, E> {
    Answer(Result<Res, E>),
    Rejected(Rejected),
}

impl<Res, E: From<Rejected>> Outcome<Res, E> {
    /// What a caller gets who took part in a batch that another task has sent.
    pub(crate) fn of_others(self, origin: Origin) -> Result<Res, E> {
        if let Self::Rejected(rejected) = &self
            && rejected.reason() == Reason::BatchFailed
        {
            Decision::note(origin, "failed", || "the batch that it was a part of failed as a whole".into());
        }
        self.into_result()
    }

    pub(crate) fn into_result(self) -> Result<Res, E> {
        match self {
            Self::Answer(result) => result,
            Self::Rejected(rejected) => Err(rejected.into()),
        }
    }
}

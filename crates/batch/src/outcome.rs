use buttress_core::Rejected;

/// What a caller gets. A rejection becomes an error only where he takes it: that is the user's code, and runs with him.
#[derive(Debug)]
pub(crate) enum Outcome<Res, E> {
    Answer(Result<Res, E>),
    Rejected(Rejected),
}

impl<Res, E: From<Rejected>> Outcome<Res, E> {
    pub(crate) fn into_result(self) -> Result<Res, E> {
        match self {
            Self::Answer(result) => result,
            Self::Rejected(rejected) => Err(rejected.into()),
        }
    }
}

use std::fmt;

use crate::Cause;

/// What a probe or a passive signal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// All is well.
    Well,
    /// It works, but not as it should.
    Degraded(Cause),
    /// It does not work.
    Down(Cause),
}

impl Status {
    /// Degraded, for this cause.
    pub fn degraded(cause: impl fmt::Display) -> Self {
        Self::Degraded(Cause::new(cause))
    }

    /// Down, for this cause.
    pub fn down(cause: impl fmt::Display) -> Self {
        Self::Down(Cause::new(cause))
    }

    /// Down for this cause if so, else well.
    pub fn down_if(is_down: bool, cause: impl fmt::Display) -> Self {
        if is_down { Self::down(cause) } else { Self::Well }
    }

    /// Why it is not well.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Well => None,
            Self::Degraded(cause) | Self::Down(cause) => Some(cause),
        }
    }
}

/// An error means down, for what it displays.
impl<E: fmt::Display> From<Result<(), E>> for Status {
    fn from(result: Result<(), E>) -> Self {
        match result {
            Ok(()) => Self::Well,
            Err(error) => Self::down(error),
        }
    }
}

/// How a part is, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// There was no result yet.
    Unknown,
    /// It works.
    Up,
    /// It works, but not as it should.
    Degraded,
    /// It does not work.
    Down,
}

impl State {
    /// The state as a word for logs: `unknown`, `up`, `degraded`, `down`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }

    /// Whether it can be used: up or degraded.
    #[must_use]
    pub const fn works(self) -> bool {
        matches!(self, Self::Up | Self::Degraded)
    }
}

/// How the whole is, in the words of `application/health+json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Overall {
    /// Ready, and every part is up.
    Pass,
    /// Ready, and some part is not up.
    Warn,
    /// Not ready or not live.
    Fail,
}

impl Overall {
    /// `pass`, `warn` or `fail`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

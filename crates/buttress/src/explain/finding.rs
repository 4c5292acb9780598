use std::fmt;

use super::layer::Quoted;

/// Something that the settings of a stack contradict, or leave open.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// In which stack.
    pub stack: String,
    /// The layers of which it speaks: kind and name.
    pub layers: Vec<(String, String)>,
    /// What it is, with its arithmetic, in one line.
    pub text: String,
}

/// How bad a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// A setting that cannot ever do what it is there for.
    Error,
    /// It does harm when the backend fails or is slow.
    Warning,
    /// Worth knowing, and right in many a program.
    Note,
}

impl Severity {
    /// `error`, `warning` or `note`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// On one line: the severity, the stack and the text.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} stack {}: {}", self.severity, Quoted(&self.stack), self.text)
    }
}

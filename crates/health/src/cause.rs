use std::{
    fmt::{self, Write},
    sync::Arc,
};

/// Why a part is degraded or down: one line of bounded length, fit for a log and a terminal.
///
/// Clones share the text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Cause(Arc<str>);

impl Cause {
    /// So many characters at most, escapes included.
    pub const MAX: usize = 256;

    /// What `what` displays. Control characters, and those that turn or hide text, are escaped; what is longer than
    /// [`MAX`](Self::MAX) characters is cut, and ends with `…`.
    pub fn new(what: impl fmt::Display) -> Self {
        let mut line = Line { text: String::new(), length: 0, cut: false };
        // An error is the cut, or of `what` itself: then what there is has to do.
        let _ = write!(line, "{what}");
        Self(line.end().into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Takes no more than it may hold, so that a text without an end has one here.
struct Line {
    text: String,
    length: usize,
    cut: bool,
}

impl Line {
    fn end(mut self) -> String {
        if self.cut {
            while self.length >= Cause::MAX {
                self.text.pop();
                self.length -= 1;
            }
            self.text.push('…');
        }
        self.text
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            let escape = is_odd(char);
            let length = if escape { char.escape_default().len() } else { 1 };
            if self.length + length > Cause::MAX {
                self.cut = true;
                return Err(fmt::Error);
            }
            self.length += length;
            if escape {
                self.text.extend(char.escape_default());
            } else {
                self.text.push(char);
            }
        }
        Ok(())
    }
}

/// Ends a line, steers a terminal, or shows text as something else than it is.
pub(crate) fn is_odd(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_terminals_and_logs_is_escaped() {
        for hidden in ['\u{180e}', '\u{fff9}', '\u{fffb}', '\u{e0001}', '\u{e0069}', '\u{e0100}'] {
            assert_eq!(Cause::new(hidden).as_str(), hidden.escape_default().to_string());
        }
        let cause = Cause::new("down\r\nlevel=info all well\x1b[2J\u{202e}\u{0}é");
        assert_eq!(cause.as_str(), r"down\r\nlevel=info all well\u{1b}[2J\u{202e}\u{0}é");
    }

    #[test]
    fn no_text_is_too_long() {
        for piece in ["x", "é", "\n", "\u{1b}", "ab\n"] {
            let exact = piece.repeat(1000);
            let cause = Cause::new(&exact);
            assert!(cause.as_str().chars().count() <= Cause::MAX, "{piece:?}");
            assert!(cause.as_str().ends_with('…'), "{piece:?}");
        }
        assert_eq!(Cause::new("x".repeat(Cause::MAX)).as_str(), "x".repeat(Cause::MAX));
    }

    #[test]
    fn a_text_without_an_end_has_one() {
        struct Endless;
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("again ")?;
                }
            }
        }
        assert!(Cause::new(Endless).as_str().chars().count() == Cause::MAX);
    }
}

use std::{
    borrow::Cow,
    error::Error,
    fmt::{self, Write as _},
    path::{Path, PathBuf},
};

use super::wrong::Wrong;

/// Why a configuration cannot be, in one line: where it is, the key, its value, and what to write instead.
///
/// ```text
/// buttress.toml: database.pool_sise = 40: unknown key, did you mean `pool_size`?
/// environment: BUTTRESS_DATABASE__POOL_SIZE = "many": write a whole number
/// ```
///
/// Neither `Display` nor `Debug` shows a secret: no `url`, `bearer` or value of a header, whatever is wrong with it.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigError(Box<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    origin: Origin,
    key: Option<String>,
    value: String,
    fix: Cow<'static, str>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// The program itself, or a text that it gave.
    Program,
    File(PathBuf),
    /// The environment variable of that name.
    Variable(String),
}

/// Longer values and names are cut: they are in the file.
const LONGEST: usize = 80;

impl ConfigError {
    pub(super) fn new(origin: Origin, wrong: Wrong) -> Self {
        let Wrong { key, value, fix } = wrong;
        Self(Box::new(Inner { origin, key: Some(key.into_owned()), value, fix }))
    }

    /// Of a configuration that was made in code.
    pub(crate) fn of_program(wrong: Wrong) -> Self {
        Self::new(Origin::Program, wrong)
    }

    /// Of no key.
    pub(super) fn whole(origin: Origin, fix: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { origin, key: None, value: String::new(), fix: fix.into() }))
    }

    /// The file that the value stands in, or that cannot be read. `None` where it comes from the environment or the
    /// program.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match &self.0.origin {
            Origin::File(path) => Some(path),
            _ => None,
        }
    }

    /// The key, such as `database.pool_size`, also where an environment variable sets it. `None` where the whole
    /// cannot be read.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { origin, key, value, fix } = &*self.0;
        let mut f = OneLine(f);
        match origin {
            Origin::Program => f.write_str("configuration")?,
            Origin::File(path) => f.write_str(&cut(&path.display().to_string(), 4 * LONGEST))?,
            Origin::Variable(name) => write!(f, "environment: {}", cut(name, LONGEST))?,
        }
        match (origin, key) {
            (Origin::Variable(_), _) | (_, None) => {}
            (_, Some(key)) => write!(f, ": {}", cut(key, 2 * LONGEST))?,
        }
        if !value.is_empty() {
            write!(f, " = {}", cut(value, LONGEST))?;
        }
        write!(f, ": {fix}")
    }
}

/// Says what is wrong too, since it is what a `main` that returns the error prints.
impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigError({self})")
    }
}

impl Error for ConfigError {}

/// The beginning, where it is long.
pub(super) fn cut(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}

/// Escapes whatever would begin another line, or hide or turn what is around it.
struct OneLine<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            match char {
                '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' => {
                    write!(self.0, "{}", char.escape_unicode())?;
                }
                '\u{2066}'..='\u{2069}' | '\u{feff}' => write!(self.0, "{}", char.escape_unicode())?,
                char if char.is_control() => write!(self.0, "{}", char.escape_default())?,
                char => self.0.write_char(char)?,
            }
        }
        Ok(())
    }
}

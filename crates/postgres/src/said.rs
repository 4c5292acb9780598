use std::{error::Error, fmt};

use tokio_postgres::error::{DbError, SqlState};

use crate::{condition::condition, connection::is_changed_plan};

/// Shows in one line what the server said, or the driver's error with its reasons.
///
/// The server is quoted only where its message cannot hold a value; else the SQLSTATE is shown with its name. Before it
/// was given values it cannot show any, and what it says then (a syntax error, a column that is not there, a login that
/// is refused) is what its reader needs most.
pub(crate) struct Said<'a> {
    pub(crate) cause: &'a tokio_postgres::Error,
    /// Whether the server may have had the statement's values.
    pub(crate) had_values: bool,
}

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(said) = self.cause.as_db_error() {
            let state = said.code().code();
            write!(f, "{} {state}: ", said.severity())?;
            let quoted = !self.had_values || holds_no_value(said);
            return f.write_str(if quoted { said.message() } else { condition(state) });
        }
        write!(f, "{}", self.cause)?;
        let mut link = self.cause.source();
        while let Some(error) = link {
            write!(f, ": {error}")?;
            link = error.source();
        }
        Ok(())
    }
}

/// Whether the message is one of the server's own that names objects and settings at most.
fn holds_no_value(said: &DbError) -> bool {
    // Source files of the procedural languages, in which anybody raises anything as anything.
    const LANGUAGES: [&str; 5] = ["pl_", "plpy", "plperl", "pltcl", "plv8"];
    if said.file().is_none_or(|file| LANGUAGES.iter().any(|language| file.starts_with(language))) {
        return false;
    }
    let state = said.code();
    match state.code().get(..2) {
        // The row is in the DETAIL.
        Some("23" | "44") => true,
        Some("21" | "25" | "40" | "53" | "57") => true,
        _ => {
            [SqlState::LOCK_NOT_AVAILABLE, SqlState::INVALID_COLUMN_REFERENCE].contains(state)
                || is_changed_plan(said)
                || (*state == SqlState::INSUFFICIENT_PRIVILEGE
                    && matches!(said.routine(), Some("aclcheck_error" | "ExecWithCheckOptions")))
        }
    }
}

//! Turns `:name` into `$n`. Pure: text in, text and names out.
//!
//! Outside of strings, quoted identifiers and comments a colon directly before a word is a parameter, with one
//! exception: Postgres also uses the colon for array slices, `a[1:n]` and `a[:n]`. Directly inside the brackets of a
//! subscript (not of `ARRAY[..]`, and not inside parentheses) a colon is a slice's if it stands right behind the `[` or
//! behind an operand, where no parameter could stand. So a parameter in a subscript is written `a[ :i ]` or `a[(:i)]`,
//! and in a slice `a[(:i):(:j)]` or `a[1: :j]`. Whoever confuses the two is told so by an error that names the word.

use std::collections::HashMap;

use crate::{
    QueryError,
    lexer::{Lexer, Token, in_word},
};

/// A text with `$n`, and the number of each name, from 0.
#[derive(Debug, PartialEq)]
pub(crate) struct Parsed {
    pub(crate) sql: Box<str>,
    pub(crate) names: HashMap<Box<str>, usize>,
}

/// The protocol counts a statement's parameters in 16 bits.
const MOST_NAMES: usize = 65_535;

/// Rewrites one statement.
///
/// # Errors
/// If it has positional parameters or too many names, is left open, or is a statement that a pooled connection must not run.
pub(crate) fn parse(text: &str) -> Result<Parsed, QueryError> {
    if text.contains('\0') {
        return Err(QueryError::Nul);
    }
    refuse_by_keyword(text)?;
    let mut rewriter = Rewriter::default();
    let mut lexer = Lexer::new(text);
    while let Some((token, piece)) = lexer.next() {
        match token {
            Token::Positional => return Err(QueryError::Positional(piece.into())),
            Token::Unterminated(what) => return Err(QueryError::Unterminated(what)),
            Token::Colon if !rewriter.slices() => {
                let mut ahead = lexer.clone();
                match ahead.next() {
                    Some((Token::Word, name)) => {
                        lexer = ahead;
                        rewriter.parameter(name);
                    }
                    _ => rewriter.plain(token, piece),
                }
            }
            _ => rewriter.plain(token, piece),
        }
    }
    if rewriter.names.len() > MOST_NAMES {
        return Err(QueryError::TooManyNames(rewriter.names.len()));
    }
    Ok(Parsed { sql: rewriter.sql.into(), names: rewriter.names })
}

#[derive(Debug, Default)]
struct Rewriter {
    sql: String,
    names: HashMap<Box<str>, usize>,
    open: Vec<Bracket>,
    before: Before,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bracket {
    Round,
    Subscript,
    Array,
}

/// What stands before the next token.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum Before {
    /// An operator, a comma, a keyword, the beginning: an operand comes next.
    #[default]
    Operator,
    Operand,
    /// `[`, with nothing between.
    Opened,
    /// The keyword `ARRAY`.
    Array,
}

/// Reserved words after which an operand comes, as far as they can stand in a subscript.
const OPERATORS: [&str; 13] =
    ["and", "or", "not", "case", "when", "then", "else", "in", "like", "ilike", "between", "from", "is"];

impl Rewriter {
    /// Whether a colon here is that of a slice.
    fn slices(&self) -> bool {
        self.open.last() == Some(&Bracket::Subscript)
            && matches!(self.before, Before::Operand | Before::Opened)
    }

    fn parameter(&mut self, name: &str) {
        // `limit:n` must not become the identifier `limit$1`.
        if self.sql.bytes().last().is_some_and(in_word) {
            self.sql.push(' ');
        }
        let next = self.names.len();
        let index = match self.names.get(name) {
            Some(index) => *index,
            None => *self.names.entry(name.into()).or_insert(next),
        };
        self.sql.push('$');
        self.sql.push_str(&(index + 1).to_string());
        self.before = Before::Operand;
    }

    fn plain(&mut self, token: Token, piece: &str) {
        self.sql.push_str(piece);
        self.before = match token {
            Token::Space if self.before == Before::Opened => Before::Operator,
            Token::Space => self.before,
            Token::Word if piece.eq_ignore_ascii_case("array") => Before::Array,
            Token::Word if OPERATORS.iter().any(|word| piece.eq_ignore_ascii_case(word)) => Before::Operator,
            Token::Word | Token::Number | Token::Quoted => Before::Operand,
            Token::Symbol(b'(') => {
                self.open.push(Bracket::Round);
                Before::Operator
            }
            Token::Symbol(b'[') => {
                let subscript = self.before == Before::Operand;
                self.open.push(if subscript { Bracket::Subscript } else { Bracket::Array });
                Before::Opened
            }
            Token::Symbol(b')' | b']') => {
                self.open.pop();
                Before::Operand
            }
            _ => Before::Operator,
        };
    }
}

/// What a pooled connection must not run by itself, because the next borrower would find it.
fn refuse_by_keyword(text: &str) -> Result<(), QueryError> {
    const TRANSACTION: [&str; 8] =
        ["BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE"];
    const SESSION: [&str; 8] =
        ["SET", "RESET", "DISCARD", "DEALLOCATE", "PREPARE", "LISTEN", "UNLISTEN", "LOAD"];

    // An empty statement before the first one is none to Postgres.
    let mut tokens =
        Lexer::new(text).filter(|(token, _)| !matches!(token, Token::Space | Token::Symbol(b'(' | b';')));
    let mut words = tokens.by_ref().map_while(|(token, piece)| (token == Token::Word).then_some(piece));
    let Some(first) = words.next() else { return Ok(()) };
    let second = words.next().unwrap_or_default();
    let one_of = |list: &[&'static str], word: &str| {
        list.iter().find(|listed| listed.eq_ignore_ascii_case(word)).copied()
    };

    if let Some(keyword) = one_of(&TRANSACTION, first) {
        return Err(QueryError::TransactionControl(keyword));
    }
    if first.eq_ignore_ascii_case("PREPARE") && second.eq_ignore_ascii_case("TRANSACTION") {
        return Err(QueryError::TransactionControl("PREPARE TRANSACTION"));
    }
    if first.eq_ignore_ascii_case("COPY") {
        return Err(QueryError::Copy);
    }
    // These words may also be a setting's name, or the first part of one: `set local.tenant = ..`.
    let ends_with_the_transaction = first.eq_ignore_ascii_case("SET")
        && one_of(&["LOCAL", "TRANSACTION", "CONSTRAINTS"], second).is_some()
        && match tokens.next() {
            Some((Token::Word, word)) => !word.eq_ignore_ascii_case("TO"),
            Some((Token::Symbol(b'.' | b'='), _)) => false,
            _ => true,
        };
    if first.eq_ignore_ascii_case("DECLARE") && is_held(text) {
        return Err(QueryError::SessionState("DECLARE .. WITH HOLD"));
    }
    match one_of(&SESSION, first) {
        Some(keyword) if !ends_with_the_transaction => Err(QueryError::SessionState(keyword)),
        _ => Ok(()),
    }
}

/// Whether a `DECLARE` makes a cursor that outlives its transaction.
fn is_held(declare: &str) -> bool {
    let words = Lexer::new(declare).filter(|(token, _)| *token == Token::Word).map(|(_, word)| word);
    let mut with = false;
    for word in words.take_while(|word| !word.eq_ignore_ascii_case("FOR")) {
        if with && word.eq_ignore_ascii_case("HOLD") {
            return true;
        }
        with = word.eq_ignore_ascii_case("WITH");
    }
    false
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod truth;

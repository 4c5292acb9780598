//! One text for all statements that differ in their literals alone. Pure: text in, text out.

use crate::lexer::{Lexer, Token};

/// The most bytes of a normalised text.
const LONGEST: usize = 2 * 1024;
/// Stands where a longer one was cut.
const CUT: &str = "…";
/// Stands for a literal.
const LITERAL: &str = "?";

/// Literals become `?`, comments go, white space collapses; lists of alike items (`in (..)`, `array[..]`) become one
/// item, and the alike rows of `values` one row. Keywords, names, quoted identifiers and parameters stay as they are
/// written. What is longer than 2 KiB is cut behind a token, and a text of one is read no further.
///
/// What was normalised stays the same if it is normalised again.
pub(crate) fn normalise(text: &str) -> String {
    let mut writer = Writer::default();
    let mut spaced = false;
    for (token, piece) in Lexer::new(text) {
        match token {
            Token::Space => {
                spaced = true;
                continue;
            }
            Token::Quoted if !piece.starts_with('"') => {
                if piece.starts_with('\'') && !spaced {
                    spaced = writer.take_prefix();
                }
                writer.literal(spaced);
            }
            // What is never closed may be half a string.
            Token::Number | Token::Unterminated(_) | Token::Symbol(b'?') => writer.literal(spaced),
            _ => writer.push(piece, spaced),
        }
        spaced = false;
        if writer.cut() {
            return writer.text();
        }
    }
    writer.trim();
    writer.text()
}

/// A token of the output.
#[derive(Debug, Clone, Copy)]
struct Piece<'a> {
    text: &'a str,
    /// Whether white space or a comment stood before it.
    spaced: bool,
    /// Where it ends in the output.
    end: usize,
}

impl Piece<'_> {
    /// What it is compared by: these words stand in lists where literals do.
    fn kind(&self) -> &str {
        const WORDS: [&str; 4] = ["null", "true", "false", "default"];
        if WORDS.iter().any(|word| self.text.eq_ignore_ascii_case(word)) { LITERAL } else { self.text }
    }
}

/// What is open, and for lists, which pieces are the item at hand and the one before it.
#[derive(Debug, Clone, Copy)]
enum Open {
    /// Any other parenthesis.
    Plain,
    /// `in (` and `[`, whose items end at commas.
    List { item: usize, before: Option<(usize, usize)> },
    /// `values`, whose items are the parentheses behind it.
    Rows { item: usize, before: Option<(usize, usize)> },
}

#[derive(Debug, Default)]
struct Writer<'a> {
    pieces: Vec<Piece<'a>>,
    open: Vec<Open>,
}

impl<'a> Writer<'a> {
    fn push(&mut self, text: &'a str, spaced: bool) {
        let rows = matches!(self.open.last(), Some(Open::Rows { .. }));
        if rows && !matches!(text, "(" | ",") {
            self.open.pop();
        }
        if matches!(text, "," | ")" | "]") && matches!(self.open.last(), Some(Open::List { .. })) {
            self.end_item();
        }
        let after_in = self.pieces.last().is_some_and(|piece| piece.text.eq_ignore_ascii_case("in"));
        let index = self.pieces.len();
        self.write(text, spaced);
        match text {
            "(" => {
                if let Some(Open::Rows { item, .. }) = self.open.last_mut() {
                    *item = index;
                }
                let list = Open::List { item: index + 1, before: None };
                self.open.push(if after_in { list } else { Open::Plain });
            }
            "[" => self.open.push(Open::List { item: index + 1, before: None }),
            "," => {
                if let Some(Open::List { item, .. }) = self.open.last_mut() {
                    *item = index + 1;
                }
            }
            ")" | "]" => {
                self.open.pop();
                if matches!(self.open.last(), Some(Open::Rows { .. })) {
                    self.end_item();
                }
            }
            _ if text.eq_ignore_ascii_case("values") => self.open.push(Open::Rows { item: 0, before: None }),
            _ => {}
        }
    }

    /// An item that is like the one before it goes, with its comma.
    fn end_item(&mut self) {
        let end = self.pieces.len();
        let Some(Open::List { item, before } | Open::Rows { item, before }) = self.open.last_mut() else {
            return;
        };
        let range = (*item, end);
        match *before {
            Some(before) if alike(&self.pieces[before.0..before.1], &self.pieces[range.0..range.1]) => {
                self.pieces.truncate(before.1);
            }
            _ => *before = Some(range),
        }
    }

    fn literal(&mut self, mut spaced: bool) {
        // A sign belongs to the number where no operand stands before it.
        let signs = self.pieces.iter().rev().take_while(|piece| matches!(piece.text, "-" | "+")).count();
        let first = self.pieces.len() - signs;
        if signs > 0 && first > 0 && matches!(self.pieces[first - 1].text, "(" | "[" | "," | "=" | "<" | ">")
        {
            spaced = self.pieces[first].spaced;
            self.pieces.truncate(first);
        }
        self.push(LITERAL, spaced);
    }

    /// Takes away what stands before a string and belongs to it (`B`, `X`, `N`, `U&`), and says whether it was spaced.
    fn take_prefix(&mut self) -> bool {
        let is = |piece: &Piece<'_>, words: &[&str]| {
            words.iter().any(|word| piece.text.eq_ignore_ascii_case(word))
        };
        let first = match self.pieces.as_slice() {
            [.., prefix] if is(prefix, &["b", "x", "n"]) => self.pieces.len() - 1,
            [.., prefix, and] if is(prefix, &["u"]) && and.text == "&" && !and.spaced => {
                self.pieces.len() - 2
            }
            _ => return false,
        };
        let spaced = self.pieces[first].spaced;
        self.pieces.truncate(first);
        spaced
    }

    fn write(&mut self, text: &'a str, spaced: bool) {
        let spaced = spaced && !self.pieces.is_empty();
        self.pieces.push(Piece { text, spaced, end: self.len() + usize::from(spaced) + text.len() });
    }

    fn len(&self) -> usize {
        self.pieces.last().map_or(0, |piece| piece.end)
    }

    /// Whether it became too long. It is cut, then.
    fn cut(&mut self) -> bool {
        const MOST: usize = LONGEST - CUT.len() - 1;
        let too_long = self.len() > MOST;
        if too_long {
            while self.len() > MOST {
                self.pieces.pop();
            }
            self.write(CUT, true);
        }
        too_long
    }

    /// A semicolon at the end makes no difference.
    fn trim(&mut self) {
        while self.pieces.last().is_some_and(|piece| piece.text == ";") {
            self.pieces.pop();
        }
    }

    fn text(self) -> String {
        let mut text = String::with_capacity(self.len());
        for piece in &self.pieces {
            if piece.spaced {
                text.push(' ');
            }
            text.push_str(piece.text);
        }
        text
    }
}

/// Whether two items differ in their literals alone, and have any.
fn alike(one: &[Piece<'_>], other: &[Piece<'_>]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| one.kind() == other.kind())
        && one.iter().any(|piece| piece.kind() == LITERAL)
}

#[cfg(test)]
mod tests;

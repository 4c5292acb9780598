//! Cuts SQL text into tokens as Postgres' own scanner does, as far as parameters need it. Pure: text in, tokens out.

/// What a piece of the text is. Together the pieces are the whole text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// White space or a comment.
    Space,
    /// A keyword or an unquoted identifier.
    Word,
    /// A number, with its fraction and exponent, without a sign.
    Number,
    /// A string (plain, `E'..'` or dollar-quoted) or a quoted identifier.
    Quoted,
    /// `$1`
    Positional,
    /// `::`
    Cast,
    /// `:=`
    Assign,
    /// A colon that is neither of those.
    Colon,
    /// Any other ASCII character.
    Symbol(u8),
    /// The rest of the text, where what it opens is never closed.
    Unterminated(&'static str),
}

/// The tokens of a text, in order.
#[derive(Debug, Clone)]
pub(crate) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    /// The end of the run of bytes that begins at `at`.
    fn run(&self, at: usize, belongs: impl Fn(u8) -> bool) -> usize {
        let length = self.text.as_bytes()[at..].iter().take_while(|byte| belongs(**byte)).count();
        at + length
    }

    fn token(&self) -> Option<(Token, usize)> {
        let at = self.at;
        let next = self.byte(at + 1);
        Some(match self.byte(at)? {
            byte if is_space(byte) => (Token::Space, self.run(at, is_space)),
            b'-' if next == Some(b'-') => (Token::Space, self.run(at, |byte| !is_newline(byte))),
            b'/' if next == Some(b'*') => self.closed(Token::Space, "comment", self.comment(at)),
            b'\'' => self.closed(Token::Quoted, "string", self.quoted(at, b'\'', false)),
            b'"' => self.closed(Token::Quoted, "quoted identifier", self.quoted(at, b'"', false)),
            b'$' => self.dollar(at),
            b':' => match next {
                Some(b':') => (Token::Cast, at + 2),
                Some(b'=') => (Token::Assign, at + 2),
                _ => (Token::Colon, at + 1),
            },
            byte if byte.is_ascii_digit() => (Token::Number, self.number(at)),
            // Behind another one it is the second half of an operator.
            b'.' if next.is_some_and(|byte| byte.is_ascii_digit())
                && (at == 0 || self.byte(at - 1) != Some(b'.')) =>
            {
                (Token::Number, self.number(at))
            }
            byte if starts_word(byte) => {
                let end = self.run(at, in_word);
                // The other prefixes (`B`, `X`, `N`, `U&`) leave the quoting as it is.
                if end == at + 1 && matches!(byte, b'e' | b'E') && self.byte(end) == Some(b'\'') {
                    self.closed(Token::Quoted, "string", self.escape_string(end))
                } else {
                    (Token::Word, end)
                }
            }
            byte => (Token::Symbol(byte), at + 1),
        })
    }

    fn closed(&self, token: Token, what: &'static str, end: Option<usize>) -> (Token, usize) {
        match end {
            Some(end) => (token, end),
            None => (Token::Unterminated(what), self.text.len()),
        }
    }

    /// Postgres nests its comments.
    fn comment(&self, start: usize) -> Option<usize> {
        let mut at = start + 2;
        let mut depth = 1_usize;
        while depth > 0 {
            match (self.byte(at)?, self.byte(at + 1)) {
                (b'/', Some(b'*')) => (depth, at) = (depth + 1, at + 2),
                (b'*', Some(b'/')) => (depth, at) = (depth - 1, at + 2),
                _ => at += 1,
            }
        }
        Some(at)
    }

    /// From the opening quote at `start` to after the closing one.
    fn quoted(&self, start: usize, quote: u8, backslashes: bool) -> Option<usize> {
        let mut at = start + 1;
        loop {
            match self.byte(at)? {
                b'\\' if backslashes => at += 2,
                byte if byte == quote => {
                    if self.byte(at + 1) != Some(quote) {
                        return Some(at + 1);
                    }
                    at += 2;
                }
                _ => at += 1,
            }
        }
    }

    /// An `E'..'` goes on in the next literal, with its backslashes, if a line break is all that stands between.
    fn escape_string(&self, quote: usize) -> Option<usize> {
        let mut end = self.quoted(quote, b'\'', true)?;
        loop {
            let (mut at, mut broken) = (end, false);
            loop {
                let after = self.run(at, is_space);
                broken |= self.text.as_bytes()[at..after].iter().any(|byte| is_newline(*byte));
                at = after;
                if !(self.byte(at) == Some(b'-') && self.byte(at + 1) == Some(b'-')) {
                    break;
                }
                at = self.run(at, |byte| !is_newline(byte));
            }
            if !broken || self.byte(at) != Some(b'\'') {
                return Some(end);
            }
            end = self.quoted(at, b'\'', true)?;
        }
    }

    /// As servers of any version have it: 16 and later know `0x1F` and `1_000` too, which are two tokens to older ones.
    fn number(&self, start: usize) -> usize {
        let digits = |at| self.run(at, |byte| byte.is_ascii_digit() || byte == b'_');
        if self.byte(start) == Some(b'0')
            && matches!(self.byte(start + 1), Some(b'x' | b'X' | b'o' | b'O' | b'b' | b'B'))
            && self.byte(start + 2).is_some_and(|byte| byte.is_ascii_hexdigit())
        {
            return self.run(start + 2, |byte| byte.is_ascii_hexdigit() || byte == b'_');
        }
        let mut end = digits(start);
        // Two dots are an operator of PL/pgSQL's.
        if self.byte(end) == Some(b'.') && self.byte(end + 1) != Some(b'.') {
            end = digits(end + 1);
        }
        if matches!(self.byte(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(self.byte(end + 1), Some(b'+' | b'-')));
            if self.byte(end + 1 + sign).is_some_and(|byte| byte.is_ascii_digit()) {
                end = digits(end + 1 + sign);
            }
        }
        end
    }

    fn dollar(&self, start: usize) -> (Token, usize) {
        let after = start + 1;
        let end = match self.byte(after) {
            Some(byte) if byte.is_ascii_digit() => {
                return (Token::Positional, self.run(after, |byte| byte.is_ascii_digit()));
            }
            Some(byte) if starts_word(byte) => self.run(after, |byte| in_word(byte) && byte != b'$'),
            _ => after,
        };
        if self.byte(end) != Some(b'$') {
            return (Token::Symbol(b'$'), after);
        }
        let (tag, body) = self.text[start..].split_at(end + 1 - start);
        let close = body.find(tag).map(|length| end + 1 + length + tag.len());
        self.closed(Token::Quoted, "dollar-quoted string", close)
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = (Token, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (token, end) = self.token()?;
        // Every end stands before or after an ASCII character, or at the end of a run of others: on a boundary.
        let piece = &self.text[self.at..end];
        self.at = end;
        Some((token, piece))
    }
}

fn is_newline(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

/// Whether it can stand in an identifier, but not at its start.
pub(crate) fn in_word(byte: u8) -> bool {
    starts_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(text: &str) -> Vec<(Token, &str)> {
        Lexer::new(text).filter(|(token, _)| *token != Token::Space).collect()
    }

    #[test]
    fn quoted_things_are_one_token() {
        for text in [
            "'a :b '' c'",
            r"'\'",
            r"E'a \' :b'",
            r"e'\\'",
            "E'a'\n'b\\':c'",
            "E'a' -- :x '\n  '\\''",
            r#""a "" :b""#,
            "$$ :a ' $x$ $$",
            "$tag$ :a $$ $tag $tag$",
            "$größe$ :a $größe$",
            "$_1$ $_$ $_1$",
        ] {
            assert_eq!(tokens(text), [(Token::Quoted, text)]);
        }
    }

    #[test]
    fn what_only_looks_like_the_end_is_not() {
        assert_eq!(tokens(r"'\' :a"), [(Token::Quoted, r"'\'"), (Token::Colon, ":"), (Token::Word, "a")]);
        // Without a line break the second literal is a plain one.
        assert_eq!(tokens(r"E'a' '\'"), [(Token::Quoted, "E'a'"), (Token::Quoted, r"'\'")]);
        // A longer word is no prefix.
        assert_eq!(tokens(r"note'\'"), [(Token::Word, "note"), (Token::Quoted, r"'\'")]);
        // A dollar inside of a word opens nothing.
        assert_eq!(tokens("a$b$ c"), [(Token::Word, "a$b$"), (Token::Word, "c")]);
        assert_eq!(tokens("$a b"), [(Token::Symbol(b'$'), "$"), (Token::Word, "a"), (Token::Word, "b")]);
        assert_eq!(tokens("$12"), [(Token::Positional, "$12")]);
    }

    #[test]
    fn numbers_are_one_token() {
        for text in ["1", "12.5", "1.", ".5", "1e10", "1.5E-3", ".5e+1", "0x1F", "0b01", "1_000"] {
            assert_eq!(tokens(text), [(Token::Number, text)]);
        }
        assert_eq!(tokens("1:"), [(Token::Number, "1"), (Token::Colon, ":")]);
        assert_eq!(tokens("1e"), [(Token::Number, "1"), (Token::Word, "e")]);
        assert_eq!(tokens("1.e-a")[..2], [(Token::Number, "1."), (Token::Word, "e")]);
        let dot = (Token::Symbol(b'.'), ".");
        assert_eq!(tokens("1..2"), [(Token::Number, "1"), dot, dot, (Token::Number, "2")]);
        assert_eq!(tokens("1.:"), [(Token::Number, "1."), (Token::Colon, ":")]);
        assert_eq!(tokens("a.b"), [(Token::Word, "a"), (Token::Symbol(b'.'), "."), (Token::Word, "b")]);
    }

    #[test]
    fn comments_nest_and_end_at_either_line_break() {
        assert_eq!(tokens("/* a /* :b */ ' */x"), [(Token::Word, "x")]);
        assert_eq!(tokens("-- ' :a\nx"), [(Token::Word, "x")]);
        assert_eq!(tokens("-- ' :a\rx"), [(Token::Word, "x")]);
        assert_eq!(tokens("+--a"), [(Token::Symbol(b'+'), "+")]);
        assert_eq!(tokens("//*a*/"), [(Token::Symbol(b'/'), "/")]);
    }

    #[test]
    fn says_what_is_left_open() {
        for (text, what) in [
            ("'a", "string"),
            (r"E'\'", "string"),
            ("\"a", "quoted identifier"),
            ("$a$ $b$", "dollar-quoted string"),
            ("/* /* */", "comment"),
        ] {
            assert_eq!(tokens(text), [(Token::Unterminated(what), text)]);
        }
    }

    proptest! {
        #[test]
        fn no_text_is_lost_and_none_panics(text in r#"([a-zé:=$'"\\/*\- \n\r\[\]0-9]|E'|\$t\$|PC)*"#) {
            let pieces: String = Lexer::new(&text).map(|(_, piece)| piece).collect();
            prop_assert_eq!(pieces, text);
        }

        #[test]
        fn nor_of_any_other_text(text: String) {
            let pieces: String = Lexer::new(&text).map(|(_, piece)| piece).collect();
            prop_assert_eq!(pieces, text);
        }
    }
}

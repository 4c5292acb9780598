//! A second reading of what is code and what is not, a character after the other.

/// What a naive scanner makes of a text.
#[derive(Debug)]
pub(super) enum Scan {
    /// Which bytes are code, and stand neither in a string, a quoted identifier nor a comment.
    Closed(Vec<bool>),
    /// Something is never closed.
    Open,
    /// It has what the naive scanner does not know: a letter directly behind a number.
    Unsure,
}

pub(super) fn is_in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

/// See [`Scan`].
pub(super) fn scan(text: &str) -> Scan {
    let bytes = text.as_bytes();
    let mut code = vec![false; bytes.len()];
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = if rest.starts_with(b"--") {
            at + rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            match comment(rest) {
                Some(length) => at + length,
                None => return Scan::Open,
            }
        } else if rest[0] == b'\'' || rest[0] == b'"' {
            match literal(rest, rest[0]) {
                Some(length) => at + length,
                None => return Scan::Open,
            }
        } else if begins_word(rest[0]) {
            let length = rest.iter().take_while(|byte| is_in_word(**byte)).count();
            if length == 1 && rest[0].eq_ignore_ascii_case(&b'e') && rest.get(1) == Some(&b'\'') {
                match escaped(&rest[1..]) {
                    Some(length) => at + 1 + length,
                    None => return Scan::Open,
                }
            } else {
                code[at..at + length].fill(true);
                at + length
            }
        } else if rest[0].is_ascii_digit() {
            let length = rest.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
            if rest.get(length).is_some_and(|byte| is_in_word(*byte)) {
                return Scan::Unsure;
            }
            code[at..at + length].fill(true);
            at + length
        } else if let Some(length) = dollar_tag(rest) {
            let (tag, body) = rest.split_at(length);
            match body.windows(tag.len()).position(|window| window == tag) {
                Some(close) => at + length + close + length,
                None => return Scan::Open,
            }
        } else {
            code[at] = true;
            let digits = rest[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            if rest[0] == b'$' && digits > 0 {
                if rest.get(1 + digits).is_some_and(|byte| is_in_word(*byte)) {
                    return Scan::Unsure;
                }
                code[at..=at + digits].fill(true);
                at + 1 + digits
            } else {
                at + 1
            }
        };
        at = end;
    }
    Scan::Closed(code)
}

/// The length of a comment, with those in it.
fn comment(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut open) = (2, 1_u32);
    while open > 0 {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        if rest.starts_with(b"/*") {
            open += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            open -= 1;
            at += 2;
        } else {
            at += 1;
        }
    }
    Some(at)
}

/// The length of a literal in such quotes; two of them are one of its characters.
fn literal(bytes: &[u8], quote: u8) -> Option<usize> {
    let mut at = 1;
    loop {
        at += 1 + bytes.get(at..)?.iter().position(|byte| *byte == quote)?;
        if bytes.get(at) != Some(&quote) {
            return Some(at);
        }
        at += 1;
    }
}

/// The length of a literal with backslashes, and of those that continue it on other lines.
fn escaped(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'\\' => at += 2,
            b'\'' if bytes.get(at + 1) == Some(&b'\'') => at += 2,
            b'\'' => {
                let more = gap(&bytes[at + 1..]).map(|length| at + 1 + length);
                match more.filter(|more| bytes.get(*more) == Some(&b'\'')) {
                    Some(more) => at = more + 1,
                    None => return Some(at + 1),
                }
            }
            _ => at += 1,
        }
    }
}

/// The length of spaces and comments of one line that have a line break in them.
fn gap(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut broken) = (0, false);
    loop {
        match bytes.get(at) {
            Some(b'\n' | b'\r') => (broken, at) = (true, at + 1),
            Some(b' ' | b'\t' | 0x0b | 0x0c) => at += 1,
            Some(b'-') if bytes.get(at + 1) == Some(&b'-') => {
                at += bytes[at..].iter().take_while(|byte| !matches!(byte, b'\n' | b'\r')).count();
            }
            _ => return broken.then_some(at),
        }
    }
}

/// The length of `$tag$`.
fn dollar_tag(bytes: &[u8]) -> Option<usize> {
    if bytes[0] != b'$' {
        return None;
    }
    let length = bytes[1..].iter().take_while(|byte| is_in_word(**byte) && **byte != b'$').count();
    let is_tag = length == 0 || begins_word(bytes[1]);
    (is_tag && bytes.get(1 + length) == Some(&b'$')).then_some(length + 2)
}

/// Where the parameters begin. Nothing, where there are brackets, in which a colon may be that of a slice.
pub(super) fn colons(text: &str, code: &[bool]) -> Option<Vec<usize>> {
    let bytes = text.as_bytes();
    let is_code = |at: usize, byte: u8| code.get(at) == Some(&true) && bytes[at] == byte;
    if (0..bytes.len()).any(|at| is_code(at, b'[')) {
        return None;
    }
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        if !is_code(at, b':') {
            at += 1;
        } else if is_code(at + 1, b':') || is_code(at + 1, b'=') {
            at += 2;
        } else {
            // The word may be the prefix of a literal, as in `E'..'`: then it is no name.
            if code.get(at + 1) == Some(&true) && begins_word(bytes[at + 1]) {
                found.push(at);
            }
            at += 1;
        }
    }
    Some(found)
}

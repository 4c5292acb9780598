use std::collections::HashMap;

use buttress_postgres::{QueryError, fuzzing::rewritten};

use crate::cost::bounded;

mod scan;

use scan::{Scan, is_in_word, scan};

/// `:name` in SQL: with the numbers replaced back it is the text again, and a naive scanner agrees about what is code.
///
/// The input: a text.
///
/// # Panics
/// Where that does not hold.
pub fn named_parameters(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let read = bounded(data, 4_096, 256, || rewritten(text));
    let scanned = scan(text);
    match read {
        Ok((sql, names)) => check(text, &sql, &names, &scanned),
        Err(QueryError::Unterminated(what)) => {
            assert!(matches!(scanned, Scan::Open | Scan::Unsure), "{text:?} has an open {what}");
        }
        Err(error) => assert!(!error.to_string().contains('\n') || text.contains('\n'), "{error}"),
    }
}

fn check(text: &str, sql: &str, names: &HashMap<Box<str>, usize>, scanned: &Scan) {
    let mut by_number: Vec<_> = names.iter().collect();
    by_number.sort_by_key(|(_, number)| **number);
    let numbers: Vec<usize> = by_number.iter().map(|(_, number)| **number).collect();
    assert_eq!(numbers, (0..names.len()).collect::<Vec<_>>(), "{text:?}");

    let code = match scanned {
        Scan::Closed(code) => code,
        Scan::Open => panic!("{text:?} is open, and was taken"),
        Scan::Unsure => return,
    };
    let sql_code = match scan(sql) {
        Scan::Closed(code) => code,
        Scan::Open => panic!("{text:?} became {sql:?}, which is open"),
        Scan::Unsure => return,
    };
    // Goes through what is sent, and through the text beside it.
    let (mut at, mut from, mut found) = (0, 0, Vec::new());
    let mut seen = vec![false; names.len()];
    while from < sql.len() {
        let here = &sql[from..];
        let digits = here.bytes().skip(1).take_while(u8::is_ascii_digit).count();
        let is_number = sql_code[from] && here.starts_with('$') && digits > 0 && !follows_word(sql, from);
        if is_number {
            let number: usize = here[1..=digits].parse().expect("digits");
            let name = by_number[number - 1].0;
            let rest = &text[at..];
            assert!(rest.starts_with(':') && rest[1..].starts_with(&**name), "{text:?} became {sql:?}");
            assert!(code[at], "{text:?}: `{name}` is a parameter in what is no code");
            found.push(at);
            seen[number - 1] = true;
            at += 1 + name.len();
            from += 1 + digits;
        } else if here.starts_with(' ') && text[at..].starts_with(':') && here[1..].starts_with('$') {
            // A space that keeps a number from the word before.
            assert!(text[..at].bytes().last().is_some_and(is_in_word), "{text:?} became {sql:?}");
            from += 1;
        } else {
            let char = here.chars().next().expect("there is more");
            assert!(text[at..].starts_with(char), "{text:?} became {sql:?}");
            at += char.len_utf8();
            from += char.len_utf8();
        }
    }
    assert_eq!(at, text.len(), "{text:?} became {sql:?}");
    assert!(seen.into_iter().all(|seen| seen), "{text:?}: a name is not used");
    if let Some(expected) = scan::colons(text, code) {
        assert_eq!(found, expected, "{text:?} became {sql:?}");
    }
}

/// Whether what stands before belongs to an identifier, of which a `$` is a part too.
fn follows_word(sql: &str, at: usize) -> bool {
    sql[..at].bytes().last().is_some_and(is_in_word)
}

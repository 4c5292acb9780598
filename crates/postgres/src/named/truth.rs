//! Postgres itself judges what is read of a text: its parser of statements whose parameters are known, and its scanner of
//! texts that mean nothing.
//!
//! `BUTTRESS_LEXER_CASES` is the number of texts of each kind: 4,000 where it is not set, some seconds. An hour's worth:
//! `BUTTRESS_LEXER_CASES=3000000 cargo test --release -p buttress-postgres --lib truth`.

mod judge;
mod statement;

use std::{cell::Cell, env};

use proptest::{
    prelude::*,
    test_runner::{TestCaseError, TestRunner},
};

use self::{
    judge::{Judge, Verdict},
    statement::{Fragment, statement},
};
use super::parse;
use crate::QueryError;

fn runner() -> TestRunner {
    let cases = env::var("BUTTRESS_LEXER_CASES").map_or(4_000, |cases| cases.parse().unwrap());
    TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() })
}

#[test]
fn the_parser_finds_the_parameters_that_were_put_there() {
    let (judge, mut runner) = (Judge::new(), runner());
    let (all, good) = (Cell::new(0_u32), Cell::new(0_u32));
    let outcome =
        runner.run(&statement().prop_map(|fragments| written(&fragments)), |(named, numbered, names)| {
            let parsed = parse(&named).map_err(|error| TestCaseError::fail(format!("{named}\n{error}")))?;
            let expected = judge.outcome(&numbered);
            prop_assert_eq!(
                &judge.outcome(&parsed.sql),
                &expected,
                "{}\n{}\n{}",
                named,
                parsed.sql,
                numbered
            );
            prop_assert_eq!(parsed.names.len(), names.len(), "{}", named);
            for (number, name) in names.iter().enumerate() {
                prop_assert_eq!(parsed.names.get(*name), Some(&number), "{}", named);
            }
            all.set(all.get() + 1);
            if let Ok(prepared) = expected {
                // That what the test believes of its own text is so.
                prop_assert_eq!(prepared.parameters(), names.len(), "{}", numbered);
                good.set(good.get() + 1);
            }
            Ok(())
        });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    eprintln!("{} statements, {} of them correct", all.get(), good.get());
    assert!(good.get() * 10 > all.get() * 9, "most must be correct, or nothing is judged");
}

/// The text with names, the same with numbers, and the names in the order of those.
fn written(fragments: &[Fragment]) -> (String, String, Vec<&'static str>) {
    let (mut named, mut numbered, mut names) = (String::new(), String::new(), Vec::new());
    for fragment in fragments {
        match fragment {
            Fragment::Text(text) => {
                named.push_str(text);
                numbered.push_str(text);
            }
            Fragment::Parameter(name) => {
                let number = names.iter().position(|known| known == name).unwrap_or_else(|| {
                    names.push(*name);
                    names.len() - 1
                });
                named.push_str(&format!(":{name}"));
                // Always apart from what stands before.
                numbered.push_str(&format!(" ${}", number + 1));
            }
        }
    }
    (named, numbered, names)
}

/// What may stand in a text that means nothing. A `;` would end it, and brackets must match for the scanner's caller.
fn soup() -> impl Strategy<Value = String> {
    const PIECES: [&str; 66] = [
        "'", "'", "'", "''", "\"", "\"\"", "$", "$", "$$", "$t$", "$t$", "$é$", "$t1$", "$t", "$_$", "\\",
        "\\'", "\\\\", "/*", "/*", "*/", "*/", "/", "*", "-", "--", "--", "\n", "\n", "\r", " ", "\t",
        "\u{c}", "E'", "e'", "E'", "U&'", "U&\"", "u&'", "B'", "x'", "N'", "E", "a", "é", "1", "0x1F", "1e",
        "$1", ".", ",", ":", "::", ":=", "+", "=", "?", "|", "'\n'", "' '", "'\\'", "E'a'", "E'a'", "\n'\\'",
        " '\\'", "--'\r",
    ];
    prop::collection::vec(prop::sample::select(&PIECES[..]), 0..14).prop_map(|pieces| pieces.concat())
}

#[test]
fn the_scanner_agrees_about_where_a_parameter_can_stand() {
    let (judge, mut runner) = (Judge::new(), runner());
    let seen = [const { Cell::new(0_u32) }; 4];
    let count = |kind: usize| seen[kind].set(seen[kind].get() + 1);
    let outcome = runner.run(&soup(), |soup| {
        // Before a second colon it is a cast, and `$` and what follows a word are another matter.
        let text = format!("select {soup} :zq");
        let parsed = parse(&text);
        let verdict = judge.verdict(&soup);
        match &parsed {
            // It may stand behind an error of another kind, but not where all is well.
            Err(QueryError::Positional(_)) => count(0),
            Err(QueryError::Unterminated(what)) => {
                prop_assert!(
                    verdict == Verdict::Other || verdict == Verdict::Open(what),
                    "{:?} {:?}",
                    text,
                    verdict
                );
                count(1);
            }
            Err(error) => prop_assert!(false, "{:?} {}", text, error),
            Ok(parsed) => {
                prop_assert!(!matches!(verdict, Verdict::Open(_)), "{:?} {:?}", text, verdict);
                if verdict == Verdict::Closed {
                    // In a comment of one line, nothing opens.
                    let outside = judge.verdict(&format!("{soup} /*")) == Verdict::Open("comment");
                    prop_assert_eq!(parsed.names.contains_key("zq"), outside, "{:?}", text);
                    prop_assert_eq!(
                        judge.verdict(&parsed.sql),
                        Verdict::Closed,
                        "{:?} {:?}",
                        text,
                        parsed.sql
                    );
                    count(if outside { 2 } else { 3 });
                }
                if parsed.names.is_empty() {
                    prop_assert_eq!(&*parsed.sql, &text);
                }
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let seen = seen.map(|count| count.get());
    eprintln!("positional, open, a parameter, in a line's comment: {seen:?}");
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

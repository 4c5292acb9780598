//! Whether a statement only reads, as far as its text tells. Pure.

use crate::lexer::{Lexer, Token};

/// Statements that read, unless one of [`WRITERS`] follows.
const READERS: [&str; 5] = ["SELECT", "VALUES", "TABLE", "SHOW", "EXPLAIN"];
/// Words by which a statement that begins like a reader writes, or carries out what it explains.
const WRITERS: [&str; 7] = ["INTO", "INSERT", "UPDATE", "DELETE", "MERGE", "ANALYZE", "ANALYSE"];

/// Whether the text begins with one of the [`READERS`], and has neither one of the [`WRITERS`] nor a lock anywhere. A
/// column by such a name makes it unsure, which counts as no.
pub(crate) fn only_reads(text: &str) -> bool {
    reads_from(&READERS, text)
}

/// Whether an answer may stand for the next one: the same, and `WITH` too, if nothing in it writes.
#[cfg(feature = "cache")]
pub(crate) fn may_be_cached(text: &str) -> bool {
    only_reads(text) || reads_from(&["WITH"], text)
}

fn reads_from(readers: &[&str], text: &str) -> bool {
    let is_one_of = |list: &[&str], word: &str| list.iter().any(|listed| listed.eq_ignore_ascii_case(word));
    let mut tokens = Lexer::new(text).filter(|(token, _)| !matches!(token, Token::Space));

    let first = tokens.find(|(token, _)| !matches!(token, Token::Symbol(b'(' | b';')));
    if !first.is_some_and(|(token, word)| token == Token::Word && is_one_of(readers, word)) {
        return false;
    }
    let mut after_for = false;
    for (token, word) in tokens {
        let locks = after_for && is_one_of(&["SHARE", "KEY", "NO"], word);
        if token == Token::Word && (locks || is_one_of(&WRITERS, word)) {
            return false;
        }
        after_for = token == Token::Word && word.eq_ignore_ascii_case("FOR");
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reads_is_repeatable() {
        for text in [
            "select 1",
            " -- into\n /* delete */ Select 'update' , \"into\" from t where id = :id",
            "(select 1) union (values (2))",
            "values (1), (2)",
            "table users",
            "show timezone",
            "explain select * from t",
            "select substring(name for 3) from t",
            "select $$ insert into t $$",
        ] {
            assert!(only_reads(text), "{text}");
        }
    }

    #[cfg(feature = "cache")]
    #[test]
    fn with_may_be_cached_where_nothing_in_it_writes() {
        assert!(may_be_cached("select 1"));
        assert!(may_be_cached("with recursive x as (select 1) select * from x"));
        assert!(!may_be_cached("with x as (delete from t returning 1) select * from x"));
        assert!(!may_be_cached("update t set n = 1"));
        assert!(!may_be_cached("select * from t for update"));
    }

    #[test]
    fn what_writes_locks_or_is_not_known_is_not() {
        for text in [
            "",
            "-- select",
            "'select'",
            "\"select\"",
            "insert into t values (1)",
            "update t set n = 1",
            "delete from t",
            "merge into t using s on true when matched then do nothing",
            "with x as (select 1) select * from x",
            "(with x as (delete from t returning 1) select * from x)",
            "select * into t2 from t",
            "select * from t for update",
            "select * from t For No Key Update",
            "select * from t for share skip locked",
            "select * from t for key share",
            "explain analyze delete from t",
            "explain (analyze, buffers) select f()",
            "explain (analyse) select f()",
            "call f()",
            "do $$ begin end $$",
            "create table t (id int)",
            "vacuum",
            "notify a",
            "execute p",
            "fetch c",
        ] {
            assert!(!only_reads(text), "{text}");
        }
    }
}

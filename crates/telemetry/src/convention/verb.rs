//! What an SQL statement does, by its first keyword.

use super::database::OTHER;

/// How far into a text its first keyword is looked for, in bytes: a call pays for no more.
const FAR: usize = 4096;

/// The first keyword, in capitals and of a fixed list, and the same for a batch of such. White space, comments and opening
/// parentheses before it are passed over.
pub(super) fn verb(text: &str) -> (&'static str, &'static str) {
    let text = text.as_bytes();
    let far = &text[..text.len().min(FAR)];
    let text = &text[far.len() - from_first_word(far).len()..];
    // Longer than any keyword, so that a word is not taken for its own beginning.
    let word = text.iter().take(16).take_while(|byte| is_of_a_word(**byte)).count();
    let word = &text[..word];
    let known = VERBS.iter().find(|(verb, _)| verb.as_bytes().eq_ignore_ascii_case(word));
    known.copied().unwrap_or((OTHER, "BATCH"))
}

fn from_first_word(mut text: &[u8]) -> &[u8] {
    loop {
        text = match text {
            [b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | b'(', rest @ ..] => rest,
            [b'-', b'-', rest @ ..] => after_line(rest),
            [b'/', b'*', rest @ ..] => after_comment(rest),
            _ => return text,
        };
    }
}

/// As Postgres has it, whose names may hold any character that is not ASCII.
fn is_of_a_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
}

fn after_line(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
    end.map_or(&[], |end| &text[end..])
}

/// Comments may be nested.
fn after_comment(mut text: &[u8]) -> &[u8] {
    let mut depth = 1_u32;
    while depth > 0 {
        text = match text {
            [b'*', b'/', rest @ ..] => {
                depth -= 1;
                rest
            }
            [b'/', b'*', rest @ ..] => {
                depth += 1;
                rest
            }
            [_, rest @ ..] => rest,
            [] => return &[],
        };
    }
    text
}

macro_rules! verbs {
    ($($verb:literal)*) => {
        [$(($verb, concat!("BATCH ", $verb))),*]
    };
}

/// The most frequent ones first; then what begins a command of Postgres 18.
const VERBS: &[(&str, &str)] = &verbs![
    "SELECT" "INSERT" "UPDATE" "DELETE" "WITH" "MERGE" "CALL" "VALUES" "TABLE" "COPY" "TRUNCATE" "DO"
    "BEGIN" "START" "COMMIT" "END" "ROLLBACK" "ABORT" "SAVEPOINT" "RELEASE" "LOCK"
    "SET" "RESET" "SHOW" "DISCARD" "LISTEN" "UNLISTEN" "NOTIFY"
    "PREPARE" "EXECUTE" "DEALLOCATE" "DECLARE" "FETCH" "MOVE" "CLOSE"
    "EXPLAIN" "ANALYZE" "ANALYSE" "VACUUM" "REINDEX" "CLUSTER" "REFRESH" "CHECKPOINT"
    "CREATE" "ALTER" "DROP" "COMMENT" "GRANT" "REVOKE" "REASSIGN" "SECURITY" "IMPORT" "LOAD"
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> &'static str {
        verb(text).0
    }

    #[test]
    fn the_first_keyword_is_found_however_it_is_written() {
        for text in [
            "select 1",
            "SELECT\n1",
            "\t\u{b}\u{c}\r\n sElEcT 1",
            "SELECT",
            "select*from a",
            "select'hunter2'",
            "select\"quoted\"",
            "-- insert\nselect 1",
            "--insert\r--delete\n\nselect 1",
            "/* insert */select 1",
            "/* a /* nested */ insert */ -- delete\n select 1",
            "/**/select 1",
            "/*/ insert */select 1",
            "((select 1) union (select 2)) order by 1",
        ] {
            assert_eq!(of(text), "SELECT", "{text:?}");
        }
        assert_eq!(of("with gone as (delete from a returning *) select * from gone"), "WITH");
        assert_eq!(verb("insert into a values (1)"), ("INSERT", "BATCH INSERT"));
        assert_eq!(of("explain select 1"), "EXPLAIN");
    }

    #[test]
    fn what_is_no_keyword_is_other_and_never_shown() {
        for text in [
            "",
            " ",
            "selected",
            "select_",
            "select$",
            "select\u{e9}",
            "s\u{e9}lect",
            "\u{ff33}\u{ff25}\u{ff2c}\u{ff25}\u{ff23}\u{ff34} 1",
            "\u{a0}select 1",
            "hunter2",
            "'select",
            "\"select\"",
            "$$select",
            "; select 1",
            "-",
            "--",
            "-- select 1",
            "/",
            "/*",
            "/* select 1",
            "/* /* select 1 */ select 1",
            "*/ select 1",
            "1",
            "\u{0}select",
        ] {
            assert_eq!(verb(text), (OTHER, "BATCH"), "{text:?}");
        }
    }

    #[test]
    fn a_text_is_read_no_further_than_the_bound() {
        let long = "x".repeat(1 << 20);
        assert_eq!(of(&format!("select '{long}'")), "SELECT");
        assert_eq!(of(&long), OTHER);
        assert_eq!(of(&format!("/*{long}*/ select 1")), OTHER);
        assert_eq!(of(&"/*".repeat(1 << 19)), OTHER);
        assert_eq!(of(&"(".repeat(1 << 20)), OTHER);
        // The bound cuts a character, or the word.
        for before in FAR - 9..FAR + 2 {
            let is_found = before <= FAR;
            let text = " ".repeat(before) + "select \u{1f980}";
            assert_eq!(of(&text) == "SELECT", is_found, "{before}");
            of(&(" ".repeat(before) + "\u{1f980}"));
        }
    }

    #[test]
    fn a_word_that_the_bound_cuts_is_not_taken_for_a_shorter_one() {
        assert_eq!(of(&(" ".repeat(FAR - 3) + "endless")), OTHER);
    }

    proptest! {
        #[test]
        fn any_text_has_a_verb_of_the_list(text in "[-/*( \n'\"$a-zA-Z\u{e9}\u{1f980}]{0,40}") {
            let found = verb(&text);
            prop_assert!(found == (OTHER, "BATCH") || VERBS.contains(&found));
        }

        #[test]
        fn what_follows_the_keyword_changes_nothing(text in ".*") {
            prop_assert_eq!(of(&format!("/* note */ update {text}")), "UPDATE");
        }
    }
}

use proptest::prelude::*;

use super::*;

#[track_caller]
fn becomes(text: &str, normalised: &str) {
    assert_eq!(normalise(text), normalised);
    assert_eq!(normalise(normalised), normalised);
}

#[test]
fn literals_become_question_marks() {
    becomes("select 1, 1.5, .5, 1e10, 1.5E-3, 0x1F, 5.", "select ?, ?, ?, ?, ?, ?, ?");
    becomes("select 'a', 'it''s', E'\\'', $$a$$, $t$a$t$", "select ?, ?, ?, ?, ?");
    becomes(
        "select B'01', x'1f', N'a', U&'a' uescape '!', date'2020-01-01'",
        "select ?, ?, ?, ? uescape ?, date?",
    );
    becomes("select n - 1, n -1, (-1), - 1 where n = -1", "select n - ?, n -?, (?), ? where n = ?");
    becomes("select j ? 'a', a[1:2]", "select j ? ?, a[?:?]");
    becomes("select 'a\n", "select ?");
}

#[test]
fn names_keywords_and_parameters_stay() {
    becomes(
        "SELECT \"a 1\", t1.c2 From T where id = :id1::int8",
        "SELECT \"a 1\", t1.c2 From T where id = :id1::int8",
    );
    becomes("select U&\"a\", interval '1 day'", "select U&\"a\", interval ?");
}

#[test]
fn space_collapses_and_comments_go() {
    becomes(" \n select\t-- 1 'a'\n a/* ' /* 1 */ */b-/**/-c ;; ", "select a b- -c");
    becomes("", "");
    becomes("-- nothing", "");
}

#[test]
fn lists_become_one_item() {
    becomes("select a in (1, 2,3)", "select a in (?)");
    becomes("select a IN ('a'::uuid, 'b'::uuid, null::uuid)", "select a IN (?::uuid)");
    becomes("select a in (-1, 2, :a, 3, 4)", "select a in (?, :a, ?)");
    becomes("select a = any(array[1, 2]), f(1, 2)", "select a = any(array[?]), f(?, ?)");
    becomes("select a in (b, b)", "select a in (b, b)");
    becomes(
        "select a in ((1, 2), (3, 4)), b in (select 1 from c where d in (1, 2))",
        "select a in ((?, ?)), b in (select ? from c where d in (?))",
    );
}

#[test]
fn rows_become_one_row() {
    becomes(
        "insert into t values (1, 'a'), (2, null) , (3,default) on conflict do nothing",
        "insert into t values (?, ?) on conflict do nothing",
    );
    becomes(
        "values (1, now()), (2, now()), (:a, now()), (:b, now())",
        "values (?, now()), (:a, now()), (:b, now())",
    );
    becomes(
        "select * from (values (1, 2), (3, 4)) v, (values (in (1, 2)))",
        "select * from (values (?, ?)) v, (values (in (?)))",
    );
}

#[test]
fn is_bounded_and_cut_behind_a_token() {
    let rows: Vec<_> = (0..100_000).map(|n| format!("({n}, 'a')")).collect();
    assert_eq!(normalise(&format!("insert into t values {}", rows.join(","))), "insert into t values (?, ?)");
    let names: Vec<_> = (0..1_000).map(|n| format!("größe_{n}")).collect();
    let normalised = normalise(&format!("select {}", names.join(", ")));
    assert!(normalised.len() <= LONGEST && normalised.len() > LONGEST - 20 && normalised.ends_with(" …"));
    assert_eq!(normalise(&normalised), normalised);
    assert_eq!(normalise(&"a".repeat(1 << 20)), CUT);
}

const MARKER: &str = "987654";

/// A piece of SQL, with the marker wherever it must not survive.
fn fragment() -> impl Strategy<Value = String> {
    let text = prop::sample::select(vec![
        "'M'",
        "' M''M'",
        "E'\\'M'",
        "e'\\\\M'",
        "$$ M ' $$",
        "$t$ M $$ $t$",
        "B'M'",
        "x'M'",
        "N'M'",
        "U&'M'",
        "M",
        "M.5",
        ".M",
        "M.M",
        "1e-M",
        "M.5E+M",
        "0xM",
        "- M",
        "+M",
        "-- M '\n",
        "/* M ' /* M */ */",
        "'M'\n'M'",
        "E'M'\n'\\'M'",
        "date'M'",
        "select",
        "values",
        "in",
        "IN",
        "array",
        "(",
        "(",
        ")",
        "[",
        "]",
        ",",
        ",",
        ";",
        ":name",
        "::int8",
        "\"kept\"",
        "\"ke\"\"pt '\"",
        "U&\"kept\"",
        "null",
        "default",
        "größe",
        "=",
        "?",
        "|",
        "<",
    ]);
    (text, prop::sample::select(vec![" ", "\n", " , ", "  "]))
        .prop_map(|(text, space)| format!("{}{space}", text.replace('M', MARKER)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn no_literal_survives_and_names_do(fragments in prop::collection::vec(fragment(), 0..80)) {
        let text = fragments.concat();
        let normalised = normalise(&text);
        prop_assert!(!normalised.contains(MARKER), "{text} -> {normalised}");
        prop_assert_eq!(normalised.contains("größe"), text.contains("größe") , "{} -> {}", text, normalised);
        prop_assert_eq!(normalised.contains("\"kept\""), text.contains("\"kept\""), "{} -> {}", text, normalised);
        prop_assert_eq!(normalise(&normalised), normalised.clone());
    }

    #[test]
    fn is_idempotent_whatever_stands_together(text in r#"([a-c(),\[\]=<>?;+\-*/.:$&0-3'"\n ]|E'|\$t\$|in \(|values \(|null|é|x'){0,60}"#) {
        let normalised = normalise(&text);
        prop_assert_eq!(normalise(&normalised), normalised.clone(), "{}", text);
    }

    #[test]
    fn no_text_panics(text: String) {
        let normalised = normalise(&text);
        prop_assert_eq!(normalise(&normalised), normalised.clone());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn long_ones_are_bounded_and_idempotent(fragments in prop::collection::vec(fragment(), 500..900)) {
        let normalised = normalise(&fragments.concat());
        prop_assert!(normalised.len() <= LONGEST);
        prop_assert_eq!(normalise(&normalised), normalised.clone());
    }
}

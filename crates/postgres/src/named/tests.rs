use proptest::prelude::*;

use super::*;

/// The rewritten text and the names in their order.
fn rewritten(text: &str) -> (String, Vec<String>) {
    let parsed = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let mut names: Vec<_> = parsed.names.into_iter().collect();
    names.sort_by_key(|(_, index)| *index);
    (parsed.sql.into(), names.into_iter().map(|(name, _)| name.into()).collect())
}

#[track_caller]
fn becomes(text: &str, sql: &str, names: &[&str]) {
    assert_eq!(rewritten(text), (sql.to_owned(), names.iter().map(|name| (*name).to_owned()).collect()));
}

#[test]
fn names_become_numbers_and_repeat() {
    becomes("select :a, :b, :a", "select $1, $2, $1", &["a", "b"]);
    becomes("select :a+:b", "select $1+$2", &["a", "b"]);
    becomes("select :größe_2", "select $1", &["größe_2"]);
    becomes("select 1", "select 1", &[]);
    becomes("", "", &[]);
}

#[test]
fn names_are_kept_apart_from_the_word_before() {
    becomes("select 1 limit:n", "select 1 limit $1", &["n"]);
    becomes("select 'a':b", "select 'a'$1", &["b"]);
}

#[test]
fn what_is_quoted_or_commented_stays() {
    for text in [
        "select ':a', 'it''s :a', E'\\':a', \":a\", $$:a$$, $x$:a$x$, U&':a', U&\":a\" -- :a\n/* :a /* :b */ :c */",
        "select 1::int8, x::text[], '12:30'::time",
        "select f(a := 1, b => 2)",
        "select j ? 'a', j ?| k, j @> l, j #>> '{a}', a @@ b, j @? '$.a'",
        "select a[1:2], a[:2], a[1:], a[:]",
    ] {
        becomes(text, text, &[]);
    }
    becomes("select f(a :=:b, c := :d)", "select f(a :=$1, c := $2)", &["b", "d"]);
    becomes("select :a::int8", "select $1::int8", &["a"]);
    becomes("select j ? :key", "select j ? $1", &["key"]);
    becomes(r"select '\', :a", r"select '\', $1", &["a"]);
}

#[test]
fn a_slice_is_told_from_a_parameter() {
    for slice in [
        "a[1:n]",
        "a[:n]",
        "a[m:n]",
        "a[m :n]",
        "a[1.:n]",
        "a[f(x):n]",
        "b[a[1]:n]",
        "a [1:n]",
        "\"a\"[1:n]",
        "a[1][:n]",
    ] {
        becomes(slice, slice, &[]);
    }
    becomes("a[ :i ]", "a[ $1 ]", &["i"]);
    becomes("a[(:i)]", "a[($1)]", &["i"]);
    becomes("a[(:i):(:j)]", "a[($1):($2)]", &["i", "j"]);
    becomes("a[1: :j]", "a[1: $1]", &["j"]);
    becomes("a[: :j]", "a[: $1]", &["j"]);
    becomes("a[1 + :j]", "a[1 + $1]", &["j"]);
    becomes("a[f(:j):n]", "a[f($1):n]", &["j"]);
    becomes("a[case when x then :i else :j end]", "a[case when x then $1 else $2 end]", &["i", "j"]);
    // An array is no subscript.
    becomes("ARRAY[:a, :b]", "ARRAY[$1, $2]", &["a", "b"]);
    becomes("array[[:a, :b], [:c, 1]]", "array[[$1, $2], [$3, 1]]", &["a", "b", "c"]);
    becomes("(ARRAY[:a])[1:n]", "(ARRAY[$1])[1:n]", &["a"]);
    becomes("ARRAY[x[1:n], :a]", "ARRAY[x[1:n], $1]", &["a"]);
    // Behind the bracket everything is as before.
    becomes("a[1:n] = :b", "a[1:n] = $1", &["b"]);
}

#[test]
fn positions_and_open_ends_are_refused_by_name() {
    assert_eq!(parse("select :a, $1"), Err(QueryError::Positional("$1".into())));
    assert_eq!(parse("select $12"), Err(QueryError::Positional("$12".into())));
    assert_eq!(parse("select ':a"), Err(QueryError::Unterminated("string")));
    assert_eq!(parse("select \0"), Err(QueryError::Nul));
}

#[test]
fn statements_that_outlive_the_call_are_refused() {
    for text in [
        "BEGIN",
        "begin;",
        " \u{b}\t\n;;begin",
        "/* /* */ */ -- x\rBegin",
        "start transaction",
        "COMMIT",
        "end",
        "rollback to savepoint a",
        "abort",
        "savepoint a",
        "release a",
        "(begin)",
        "PREPARE/**/TRANSACTION 'x'",
    ] {
        assert!(matches!(parse(text), Err(QueryError::TransactionControl(_))), "{text}");
    }
    for text in [
        "set statement_timeout = 0",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "set role x",
        "reset all",
        "discard all",
        "deallocate all",
        "prepare a as select 1",
        "listen a",
        "set local.tenant = 'x'",
        "set Transaction /**/ .x to 'x'",
        "set constraints.x = 'x'",
        "set local = 'x'",
        "set local to 'x'",
        "declare c cursor with hold for select 1",
        "Declare \"for\" binary insensitive no scroll cursor With /**/ Hold for select 1",
    ] {
        assert!(matches!(parse(text), Err(QueryError::SessionState(_))), "{text}");
    }
    assert_eq!(parse("copy t from stdin"), Err(QueryError::Copy));
    for text in [
        "declare c cursor for select 1",
        "declare hold cursor without hold for select 'with hold' from with_hold",
        "declare c cursor for with hold as (select 1) select * from hold",
        "set local statement_timeout = 0",
        "set transaction read only",
        "set constraints all deferred",
        "select begin from t",
        "\"begin\"",
        "begins",
        "update t set a = 1",
        "(select 1)",
        "with a as (select 1) select * from a",
        "",
        "-- begin",
    ] {
        assert!(parse(text).is_ok(), "{text}");
    }
}

/// A piece of SQL whose meaning is known: text that stays, or a parameter.
#[derive(Debug, Clone)]
enum Piece {
    Stays(String),
    Parameter(String),
}

fn name() -> impl Strategy<Value = String> {
    "[a-dE_é][a-c0-9_]{0,2}"
}

fn piece() -> impl Strategy<Value = Piece> {
    let inside = "([a-c:? ,()\\[\\]]|:[a-c]|--|/\\*|\\*/|::){0,4}";
    let stays = prop_oneof![
        "[a-d][a-z0-9_$]{0,3}",
        "[0-9]{1,3}",
        Just("::text".to_owned()),
        Just("x := 1".to_owned()),
        prop::sample::select(vec!["?", "@>", "#>>", "?|", "=", ",", "+", "(1)", "t[1]", "- -1"])
            .prop_map(String::from),
        (prop::sample::select(vec!["=", "N", "U&", "B"]), inside)
            .prop_map(|(prefix, text)| format!("{prefix}'{text}'' \\'")),
        inside.prop_map(|text| format!("e'{text}\\' '' '\n'{text}\\''")),
        inside.prop_map(|text| format!("\"{text}\"\"'\"")),
        ("[a-c]{0,2}", inside).prop_map(|(tag, text)| format!("${tag}${text}'\" $z$ ${tag}$")),
        "[a-c:' \"]{0,6}".prop_map(|text| format!("--{text}\n")),
        ("[a-c:' \"]{0,6}", "[a-c:' \"]{0,6}")
            .prop_map(|(outer, inner)| format!("/*{outer}/*{inner}*/{outer}*/")),
        (name(), prop::option::of(name()), name())
            .prop_map(|(array, low, high)| format!("{array}x[{}:{high}]", low.unwrap_or_default())),
    ];
    prop_oneof![stays.prop_map(Piece::Stays), name().prop_map(Piece::Parameter)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn agrees_with_a_naive_model(pieces in prop::collection::vec((piece(), "[ \n\t]{1,2}"), 0..12)) {
        let (mut text, mut sql) = (String::from("select "), String::from("select "));
        let mut names: Vec<String> = Vec::new();
        for (piece, space) in pieces {
            match piece {
                Piece::Stays(piece) => {
                    text.push_str(&piece);
                    sql.push_str(&piece);
                }
                Piece::Parameter(name) => {
                    text.push_str(&format!(":{name}"));
                    let index = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                        names.push(name);
                        names.len() - 1
                    });
                    sql.push_str(&format!("${}", index + 1));
                }
            }
            text.push_str(&space);
            sql.push_str(&space);
        }
        prop_assert_eq!(rewritten(&text), (sql, names));
    }

    #[test]
    fn no_text_panics(text in "([a-c:$'\"\\[\\]() =]|array|E'|PC){0,30}") {
        let _either = parse(&text);
    }

    #[test]
    fn a_rewritten_text_means_the_same_to_the_lexer(text in "([a-c:'\"\\[\\]() =?]|array|E'|limit|--|\n){0,30}") {
        // Without its parameters' numbers, nothing else may change its kind.
        if let Ok(parsed) = parse(&text) {
            let quoted = |text: &str| Lexer::new(text).filter(|(token, _)| *token == Token::Quoted).map(|(_, piece)| piece.to_owned()).collect::<Vec<_>>();
            prop_assert_eq!(quoted(&parsed.sql), quoted(&text));
        }
    }
}

#[test]
fn there_are_as_many_names_as_the_protocol_can_count() {
    let text = |names: usize| (0..names).map(|n| format!(":p{n},")).collect::<String>();
    assert_eq!(parse(&text(65_535)).map(|parsed| parsed.names.len()), Ok(65_535));
    assert_eq!(parse(&text(65_536)), Err(QueryError::TooManyNames(65_536)));
}

//! Statements that are correct, of all that has a colon in it or looks as if.

use proptest::prelude::*;

/// A piece of a statement, as whoever wrote it means it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fragment {
    Text(String),
    Parameter(&'static str),
}

/// Each production is text, in which `«rule»` stands for one of that rule's. The first ones hold no rule that could go on
/// for ever.
const RULES: &[(&str, &[&str])] = &[
    (
        "statement",
        &[
            "select«g»«item» from («table») as t",
            "select«:i»::int4,«o»«item»«o»,«o»«item»«g»from («table») as t«g»where«g»«bool»",
            "select«o»«:t»::text«o»,«item»«g»from«o»(«table») as t limit«o»«:l»",
            ";; «g»select«g»«item»«o»,«o»«item»«o»,«o»«item» from («table») as t limit«g»«:l»::int8 -- :i",
            "with c as (select«o»«:i»::int4) select«g»«item»,(select«g»«int») from («table») as t, c /* ' */",
        ],
    ),
    (
        "table",
        &[
            "select array[1,2,3] as a, array[[1,2],[3,4]] as b2, 1 as n, 2 as m, 1 as \"N:q\", 5 as a$1, 6 as é$2, \
         '{\"a:b\":[1,2]}'::jsonb as j",
        ],
    ),
    ("item", &["«int»", "«text»", "«bool»", "«array»", "«int»«g»as«g»«alias»", "«text»«g»as«g»«alias»"]),
    (
        "alias",
        &[
            "x",
            "\"a:b\"\"'\"",
            "U&\"d\\0061:i\"",
            "U&\"d!0061:i\" uescape '!'",
            "a$b$",
            "é",
            "\"--\"",
            "\"/*:i\"",
            "\"'\"",
            "\"$t$\"",
        ],
    ),
    (
        "int",
        &[
            "1",
            "n",
            "007",
            "t.m",
            "\"N:q\"",
            "a$1",
            "é$2",
            "«:i»«o»::«o»int4",
            "(«:i»)::int4",
            "cast(«:i» as int4)",
            "cast(«o»«:i»«g»as int4)",
            "(«int»«o»+«o»«int»)",
            "(«int»- «o»«int»)",
            "(«int»*«o»«int»)",
            "(«int»%«o»7)",
            "(«int»/«o»2)",
            "(- «int»)",
            "(@«o»«int»)",
            "(+«:i»::int4)",
            "length(«text»)",
            "case«g»when«g»«bool»«g»then«o»«:i»::int4«g»else«g»«int» end",
            "(«array»)[1]",
            "(array[«:i»::int4,«o»«int»])[«o»1]",
            "(ARRAY«o»[«int»,«:i»::int4])[n]",
            "a[«g»«:i»::int4«o»]",
            "a[(«:i»::int4)]",
            "a[n]",
            "b2[1][«g»«:i»::int4]",
            "a[ «int»+«o»«:i»::int4]",
            "a[case when true then«o»«:i»::int4 else n end]",
            "date_part('day',make_interval(days:=«o»«:i»::int4))::int4",
            "date_part('day',make_interval(days«o»:=«o»«int»,hours=>«:i»::int4))::int4",
            "position('a'«g»in«g»«text»)",
            "1e0::int4",
            ".5::int4",
            "1.::int4",
            "(select«o»«:i»::int4)",
            "«:i»::numeric(5,0)::int4",
            "abs(«:i»::int4)",
            "(«int» operator(pg_catalog.+)«o»«:i»::int4)",
        ],
    ),
    (
        "array",
        &[
            "a",
            "a[n:m]",
            "a[:m]",
            "a[n:]",
            "a[:]",
            "a[1:n]",
            "a[n :m]",
            "a[n : m]",
            "a[ : m]",
            "a[: m]",
            "a[n: m]",
            "a [n:m]",
            "a/**/[n:m]",
            "(a)[n:m]",
            "\"a\"[\"N:q\":m]",
            "t.a[t.n:t.m]",
            "a[n::int4:m]",
            "a[n::int4:m::int4]",
            "a['1':m]",
            "a[E'1':m]",
            "a[$$1$$:m]",
            "a[1.:m]",
            "a[1e0:m]",
            "a[.5:m]",
            "a[length('x'):m]",
            "a[(n):m]",
            "a[-n:m]",
            "a[n%m:m]",
            "a[a[n]:m]",
            "a[a[1]:a[2]]",
            "a[case when true then n end:m]",
            "a[n/**/:m]",
            "a[n\n:m]",
            "a[n--:i\n:m]",
            "a[cast(n as int4):m]",
            "a[é$2:a$1]",
            "a[\"N:q\" :m]",
            "a[1:n][:m]",
            "b2[1:2][:1]",
            "a[n:m]::int4[]",
            "(a[n:m]||«:i»::int4)",
            "a[n+1:m]",
            "a[(«int»):(«int»)]",
            "a[(«:i»::int4):(«:i»::int4)]",
            "a[n:«g»«:i»::int4]",
            "a[:«g»«:i»::int4]",
            "a[«g»«:i»::int4:m]",
            "a[«g»«:i»::int4 :m]",
            "a[«g»«:i»::int4«g»:«g»«:i»::int4]",
            "a[ «int»:n]",
            "a[(select«g»«int»):n]",
            "a[n + «:i»::int4:m]",
            "array[«int»,«o»«int»]",
            "array[«:i»::int4]",
            "array[«o»«:i»::int4,a[n]]",
            "ARRAY[a[n],«:i»::int4]",
            "array[(a[n:m])[1],«:i»::int4]",
            "(array[1,2,3])[n:m]",
            "ARRAY«g»[«int»]",
            "array(select«g»«int»)",
            "a[array_length(array[«:i»::int4],1):m]",
            "array[«int»::int4[n]::text]::int4[]",
        ],
    ),
    (
        "bool",
        &[
            "true",
            "«int»«o»=«o»«int»",
            "«int»<«o»«:i»::int4",
            "«int»>=«:i»::int4",
            "«text»=«g»«text»",
            "«int»«g»between«o»«:i»::int4«g»and«o»«:i»::int4",
            "«int»«g»in«o»(«o»«:i»::int4«o»,«int»)",
            "not«g»«bool»",
            "j«o»?«o»«:t»",
            "j«o»?|«o»array[«:t»,'x']",
            "j@?'$.\"a:b\"'",
            "j@>'{\"a:b\":[1]}'",
            "«text»«g»like«o»«:t»",
            "«int»<>all(«array»)",
            "«int»=any(«array»)",
            "(«bool»)",
            "«:i»::int4«g»is«g»not«g»distinct«g»from«o»«:i»::int4",
            "'12:30:00'::time<'13:00'«o»::«o»time",
            "«text»~«:t»::text",
        ],
    ),
    (
        "text",
        &[
            "«string»",
            "«:t»::text",
            "cast(«:t» as text)",
            "(«text»||«o»«text»)",
            "(j#>>'{a:b,0}')",
            "(j->>«o»«:t»::text)",
            "«int»::text",
            "upper(«text»)",
            "case«g»when«g»«bool»«g»then«o»«:t»::text else«g»«text» end",
            "(«text» collate \"C\")",
        ],
    ),
    (
        "string",
        &[
            "'«plain»'",
            "'«plain»«plain»«plain»'",
            "E'«escape»«escape»«escape»'",
            "e'«escape»«escape»'«break»'«escape»'",
            "E'«escape»'«break»'«escape»«escape»'«break»'«escape»'",
            "'«plain»'«break»'«plain»«plain»'",
            "U&'«unicode»«unicode»'",
            "U&'«unicode»'«break»'«unicode»'",
            "U&'!0061:i\\' uescape '!'",
            "N'«plain»«plain»'",
            "B'01'::text",
            "b'01'«break»'10'::text",
            "X'1F'::text",
            "$$«dollar»«dollar»$$",
            "$t$«dollar» $$ :i «dollar»$t $t1$ $T$ $t$",
            "$t$$$t$",
            "$größe$«dollar»$grö$«dollar»$größe$",
            "$_1$$_$«dollar»$1$_1$",
            "$é$$e$ $$ $é $é$",
            "$A$«dollar»$a$«dollar»$A$",
            "E'«escape»'«break»'\\''",
            "E'\\''«break»'«escape»\\':i'",
        ],
    ),
    (
        "plain",
        &[
            "a", ":i", "''", "\\", "\"", "--", "/*", "*/", "$$", "$t$", "é", "\n", ";", "", "::", ":=",
            "[:n]", "\\''",
        ],
    ),
    (
        "escape",
        &[
            "a", ":i", "''", "\\\\", "\\'", "\\n", "\\x41", "\\u0061", "\"", "--", "/*", "$$", "$t$", "\n",
            "", "\\:", "\\é",
        ],
    ),
    ("unicode", &["a", ":i", "''", "\\\\", "\\0061", "\\+000061", "\"", "--", "/*", "$$", "\n", ""]),
    ("dollar", &["a", ":i", "'", "\\", "\"", "--", "/*", "*/", "é", "\n", ";", "", "$1", "::", "E'", " $ "]),
    ("o", &["", "", "", "«g»"]),
    (
        "g",
        &[
            " ",
            " ",
            " ",
            "\n",
            "\t",
            "\r",
            "\u{c}",
            "/**/",
            "/* :i ' /* \" $$ */ ; */",
            "-- :i ' /* \" $t$\n",
            "--\r",
            "/*/*/**/*/*/",
            "/***/",
            "/*'*/",
            "/*/ */",
            "--*/\n",
            " /* -- */ ",
        ],
    ),
    ("break", &["\n", " \n ", "\r", " -- :i '\n", "\n--x\n", "--\n\t", "\t\r\n", " --'\r--\n\n"]),
    (":i", &["i", "_c", "é1", "N", "b", "x", "u", "m", "n", "a", "E", "i2", "a$1"]),
    (":t", &["t", "größe", "B2", "limit", "T"]),
    (":l", &["l", "L", "array"]),
];

fn productions(rule: &str) -> &'static [&'static str] {
    let found = RULES.iter().find(|(name, _)| *name == rule);
    found.unwrap_or_else(|| panic!("no rule `{rule}`")).1
}

/// Deeper than this, the first production is taken.
const DEEPEST: u32 = 9;

fn expand(rule: &str, chance: &mut impl Iterator<Item = u16>, depth: u32, fragments: &mut Vec<Fragment>) {
    let productions = productions(rule);
    let index = if depth > DEEPEST { 0 } else { usize::from(chance.next().unwrap_or(0)) % productions.len() };
    let production = productions[index];
    if rule.starts_with(':') {
        return fragments.push(Fragment::Parameter(production));
    }
    let mut rest = production;
    while let Some((text, tail)) = rest.split_once('«') {
        let (inner, tail) = tail.split_once('»').expect("it closes");
        fragments.push(Fragment::Text(text.to_owned()));
        expand(inner, chance, depth + 1, fragments);
        rest = tail;
    }
    fragments.push(Fragment::Text(rest.to_owned()));
}

pub(super) fn statement() -> impl Strategy<Value = Vec<Fragment>> {
    prop::collection::vec(any::<u16>(), 0..80).prop_map(|chance| {
        let mut fragments = Vec::new();
        expand("statement", &mut chance.into_iter(), 0, &mut fragments);
        fragments.retain(|fragment| *fragment != Fragment::Text(String::new()));
        fragments
    })
}

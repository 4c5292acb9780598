//! Whatever is wrong with a configuration, no error shows a secret of it, nor has two lines, nor is a panic.
#![cfg(feature = "system")]

use buttress::Config;
use proptest::{prelude::*, sample::Index};

/// Longer than any word that a configuration shows.
const SECRET: &str = "hunter2-hunter2-hunter2-hunter2-hunter2-hunter2-hunter2-hunter2-hunter2-x";

fn whole() -> String {
    format!(
        r#"name = "shop"

[database]
url = "postgres://app:{SECRET}@localhost/shop"
pool_size = 40
retry = {{ retries = 2, delay = "100ms" }}

[redis]
url = "redis://:{SECRET}@localhost"

[cache]
shared = true

[http.stock]
base_url = "http://stock.example/v1"
bearer = "{SECRET}"
headers = {{ "x-key" = "{SECRET}", accept = "text/plain" }}
timeout = "30s"

[http.mail]
base_url = "http://mail.example"
rate_limit = {{ limit = 10, per = "1s" }}

[http.mail.headers]
x-key = "{SECRET}"
"#
    )
}

#[derive(Debug, Clone)]
enum Slip {
    Delete(Index, usize),
    Insert(Index, &'static str),
    Replace(Index, char),
    SwapLines(Index, Index),
    Repeat(Index),
    Cut(Index),
}

fn slip() -> impl Strategy<Value = Slip> {
    let pieces = vec![
        "\"",
        "'",
        "\"\"\"",
        "=",
        "[",
        "]",
        "{",
        "}",
        ",",
        ".",
        "\n",
        "\\",
        "#",
        " = ",
        "-",
        "0",
        "e",
        "\u{0}",
        "\u{feff}",
        "[[",
        "timeout = ",
        "url",
        "headers.",
        "name",
    ];
    prop_oneof![
        (any::<Index>(), 1..20_usize).prop_map(|(at, count)| Slip::Delete(at, count)),
        (any::<Index>(), prop::sample::select(pieces)).prop_map(|(at, piece)| Slip::Insert(at, piece)),
        (any::<Index>(), any::<char>()).prop_map(|(at, char)| Slip::Replace(at, char)),
        (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Slip::SwapLines(one, other)),
        any::<Index>().prop_map(Slip::Repeat),
        any::<Index>().prop_map(Slip::Cut),
    ]
}

fn slipped(text: &str, slip: &Slip) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut lines: Vec<&str> = text.lines().collect();
    if chars.is_empty() || lines.is_empty() {
        return String::new();
    }
    match slip {
        Slip::Delete(at, count) => {
            let at = at.index(chars.len());
            chars[..at].iter().chain(chars.iter().skip(at + count)).collect()
        }
        Slip::Insert(at, piece) => {
            let at = at.index(chars.len());
            chars[..at].iter().copied().chain(piece.chars()).chain(chars[at..].iter().copied()).collect()
        }
        Slip::Replace(at, char) => {
            let mut chars = chars.clone();
            chars[at.index(text.chars().count())] = *char;
            chars.into_iter().collect()
        }
        Slip::SwapLines(one, other) => {
            let (one, other) = (one.index(lines.len()), other.index(lines.len()));
            lines.swap(one, other);
            lines.join("\n")
        }
        Slip::Repeat(at) => {
            let at = at.index(lines.len());
            lines.insert(at, lines[at]);
            lines.join("\n")
        }
        Slip::Cut(at) => chars[..at.index(chars.len())].iter().collect(),
    }
}

fn keeps_quiet(result: Result<Config, buttress::ConfigError>) -> Result<(), TestCaseError> {
    let shown = match &result {
        Ok(config) => format!("{:?}", config.database),
        Err(error) => {
            let line = error.to_string();
            prop_assert!(!line.contains(char::is_control), "{line:?} is not one line");
            prop_assert!(line.chars().count() < 700, "{line}");
            format!("{line} {error:?}")
        }
    };
    prop_assert!(!shown.contains(SECRET), "{shown}");
    prop_assert!(!shown.contains("hunter2-hunter2-hunter2"), "{shown}");
    Ok(())
}

#[test]
fn it_is_right_before_it_is_made_wrong() {
    Config::from_toml(&whole()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_slip_shows_a_secret(slips in prop::collection::vec(slip(), 1..6)) {
        let text = slips.iter().fold(whole(), |text, slip| slipped(&text, slip));
        keeps_quiet(Config::from_toml(&text))?;
    }

    #[test]
    fn no_variable_shows_a_secret(
        key in "(?i)(DATABASE|REDIS|HTTP__STOCK|HTTP__[A-Z_ ]{0,5}|CACHE)(__(URL|BEARER|HEADERS__X_KEY|HEADERS|RETRY)){0,2}[A-Z_]{0,2}",
        before in ".{0,5}", after in ".{0,5}",
    ) {
        let folder = tempfile::TempDir::new()?;
        let path = folder.path().join("buttress.toml");
        std::fs::write(&path, whole())?;
        let variables = [(format!("BUTTRESS_{key}"), format!("{before}{SECRET}{after}"))];
        keeps_quiet(Config::load_with(&path, variables))?;
    }

    /// Short ones, of every type, where secrets belong or almost: no length gives them away.
    #[test]
    fn no_value_of_a_secret_is_shown_whatever_its_type(
        (table, key) in prop::sample::select(vec![
            ("[database]", "url"), ("[redis]", "url"), ("[http.stock]", "bearer"), ("[http.stock.headers]", "x-key"),
        ]),
        value in prop::sample::select(vec![
            "\"hunter2\"", "'''hunter2'''", "7777777", "-7777777", "77777.77", "[\"hunter2\"]",
            "{ hunter2 = 7777777 }", "7777-07-07", "\"\\u0068unter2\\n\"", "\"hunter2", "hunter2", "\"hunter2\" 7777777",
        ]),
        slip in (any::<Index>(), "[a-z]?"), is_misspelt: bool,
    ) {
        let at = slip.0.index(key.len());
        let misspelt = format!("{}{}{}", &key[..at], slip.1, &key[at + 1..]);
        let key = if is_misspelt { &*misspelt } else { key };
        let api = if table.starts_with("[http") { "[http.stock]\nbase_url = \"http://h\"\n" } else { "" };
        let table = if table == "[http.stock]" { "" } else { table };
        let text = format!("{api}{table}\n{key} = {value}\n");
        if let Err(error) = Config::from_toml(&text) {
            let line = format!("{error} {error:?}");
            prop_assert!(!line.contains("hunter2") && !line.contains("77777"), "{text}: {line}");
        }
    }
}

//! How keys and values are shown, and what is said of the wrong ones.

use figment::{
    error::Kind,
    value::{Num, Value},
};

use super::{shape, wrong::Wrong};

/// No key is longer, nor the name of an API.
const LONGEST_KEY: usize = 64;

/// No word, duration or address is longer, but most tokens are.
const LONGEST_TEXT: usize = 40;

/// A key as the file has it. One that has no place in a TOML key without quotes may be anything, a URL with a password
/// that stands on the wrong side for one.
pub(super) fn segment(key: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if key.len() > LONGEST_KEY || key.contains(['@', ':', '/', '=', '?', '&']) {
        "\"…\"".to_owned()
    } else if !key.is_empty() && key.bytes().all(bare) {
        key.to_owned()
    } else {
        format!("{key:?}")
    }
}

pub(super) fn path(keys: &[String]) -> String {
    keys.iter().map(|key| segment(key)).collect::<Vec<_>>().join(".")
}

/// The value as the file has it; empty where it may hold a secret.
pub(super) fn value(keys: &[String], value: &Value) -> String {
    if shape::is_secret(keys) {
        return String::new();
    }
    match value {
        Value::String(_, text) => string(text),
        Value::Char(_, char) => string(&char.to_string()),
        Value::Bool(_, bool) => bool.to_string(),
        Value::Num(_, number) => self::number(*number),
        Value::Empty(..) => String::new(),
        Value::Dict(..) => "{…}".to_owned(),
        Value::Array(..) => "[…]".to_owned(),
    }
}

/// What is long, or a URL with more than host and path, may be a secret under a wrong key.
fn string(text: &str) -> String {
    if text.contains(['@', '?', '#']) {
        return String::new();
    }
    if text.chars().count() > LONGEST_TEXT {
        return "\"…\"".to_owned();
    }
    format!("\"{}\"", text.escape_debug())
}

fn number(number: Num) -> String {
    match (number, whole(number)) {
        (_, Some(whole)) => whole.to_string(),
        (Num::F32(float), _) => format!("{float:?}").to_ascii_lowercase(),
        (Num::F64(float), _) => format!("{float:?}").to_ascii_lowercase(),
        _ => String::new(),
    }
}

fn whole(number: Num) -> Option<i128> {
    number.to_i128().or_else(|| number.to_u128()?.try_into().ok())
}

/// The word that was meant, where one is near enough to be meant.
pub(super) fn nearest<'w>(word: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    if word.len() > LONGEST_KEY {
        return None;
    }
    let word = word.to_ascii_lowercase().replace('-', "_");
    let (distance, nearest) = words
        .map(|known| (strsim::damerau_levenshtein(&word, known), known))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= (nearest.len() / 3).clamp(1, 3)).then_some(nearest)
}

pub(super) fn listed<'w>(words: impl Iterator<Item = &'w str>, quote: char) -> String {
    words.map(|word| format!("{quote}{word}{quote}")).collect::<Vec<_>>().join(", ")
}

/// A key that there is not, in a table with these.
pub(super) fn unknown_key<'k>(
    keys: &[String],
    found: Option<&Value>,
    known: impl Iterator<Item = &'k str> + Clone,
) -> Wrong {
    let key = keys.last().map_or("", String::as_str);
    let Some(meant) = nearest(key, known.clone()) else {
        let fix = format!("unknown key, there are {}", listed(known, '`'));
        return Wrong::hidden(path(keys), fix);
    };
    let mut right = keys.to_vec();
    right.pop();
    right.push(meant.to_owned());
    // A text may be the secret that it was meant to be; what has no text in it is not.
    let shown = match found {
        Some(found @ (Value::Num(..) | Value::Bool(..))) => value(&right, found),
        _ => String::new(),
    };
    Wrong { value: shown, ..Wrong::hidden(path(keys), format!("unknown key, did you mean `{meant}`?")) }
}

/// A value of another type than the key takes.
pub(super) fn wrong_type(keys: &[String], found: &Value, taken: &Value) -> Wrong {
    let fix = match taken {
        Value::Dict(..) => table(keys),
        Value::Bool(..) => "write true or false, without quotes".to_owned(),
        Value::Num(_, Num::F64(_)) => "write a number, without quotes".to_owned(),
        Value::Num(..) => "write a whole number, without quotes".to_owned(),
        Value::String(_, example) if humantime::parse_duration(example).is_ok() => match found {
            Value::Num(_, number) if whole(*number).is_some_and(|number| number >= 0) => {
                format!("it has no unit, write \"{}s\"", self::number(*number))
            }
            _ => DURATION.to_owned(),
        },
        _ => "write it in quotes".to_owned(),
    };
    Wrong { value: value(keys, found), ..Wrong::hidden(path(keys), fix) }
}

/// Something else stands where a table should.
fn table(keys: &[String]) -> String {
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    match names[..] {
        ["http"] => "write `[http.NAME]` with a name of yours, and below it `base_url`".to_owned(),
        ["http", _, "headers"] => "write `headers = { name = \"value\" }`".to_owned(),
        // A table of an API without a name.
        ["http", key] if shape::keys(keys).contains(&key) => {
            "write it below `[http.NAME]`, with a name of yours for the API".to_owned()
        }
        _ => {
            let first = shape::example(keys).into_iter().next().unwrap_or_default();
            format!("it is a table, write `[{}]` and below it its keys, such as `{first}`", path(keys))
        }
    }
}

const DURATION: &str = "write a duration such as \"30s\", \"500ms\" or \"5m\"";

fn duration(text: &str) -> String {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text.len() < 20 {
        return format!("it has no unit, write \"{text}s\"");
    }
    let no_months = text.replace('M', "m");
    if no_months != text && humantime::parse_duration(&no_months).is_ok() && text.len() < 20 {
        return format!("`M` is no unit here, write \"{no_months}\" for minutes");
    }
    DURATION.to_owned()
}

/// What serde found, where types and keys are right. `found` is what stands there.
pub(super) fn refused(keys: &[String], kind: &Kind, found: Option<&Value>) -> Wrong {
    let fix = match (kind, found) {
        (Kind::MissingField(field), _) => {
            let mut keys = keys.to_vec();
            keys.push(field.clone().into_owned());
            return Wrong::hidden(path(&keys), missing(&keys));
        }
        (Kind::UnknownVariant(word, words), _) => match nearest(word, words.iter().copied()) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => format!("write one of {}", listed(words.iter().copied(), '"')),
        },
        (_, Some(Value::Num(_, number))) if whole(*number).is_some_and(|number| number < 0) => {
            "it is below zero, write a whole number".to_owned()
        }
        (_, Some(Value::Num(..))) => "it is too large, write a smaller number".to_owned(),
        (_, Some(Value::String(..))) if keys.last().is_some_and(|key| key == "dashboard") => {
            "write an address and a port, such as \"127.0.0.1:9900\"".to_owned()
        }
        (_, Some(Value::String(_, text))) => duration(text),
        _ => "this key does not take it".to_owned(),
    };
    let shown = found.map(|found| value(keys, found)).unwrap_or_default();
    Wrong { value: shown, ..Wrong::hidden(path(keys), fix) }
}

fn missing(keys: &[String]) -> String {
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let example = match keys[..] {
        ["database", "url"] => "url = \"postgres://user@host/database\"",
        ["redis", "url"] => "url = \"redis://host\"",
        ["http", _, "base_url"] => "base_url = \"https://host/path\"",
        [.., "bulkhead", "limit"] => "limit = 50",
        _ => return "it is missing".to_owned(),
    };
    format!("it is missing, write `{example}`")
}

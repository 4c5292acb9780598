//! The environment variables `BUTTRESS_…`.

use std::{collections::BTreeMap, ffi::OsString};

use figment::value::{Dict, Num, Value};

use super::{
    ConfigError,
    check::{NAME_OF_API, is_name_of_api},
    error::{Origin, cut},
    say, shape,
    wrong::Wrong,
};

const PREFIX: &str = "BUTTRESS_";

/// No keys: the first names the file to a program, the second is the simulator's.
const RESERVED: [&str; 2] = ["config", "simulation_seed"];

/// What they set.
#[derive(Debug, Default)]
pub(super) struct Environment {
    pub(super) values: Dict,
    /// The variable of each key.
    pub(super) names: BTreeMap<String, String>,
}

impl Environment {
    /// `file` has the names as the user writes them: variables have neither small letters nor hyphens.
    pub(super) fn read(
        variables: impl Iterator<Item = (OsString, OsString)>,
        file: &Dict,
    ) -> Result<Self, ConfigError> {
        let mut ours: Vec<(String, OsString)> = variables
            .filter_map(|(name, value)| {
                let name = name.to_string_lossy().into_owned();
                let is_ours =
                    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
                is_ours.then_some((name, value))
            })
            .collect();
        ours.sort();
        let mut environment = Self::default();
        for (name, value) in ours {
            let rest = name[PREFIX.len()..].to_ascii_lowercase();
            if !RESERVED.contains(&&*rest) {
                environment
                    .take(&name, &rest, value, file)
                    .map_err(|wrong| ConfigError::new(Origin::Variable(shown(&name)), wrong))?;
            }
        }
        Ok(environment)
    }

    fn take(&mut self, name: &str, rest: &str, value: OsString, file: &Dict) -> Result<(), Wrong> {
        let mut keys: Vec<String> = Vec::new();
        for word in rest.split("__") {
            let key =
                if shape::names_are_free(&keys) { self.name_of(&keys, word, file) } else { word.to_owned() };
            keys.push(key);
            if keys.len() == 2 && keys[0] == "http" && !is_name_of_api(&keys[1]) {
                return Err(Wrong::hidden(say::path(&keys), NAME_OF_API));
            }
            let above = &keys[..keys.len() - 1];
            if word.is_empty() || shape::at(&keys).is_none() {
                let known = shape::keys(above);
                return Err(match known.is_empty() {
                    true => Wrong::hidden(
                        say::path(&keys),
                        format!("unknown key, `{}` is no table", say::path(above)),
                    ),
                    false => say::unknown_key(&keys, None, known.into_iter()),
                });
            }
        }
        let path = keys.join(".");
        if let Some(other) = self.names.get(&path) {
            let fix = format!("it is given twice, remove it or {}", shown(other));
            return Err(Wrong::hidden(say::path(&keys), fix));
        }
        let value =
            value.into_string().map_err(|_| Wrong::hidden(say::path(&keys), "its value is not UTF-8"))?;
        let value = typed(&keys, value)?;
        put(&mut self.values, &keys, value);
        self.names.insert(path, name.to_owned());
        Ok(())
    }

    /// The name that the file has, or another variable: without regard to case, `_` for `-`.
    fn name_of(&self, above: &[String], word: &str, file: &Dict) -> String {
        let same = |known: &&String| {
            known.len() == word.len()
                && known
                    .bytes()
                    .zip(word.bytes())
                    .all(|(known, byte)| known.eq_ignore_ascii_case(&byte) || (known == b'-' && byte == b'_'))
        };
        let known = table(file, above).into_iter().chain(table(&self.values, above)).flat_map(Dict::keys);
        let known: Vec<&String> = known.filter(same).collect();
        match known.iter().find(|known| **known == word).or(known.first()) {
            Some(known) => (*known).clone(),
            // A header's name has hyphens.
            None if above.len() > 1 => word.replace('_', "-"),
            None => word.to_owned(),
        }
    }
}

/// A variable's name can be as long and as odd as it likes.
fn shown(name: &str) -> String {
    cut(name, 80).into_owned()
}

fn table<'d>(dict: &'d Dict, keys: &[String]) -> Option<&'d Dict> {
    keys.iter().try_fold(dict, |dict, key| match dict.get(key) {
        Some(Value::Dict(_, table)) => Some(table),
        _ => None,
    })
}

fn put(dict: &mut Dict, keys: &[String], value: Value) {
    match keys {
        [] => {}
        [key] => {
            dict.insert(key.clone(), value);
        }
        [key, rest @ ..] => {
            let table = dict.entry(key.clone()).or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, table) = table {
                put(table, rest, value);
            }
        }
    }
}

/// What the text is to that key. Where it takes a text, nothing is read into it: `007`, `true` and `[x]` are what they are.
fn typed(keys: &[String], text: String) -> Result<Value, Wrong> {
    let wrong = |text: String, fix: String| {
        let value = say::value(keys, &Value::from(text));
        Wrong { value, ..Wrong::hidden(say::path(keys), fix) }
    };
    match shape::at(keys) {
        Some(Value::Bool(..)) => match &*text {
            "true" => Ok(Value::from(true)),
            "false" => Ok(Value::from(false)),
            _ => Err(wrong(text, "write true or false".to_owned())),
        },
        Some(Value::Num(_, Num::F64(_))) => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::from(number)),
            _ => Err(wrong(text, "write a number".to_owned())),
        },
        Some(Value::Num(..)) => match text.parse::<u64>() {
            Ok(number) => Ok(Value::from(number)),
            Err(_) if text.parse::<i64>().is_ok() => {
                Err(wrong(text, "it is below zero, write a whole number".to_owned()))
            }
            Err(_) => Err(wrong(text, "write a whole number".to_owned())),
        },
        Some(Value::Dict(..)) => {
            let variable: Vec<String> = keys.iter().cloned().chain(shape::example(keys)).collect();
            let variable = cut(&variable.join("__").to_ascii_uppercase(), 160).into_owned();
            Err(Wrong::hidden(
                say::path(keys),
                format!("it is a table, set its keys, such as {PREFIX}{variable}"),
            ))
        }
        _ => Ok(Value::from(text)),
    }
}

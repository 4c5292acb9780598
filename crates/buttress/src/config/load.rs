//! From a file and the environment to a configuration that has been checked.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs::File,
    io::{self, Read},
    path::Path,
};

use figment::{
    Figment, Metadata, Profile, Provider, Source,
    providers::{Format, Toml},
    value::{Dict, Map, Value},
};

use super::{Config, ConfigError, environment::Environment, error::Origin, say, shape, wrong::Wrong};

/// No configuration is longer.
const LONGEST_FILE: u64 = 1 << 20;

impl Config {
    /// Reads a TOML file, then what the environment variables `BUTTRESS_…` set in place of it, and checks all of it.
    ///
    /// In a variable's name `__` stands between table and key, and case does not matter:
    /// `BUTTRESS_DATABASE__POOL_SIZE=40`, `BUTTRESS_HTTP__STOCK__BEARER=…`. A name that the file has for an API or a
    /// header is found without regard to case, and by `_` for `-`. A text is taken as it is, without quotes. The names
    /// `BUTTRESS_CONFIG` and `BUTTRESS_SIMULATION_SEED` are no keys.
    ///
    /// # Errors
    /// If the file cannot be read, has a key that there is not, or a value that cannot be: see [`ConfigError`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::load_with(path, env::vars_os())
    }

    /// The same, with these in place of the process's environment variables.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with<N, V>(
        path: impl AsRef<Path>,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, ConfigError>
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let path = path.as_ref();
        let origin = Origin::File(path.to_owned());
        let text = read(path).map_err(|fix| ConfigError::whole(origin.clone(), fix))?;
        let file = parse(&text, &origin)?;
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        let environment = Environment::read(variables, &file)?;
        let figment = Figment::from(Given(file.clone())).merge(Given(environment.values));
        let file = Value::from(file);
        finish(&figment, |path| find_origin(path, &origin, &file, &environment.names))
    }

    /// Reads TOML. The environment is not looked at.
    ///
    /// ```
    /// let error = buttress::Config::from_toml("[cache]\nttl = 30").unwrap_err();
    /// assert_eq!(error.to_string(), "configuration: cache.ttl = 30: it has no unit, write \"30s\"");
    /// ```
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_toml(toml: &str) -> Result<Self, ConfigError> {
        let dict = parse(toml, &Origin::Program)?;
        finish(&Figment::from(Given(dict)), |_| Origin::Program)
    }

    /// Takes what providers of your own give: other formats, other environment variables, a secret store.
    ///
    /// A provider that reads types out of texts, as figment's `Env` does, makes a number of a password of digits: that is
    /// an error here, and quotes around it help. A key without a value, as a serialized [`Config`] has them, is not set.
    ///
    /// ```
    /// use buttress::{Config, config::figment::{Figment, providers::{Format, Toml}}};
    ///
    /// let config = Config::from_figment(&Figment::from(Toml::string("[cache]")).merge(("cache.ttl", "1m")))?;
    /// # Ok::<_, buttress::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_figment(figment: &Figment) -> Result<Self, ConfigError> {
        finish(figment, |path| {
            let found = figment.find_metadata(path).and_then(|metadata| metadata.source.clone());
            match found {
                Some(Source::File(path)) => Origin::File(path),
                _ => Origin::Program,
            }
        })
    }

    /// Checks a configuration that was made in code. [`System::start`](crate::System::start) does so by itself.
    ///
    /// # Errors
    /// For the first value that cannot be.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.find_wrong().map_err(|wrong| ConfigError::new(Origin::Program, wrong))
    }
}

/// `origin` is asked by the path of a key.
fn finish(figment: &Figment, origin: impl Fn(&str) -> Origin) -> Result<Config, ConfigError> {
    let found = figment.find_value("").map_err(|error| {
        // What a provider says may quote what it read.
        let source = error.metadata.as_ref().and_then(|metadata| metadata.source.clone());
        let origin = match source {
            Some(Source::File(path)) => Origin::File(path),
            _ => Origin::Program,
        };
        ConfigError::whole(origin, "it cannot be read, a provider of it failed")
    })?;
    let found = shape::without_nothing(found);
    let told = |keys: &[String], wrong: Wrong| said(origin(&keys.join(".")), &keys.join("."), wrong);
    shape::find_wrong(&found).map_err(|(keys, wrong)| told(&keys, wrong))?;
    let given = found.as_dict().cloned().unwrap_or_default();
    let config: Config = Figment::from(Given(given)).extract().map_err(|error| {
        let there = error.path.iter().try_fold(&found, |value, key| value.as_dict()?.get(key));
        told(&error.path, say::refused(&error.path, &error.kind, there))
    })?;
    config.find_wrong().map_err(|wrong| {
        let path = wrong.key.clone().into_owned();
        // As the user wrote it, where he did.
        let keys: Vec<String> = path.split('.').map(str::to_owned).collect();
        let there = found.find_ref(&path).map(|there| say::value(&keys, there));
        let value = there.filter(|_| !wrong.value.is_empty()).unwrap_or_else(|| wrong.value.clone());
        said(origin(&path), &path, Wrong { value, ..wrong })
    })?;
    Ok(config)
}

/// A variable may stand for a table that it made, in which something is missing.
fn said(origin: Origin, path: &str, wrong: Wrong) -> ConfigError {
    let is_of_another_key = *wrong.key != *path && wrong.key.starts_with(path);
    if matches!(origin, Origin::Variable(_)) && is_of_another_key {
        let fix = format!("{}: {}", wrong.key, wrong.fix).into();
        return ConfigError::new(origin, Wrong { fix, ..wrong });
    }
    ConfigError::new(origin, wrong)
}

/// The variable of that key, or else the file if it says something of it, or else a variable below that key.
fn find_origin(path: &str, file: &Origin, from_file: &Value, names: &BTreeMap<String, String>) -> Origin {
    if let Some(name) = names.get(path) {
        return Origin::Variable(name.clone());
    }
    let below = format!("{path}.");
    match names.range(below.clone()..).next() {
        Some((key, name)) if key.starts_with(&below) && from_file.find_ref(path).is_none() => {
            Origin::Variable(name.clone())
        }
        _ => file.clone(),
    }
}

fn read(path: &Path) -> Result<String, String> {
    let why = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "this process may not read it".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory, give the file in it".to_owned(),
        _ => format!("it cannot be read: {error}"),
    };
    let file = File::open(path).map_err(why)?;
    let mut bytes = Vec::new();
    file.take(LONGEST_FILE + 1).read_to_end(&mut bytes).map_err(why)?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err("it is longer than 1 MiB, is it the right file?".to_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line} is not UTF-8, save the file as UTF-8")
    })
}

fn parse(text: &str, origin: &Origin) -> Result<Dict, ConfigError> {
    // Some editors put a mark before a text in UTF-8.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    Toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        ConfigError::whole(origin.clone(), syntax(text, at, error.message()))
    })
}

/// The place, and nothing of what stands there.
fn syntax(text: &str, at: usize, message: &str) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    let what = match message {
        // These quote keys.
        _ if message.contains("duplicate key") => {
            "this key or table is there already, remove one of the two".to_owned()
        }
        _ if message.contains("dotted key") => "this key is below one that is no table".to_owned(),
        _ if message.starts_with("invalid string") => {
            "this is no number and no date, write it in quotes".to_owned()
        }
        "invalid basic string" | "invalid literal string" => {
            "this string has no end, or a character that has to be escaped".to_owned()
        }
        _ if message.starts_with("invalid escape sequence") => {
            "`\\` begins an escape here, write `\\\\`, or put the string into single quotes".to_owned()
        }
        _ => format!("this is not TOML ({})", message.lines().collect::<Vec<_>>().join(", ")),
    };
    format!("line {line}, column {column}: {what}")
}

/// What is there already.
struct Given(Dict);

impl Provider for Given {
    fn metadata(&self) -> Metadata {
        Metadata::named("configuration")
    }

    fn data(&self) -> figment::error::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, self.0.clone())]))
    }
}

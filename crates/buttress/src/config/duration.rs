//! Durations as people write them: `30s`, `500ms`, `5m`, `1h 30m`.

use std::{fmt, time::Duration};

use serde::{Deserializer, Serializer, de};

pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(Words)
}

struct Words;

impl de::Visitor<'_> for Words {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration with its unit, such as \"30s\", \"500ms\" or \"5m\"")
    }

    fn visit_str<E: de::Error>(self, words: &str) -> Result<Duration, E> {
        // `M` is a month, and whoever writes it means minutes.
        if words.contains('M') {
            return Err(E::invalid_value(de::Unexpected::Str(words), &self));
        }
        humantime::parse_duration(words).map_err(|_| E::invalid_value(de::Unexpected::Str(words), &self))
    }
}

/// What it is in a file, for the schema.
#[cfg(feature = "schema")]
pub(super) struct Written;

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Written {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let units = "ns|nsec|nanos|us|usec|µs|ms|msec|millis|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?\
                     |w|wks?|weeks?|months?|y|yrs?|years?";
        schemars::json_schema!({
            "type": "string",
            "description": "A duration with its unit.",
            "examples": ["30s", "500ms", "5m", "1h 30m"],
            "pattern": format!(r"^\s*(0|([0-9]+(\.[0-9]+)?\s*({units})\s*)+)$"),
        })
    }
}

/// The same where there may be none.
pub(super) mod option {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    pub(in crate::config) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// A key that is there has a value: TOML has no null.
    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        super::deserialize(deserializer).map(Some)
    }
}

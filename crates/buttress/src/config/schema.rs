use schemars::{Schema, generate::SchemaSettings, transform::transform_subschemas};
use serde_json::Value;

use super::Config;

impl Config {
    /// The JSON Schema (2020-12) of the file, for editors and for checks where this program is not at hand. It is made
    /// from the types, and describes each key. Bounds of values are checked by [`check`](Self::check) alone.
    ///
    /// ```
    /// let schema = buttress::Config::schema();
    /// assert_eq!(schema["title"], "buttress.toml");
    /// ```
    #[must_use]
    pub fn schema() -> Value {
        SchemaSettings::draft2020_12()
            .with_transform(without_null)
            .into_generator()
            .into_root_schema_for::<Self>()
            .to_value()
    }
}

/// TOML has none: what is optional is left out.
fn without_null(schema: &mut Schema) {
    transform_subschemas(&mut without_null, schema);
    let is_null = |schema: &Value| schema["type"] == "null";
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [kind] = &types[..] {
            let kind = kind.clone();
            schema.insert("type".to_owned(), kind);
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| !is_null(choice));
        if let [Value::Object(choice)] = &choices[..] {
            let choice = choice.clone();
            schema.remove("anyOf");
            for (key, value) in choice {
                schema.insert(key, value);
            }
        }
    }
}

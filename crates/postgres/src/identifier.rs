/// A name as it is written in SQL: between quotes, which it cannot leave.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

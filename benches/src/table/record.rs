use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{about::About, read as read_text};

/// What was measured of a row, by any part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) group: String,
    pub(super) name: String,
    #[serde(flatten)]
    figures: Map<String, Value>,
}

impl Record {
    pub(super) fn id(&self) -> String {
        format!("{}/{}", self.group, self.name)
    }

    pub(super) fn figure(&self, name: &str) -> Option<f64> {
        self.figures.get(name)?.as_f64()
    }

    /// Whether it is a row of this project's.
    pub(super) fn is_ours(&self) -> bool {
        self.name.split(' ').next() == Some("buttress")
    }
}

/// All rows, in the order of the table.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Measured(Vec<Record>);

impl Measured {
    /// Adds figures to rows that are there, and the rows that are not.
    pub(super) fn merge(&mut self, records: Vec<Record>) {
        for record in records {
            match self.0.iter_mut().find(|row| (&row.group, &row.name) == (&record.group, &record.name)) {
                Some(row) => row.figures.extend(record.figures),
                None => self.0.push(record),
            }
        }
    }

    /// Those of `ids` first, as they stand there.
    pub(super) fn put_in_order(&mut self, ids: &[String]) {
        self.0.sort_by_cached_key(|row| {
            let id = row.id();
            ids.iter().position(|known| *known == id).unwrap_or(ids.len())
        });
    }

    pub(super) fn rows(&self) -> &[Record] {
        &self.0
    }

    pub(super) fn row(&self, id: &str) -> Option<&Record> {
        self.0.iter().find(|row| row.id() == id)
    }

    /// The groups in the order in which they first come, with their rows.
    pub(super) fn groups(&self) -> Vec<(&str, Vec<&Record>)> {
        let mut groups: Vec<(&str, Vec<&Record>)> = Vec::new();
        for row in &self.0 {
            match groups.iter_mut().find(|(group, _)| *group == row.group) {
                Some((_, rows)) => rows.push(row),
                None => groups.push((&row.group, vec![row])),
            }
        }
        groups
    }

    /// `x`: how long a call of the one takes, over the other's.
    pub(super) fn ratio(&self, of: &str, to: &str, figure: &str) -> Option<f64> {
        let [mine, other] = [of, to].map(|id| self.row(id).and_then(|row| row.figure(figure)));
        let (mine, other) = (mine?, other?);
        (other > 0.0).then(|| mine / other)
    }
}

/// The one line of the file that is no row.
const ABOUT: (&str, &str) = ("run", "about");

#[derive(Debug, Serialize, Deserialize)]
struct AboutLine {
    group: String,
    name: String,
    #[serde(flatten)]
    about: About,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

/// An object a line: what was measured where, and what could not be, then the rows.
pub(super) fn write(
    path: &Path,
    about: &About,
    measured: &Measured,
    missing: &[String],
) -> Result<(), String> {
    let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut file = BufWriter::new(File::create(path).map_err(|error| fault(&error))?);
    let (group, name) = (ABOUT.0.into(), ABOUT.1.into());
    let head = AboutLine { group, name, about: about.clone(), missing: missing.to_vec() };
    let head = serde_json::to_string(&head).map_err(|error| fault(&error))?;
    writeln!(file, "{head}").map_err(|error| fault(&error))?;
    for row in measured.rows() {
        let line = serde_json::to_string(row).map_err(|error| fault(&error))?;
        writeln!(file, "{line}").map_err(|error| fault(&error))?;
    }
    file.flush().map_err(|error| fault(&error))
}

/// What `write` wrote.
pub(super) fn read(path: &Path) -> Result<(About, Measured, Vec<String>), String> {
    let fault = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let text = read_text(path)?;
    let (head, _) = text.split_once('\n').ok_or_else(|| fault(&"it has no rows"))?;
    let head: AboutLine = serde_json::from_str(head)
        .map_err(|error| fault(&format!("its first line does not say where it was measured: {error}")))?;
    let mut measured = Measured::default();
    measured.merge(lines(path)?.into_iter().filter(|row| (&*row.group, &*row.name) != ABOUT).collect());
    Ok((head.about, measured, head.missing))
}

/// The rows in the file of a part.
pub(super) fn lines(path: &Path) -> Result<Vec<Record>, String> {
    let text = read_text(path)?;
    text.lines()
        .map(|line| {
            serde_json::from_str(line).map_err(|error| format!("{}: {error}: {line}", path.display()))
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Rows of `group/name`, each with one figure.
    pub(in crate::table) fn measured(rows: &[(&str, &str, f64)]) -> Measured {
        let mut measured = Measured::default();
        for (id, figure, value) in rows {
            let (group, name) = id.split_once('/').unwrap();
            let figures = Map::from_iter([((*figure).to_owned(), Value::from(*value))]);
            measured.merge(vec![Record { group: group.into(), name: name.into(), figures }]);
        }
        measured
    }

    #[test]
    fn the_parts_figures_of_a_row_come_together() {
        let all = measured(&[
            ("a/x", "ns", 2.0),
            ("b/y", "ns", 8.0),
            ("a/x", "instructions", 30.0),
            ("a/z", "ns", 1.0),
        ]);
        assert_eq!(all.rows().len(), 3);
        let row = all.row("a/x").unwrap();
        assert_eq!(
            (row.figure("ns"), row.figure("instructions"), row.figure("allocs")),
            (Some(2.0), Some(30.0), None)
        );
        let groups: Vec<_> = all.groups().into_iter().map(|(group, rows)| (group, rows.len())).collect();
        assert_eq!(groups, [("a", 2), ("b", 1)]);
        assert_eq!(all.ratio("a/x", "b/y", "ns"), Some(0.25));
        assert_eq!(all.ratio("a/x", "b/none", "ns"), None);
        assert_eq!(all.ratio("a/x", "b/y", "scale2"), None);
    }

    #[test]
    fn rows_stand_in_the_order_of_the_groups_and_those_of_servers_follow_as_they_came() {
        let mut all =
            measured(&[("a/y", "ns", 1.0), ("pg/2", "ns", 1.0), ("pg/1", "ns", 1.0), ("a/x", "ns", 1.0)]);
        all.put_in_order(&["a/x".into(), "a/y".into()]);
        let ids: Vec<String> = all.rows().iter().map(Record::id).collect();
        assert_eq!(ids, ["a/x", "a/y", "pg/2", "pg/1"]);
    }

    #[test]
    fn a_file_is_read_back_and_holds_to_the_agreed_form() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let all = measured(&[("a/x \"1\"", "ns", 2.5), ("b/y", "scale2", 0.5)]);
        let about = About { date: "2026-01-31".into(), ..About::default() };
        write(file.path(), &about, &all, &[]).unwrap();
        let lines = std::fs::read_to_string(file.path()).unwrap();
        assert!(lines.lines().any(|line| line == r#"{"group":"a","name":"x \"1\"","ns":2.5}"#), "{lines}");
        assert_eq!(read(file.path()).unwrap(), (about.clone(), all, Vec::new()));
        let missing = vec!["the part `servers` failed".to_owned()];
        write(file.path(), &about, &Measured::default(), &missing).unwrap();
        assert_eq!(read(file.path()).unwrap(), (about, Measured::default(), missing));
    }

    #[test]
    fn a_null_is_no_figure() {
        let row: Record = serde_json::from_str(r#"{"group":"a","name":"x","ns":1.0,"scale2":null}"#).unwrap();
        assert_eq!((row.figure("ns"), row.figure("scale2")), (Some(1.0), None));
    }
}

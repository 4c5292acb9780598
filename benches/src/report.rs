use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use serde::Serialize;

pub(crate) use crate::exit::exit;
use crate::{allocations::Allocations, clean::Clean, one_thread::Pair, row::Row};

/// What was measured of a row.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) pairs: Clean<Pair>,
    pub(crate) scale: Option<Clean<f64>>,
    pub(crate) allocations: Allocations,
}

/// A line of the JSON file.
#[derive(Debug, Serialize)]
struct Line<'a> {
    group: &'a str,
    name: &'a str,
    ns: f64,
    x_bare: f64,
    allocs: f64,
    bytes: f64,
    scale2: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_key: Option<f64>,
}

/// Writes each row as soon as it is measured: a table to `out`, an object a line to the JSON file.
pub(crate) struct Report<W> {
    out: W,
    json: Option<(PathBuf, BufWriter<File>)>,
    group: &'static str,
    failures: Vec<String>,
}

impl<W: Write> Report<W> {
    pub(crate) fn new(out: W, json: Option<PathBuf>) -> io::Result<Self> {
        let json =
            json.map(|path| File::create(&path).map(|file| (path, BufWriter::new(file)))).transpose()?;
        Ok(Self { out, json, group: "", failures: Vec::new() })
    }

    pub(crate) fn add(&mut self, row: &Row, measured: &Measured) -> io::Result<()> {
        let Some(line) = Line::of(row, measured) else {
            let (kept, tried) = (measured.pairs.kept.len(), measured.pairs.tried);
            return self.failed(row, format!("{}: {kept} clean slices in {tried}", row.id()));
        };
        if let (Some(scale), None) = (&measured.scale, line.scale2) {
            let (kept, tried) = (scale.kept.len(), scale.tried);
            self.failures.push(format!("{} on two threads: {kept} clean pairs in {tried}", row.id()));
        }
        self.heading(row.group)?;
        self.print(&line, measured)?;
        if let Some((_, json)) = &mut self.json {
            serde_json::to_writer(&mut *json, &line)?;
            writeln!(json)?;
        }
        Ok(())
    }

    /// Goes on without that row.
    pub(crate) fn failed(&mut self, row: &Row, why: String) -> io::Result<()> {
        self.failures.push(why);
        self.heading(row.group)?;
        writeln!(self.out, "{:<42}{:>10}", row.name, "none")
    }

    fn heading(&mut self, group: &'static str) -> io::Result<()> {
        if self.group == group {
            return Ok(());
        }
        self.group = group;
        writeln!(
            self.out,
            "\n{:<42}{:>10}{:>10}{:>8}{:>8}{:>8}  {:>8}{:>8}",
            group, "ns/call", "x bare", "allocs", "bytes", "scale2", "clean", "clean2"
        )
    }

    fn print(&mut self, line: &Line<'_>, measured: &Measured) -> io::Result<()> {
        let scale = match (&measured.scale, line.scale2) {
            (None, _) => "-".into(),
            (Some(_), None) => "none".into(),
            (Some(_), Some(scale)) => format!("{scale:.2}"),
        };
        let clean2 = measured.scale.as_ref().map_or("-".into(), Clean::to_string);
        writeln!(
            self.out,
            "{:<42}{:>10.2}{:>10.1}{:>8.2}{:>8.0}{scale:>8}  {:>8}{clean2:>8}",
            line.name,
            line.ns,
            line.x_bare,
            line.allocs,
            line.bytes,
            measured.pairs.to_string(),
        )?;
        match line.bytes_per_key {
            Some(bytes) => writeln!(self.out, "{:>52.1} bytes a key", bytes),
            None => Ok(()),
        }
    }

    /// Says what is missing and where the JSON is.
    ///
    /// # Errors
    /// When something could not be measured, or the file not be written.
    pub(crate) fn finish(mut self) -> Result<(), String> {
        if let Some((path, json)) = &mut self.json {
            json.flush().map_err(|error| format!("{}: {error}", path.display()))?;
            writeln!(self.out, "\nwrote {}", path.display()).map_err(|error| error.to_string())?;
        }
        if self.failures.is_empty() {
            return Ok(());
        }
        Err(format!("\nnot measured:\n  {}", self.failures.join("\n  ")))
    }
}

impl<'a> Line<'a> {
    /// `None` where no time could be had.
    fn of(row: &Row, measured: &Measured) -> Option<Self> {
        let Measured { pairs, scale, allocations } = measured;
        Some(Self {
            group: row.group,
            name: row.name,
            ns: rounded(pairs.median(|pair| pair.row)?),
            x_bare: rounded(pairs.median(|pair| pair.row / pair.bare)?),
            allocs: rounded(allocations.count),
            bytes: rounded(allocations.bytes),
            scale2: scale.as_ref().and_then(|scales| scales.median(|scale| *scale)).map(rounded),
            bytes_per_key: allocations.bytes_per_key.map(rounded),
        })
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{backend::HEALTHY, body, clean::Plan, row::Expected, verdict::Verdict};

    const ROW: Row =
        Row::new("breaker", "a \"quoted\" one", Expected::All(Verdict::Served), |_| body::shared(HEALTHY));

    fn clean<T>(kept: Vec<T>, needed: usize) -> Clean<T> {
        let plan = Plan { wanted: kept.len(), needed, tries: kept.len() };
        let mut kept = kept.into_iter();
        Clean::collect(plan, || Ok(kept.next())).unwrap()
    }

    fn measured(scale: Option<Clean<f64>>, needed: usize) -> Measured {
        let pairs = [(1.0, 20.00049), (2.0, 10.0), (1.0, 30.0)].map(|(bare, row)| Pair { bare, row });
        Measured {
            pairs: clean(pairs.into(), needed),
            scale,
            allocations: Allocations { count: 0.0, bytes: 0.0, bytes_per_key: None },
        }
    }

    /// The table, the JSON and the verdict of a report with this one row.
    fn reported(measured: &Measured) -> (String, String, Result<(), String>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut out = Vec::new();
        let mut report = Report::new(&mut out, Some(file.path().into())).unwrap();
        report.add(&ROW, measured).unwrap();
        let result = report.finish();
        (String::from_utf8(out).unwrap(), fs::read_to_string(file.path()).unwrap(), result)
    }

    #[test]
    fn a_json_line_has_exactly_the_agreed_fields() {
        let (table, json, result) = reported(&measured(Some(clean(vec![1.5, 1.25, 1.75], 3)), 3));
        let expected = r#"{"group":"breaker","name":"a \"quoted\" one","ns":20.0,"x_bare":20.0,"allocs":0.0,"bytes":0.0,"scale2":1.5}"#;
        assert_eq!(json, format!("{expected}\n"));
        assert_eq!(result, Ok(()));
        assert!(table.contains("1.50"), "{table}");
        assert!(table.contains("3/3"), "{table}");
    }

    #[test]
    fn memory_is_told_of_rows_with_keys() {
        let mut measured = measured(None, 3);
        measured.allocations.bytes_per_key = Some(35.70049);
        let (table, json, result) = reported(&measured);
        assert!(json.ends_with("\"scale2\":null,\"bytes_per_key\":35.7}\n"), "{json}");
        assert!(table.contains(" 35.7 bytes a key\n"), "{table}");
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn a_row_for_one_thread_has_no_scale() {
        let (table, json, result) = reported(&measured(None, 3));
        assert!(json.contains(r#""scale2":null"#), "{json}");
        assert_eq!(result, Ok(()));
        assert!(!table.contains("none"), "{table}");
    }

    #[test]
    fn a_missing_scale_is_reported() {
        let (table, json, result) = reported(&measured(Some(clean(vec![1.5], 2)), 3));
        assert!(json.contains(r#""scale2":null"#), "{json}");
        assert!(table.contains("none"), "{table}");
        assert!(result.unwrap_err().ends_with("breaker/a \"quoted\" one on two threads: 1 clean pairs in 1"));
    }

    #[test]
    fn a_row_without_enough_clean_slices_has_no_numbers() {
        let (table, json, result) = reported(&measured(None, 4));
        assert_eq!(json, "");
        assert!(table.lines().any(|line| line.ends_with("none")), "{table}");
        assert!(result.unwrap_err().ends_with("breaker/a \"quoted\" one: 3 clean slices in 3"));
    }
}

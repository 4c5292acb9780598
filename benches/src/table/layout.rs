//! The columns of the table, for the terminal and for RESULTS.md alike.

use super::{
    peers::beside,
    record::{Measured, Record},
    targets::Target,
};

/// A figure, its heading, and how it is written.
type Column = (&'static str, &'static str, fn(f64) -> String);

const COLUMNS: [Column; 10] = [
    ("ns", "ns", short),
    ("x_bare", "x bare", |value| format!("{value:.1}")),
    ("instructions", "instr.", |value| format!("{value:.0}")),
    ("allocs", "allocs", |value| format!("{value:.2}")),
    ("bytes", "bytes", |value| format!("{value:.0}")),
    ("scale2", "scale2", |value| format!("{value:.2}")),
    ("bytes_per_key", "B/key", |value| format!("{value:.1}")),
    ("per_second", "per s", |value| grouped(value.round())),
    ("p99_ns", "p99 us", |value| format!("{:.0}", value / 1e3)),
    ("rounds", "rounds", |value| format!("{value:.0}")),
];

/// A group: the columns that any of its rows has, and the cells of each row in them.
#[derive(Debug, PartialEq)]
pub(super) struct Layout<'a> {
    pub(super) headings: Vec<&'static str>,
    pub(super) lines: Vec<Line<'a>>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) cells: Vec<String>,
    /// `0.62 of recloser closed`, for each peer.
    pub(super) beside: String,
}

pub(super) fn layout<'a>(rows: &[&'a Record], measured: &Measured, targets: &[Target]) -> Layout<'a> {
    let has = |figure| rows.iter().any(|row| row.figure(figure).is_some());
    let columns: Vec<_> = COLUMNS.into_iter().filter(|(figure, _, _)| has(figure)).collect();
    let line = |row: &&'a Record| {
        let cell = |(figure, _, shown): &Column| row.figure(figure).map_or_else(|| "-".into(), shown);
        let peer = |(peer, x): (&Record, f64)| {
            let whose = if peer.group == row.group { peer.name.clone() } else { peer.id() };
            format!("{x:.2} of {whose}")
        };
        let beside: Vec<_> = beside(row, measured, targets).into_iter().map(peer).collect();
        Line { name: &row.name, cells: columns.iter().map(cell).collect(), beside: beside.join(", ") }
    };
    Layout {
        headings: columns.iter().map(|(_, heading, _)| *heading).collect(),
        lines: rows.iter().map(line).collect(),
    }
}

/// Three digits that matter.
fn short(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        ..1_000.0 => format!("{value:.1}"),
        _ => grouped(value.round()),
    }
}

/// `195000` as `195,000`.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut shown = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at) % 3 == 0 && !shown.ends_with('-') {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::{super::record::tests::measured, *};

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.756, 9.99, 23.46, 961.2, 12_345.6, 1_234_567.0].map(short),
            ["0.76", "9.99", "23.5", "961.2", "12,346", "1,234,567"]
        );
        assert_eq!(grouped(100.0), "100");
    }

    #[test]
    fn a_group_has_the_columns_of_its_rows() {
        let all = measured(&[
            ("g/buttress x", "ns", 5.0),
            ("g/other x", "ns", 10.0),
            ("g/other x", "scale2", 0.5),
            ("h/y", "p99_ns", 2_000.0),
        ]);
        let groups = all.groups();
        let first = layout(&groups[0].1, &all, &[]);
        assert_eq!(first.headings, ["ns", "scale2"]);
        assert_eq!(first.lines[0].cells, ["5.00", "-"]);
        assert_eq!(first.lines[0].beside, "0.50 of other x");
        assert_eq!(first.lines[1].beside, "");
        let second = layout(&groups[1].1, &all, &[]);
        assert_eq!((second.headings, &second.lines[0].cells), (vec!["p99 us"], &vec!["2".to_owned()]));
    }
}

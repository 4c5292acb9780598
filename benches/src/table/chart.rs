//! Which rows the charts show.

use super::{
    peers::beside,
    record::{Measured, Record},
    svg::{Bar, Chart, Panel, draw},
    targets::Target,
};

/// The files, with what they show.
pub(super) const FILES: [(&str, &str); 3] = [
    ("calls.svg", "Time of a call through a layer, ours beside its peers"),
    ("stack.svg", "Time of a call through a whole stack of layers"),
    ("servers.svg", "Time of an item on real servers, ours beside others"),
];

const CALLS: [&str; 10] = [
    "breaker/buttress count closed",
    "timeout/buttress ready",
    "retry/buttress budget ok",
    "hedge/buttress in time",
    "rate-limit/buttress gcra",
    "bulkhead/buttress fixed",
    "cache/buttress hit one key",
    "batch/buttress no-op 64",
    "balance/buttress",
    "telemetry/buttress histogram",
];

const SERVERS: [&str; 6] = [
    "postgres/buttress query",
    "postgres/buttress batch insert 64",
    "postgres/buttress lookup 64",
    "redis/buttress get 64",
    "http/buttress thin 64",
    "http/buttress client 64",
];

const NOTE: &str = "Shorter is better. Each part has a scale of its own.";

/// The charts by their files' names.
///
/// # Errors
/// When a row that a chart shows was not measured.
pub(super) fn all(measured: &Measured, targets: &[Target]) -> Result<Vec<(&'static str, String)>, String> {
    let panels =
        |ids: &[&str]| ids.iter().map(|id| of_row(id, measured, targets)).collect::<Result<Vec<_>, _>>();
    let stack = of_group("stack", measured)?;
    let panels = [panels(&CALLS)?, vec![stack], panels(&SERVERS)?];
    let draw = |((file, title), panels)| (file, draw(&Chart { title, note: NOTE, panels }));
    Ok(FILES.into_iter().zip(panels).map(draw).collect())
}

/// A row of ours and its peers.
fn of_row(id: &str, measured: &Measured, targets: &[Target]) -> Result<Panel, String> {
    let row = measured.row(id).ok_or_else(|| format!("{id} was not measured, and a chart shows it"))?;
    let peers = beside(row, measured, targets).into_iter().map(|(peer, _)| peer);
    // What the clock costs is no way to make the call.
    let peers = peers.filter(|peer| peer.group == row.group);
    Ok(Panel { title: row.group.clone(), bars: std::iter::once(row).chain(peers).filter_map(bar).collect() })
}

fn of_group(group: &str, measured: &Measured) -> Result<Panel, String> {
    let bars: Vec<Bar> = measured.rows().iter().filter(|row| row.group == group).filter_map(bar).collect();
    if bars.is_empty() {
        return Err(format!("no row of group {group} was measured, and a chart shows it"));
    }
    Ok(Panel { title: group.into(), bars })
}

fn bar(row: &Record) -> Option<Bar> {
    Some(Bar { label: row.name.clone(), nanos: row.figure("ns")?, is_ours: row.is_ours() })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{super::record::tests::measured, *};
    use crate::groups;

    #[test]
    fn the_rows_of_calls_that_are_shown_exist() {
        let rows: HashSet<String> = groups::rows().iter().map(crate::row::Row::id).collect();
        for id in CALLS {
            assert!(rows.contains(id), "{id}");
        }
    }

    #[test]
    fn a_row_that_is_missing_is_an_error() {
        let mut rows: Vec<(&str, &str, f64)> =
            CALLS.iter().chain(&SERVERS).map(|id| (*id, "ns", 5.0)).collect();
        let missing = all(&measured(&rows), &[]).unwrap_err();
        assert!(missing.contains("stack"), "{missing}");
        rows.push(("stack/buttress seven", "ns", 300.0));
        rows.push(("balance/tower ewma", "ns", 50.0));
        let charts = all(&measured(&rows), &[]).unwrap();
        let names: Vec<&str> = charts.iter().map(|(file, _)| *file).collect();
        assert_eq!(names, FILES.map(|(file, _)| file));
        assert!(charts[0].1.contains("tower ewma"), "a peer stands beside ours");
        rows.retain(|(id, ..)| *id != "timeout/buttress ready");
        assert!(all(&measured(&rows), &[]).unwrap_err().contains("timeout/buttress ready"));
    }
}

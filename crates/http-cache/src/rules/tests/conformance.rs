//! `CONFORMANCE.md` names tests. Each of them is there.

use std::{fs, path::Path};

const PAGE: &str = include_str!("../../../CONFORMANCE.md");

/// What stands in backticks in the last column.
fn named() -> Vec<&'static str> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| section"));
    let tests = rows.flat_map(|row| {
        let last = row.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap_or_default();
        let names: Vec<_> = last.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "a row without a test: {row}");
        names
    });
    tests.collect()
}

fn sources(folder: &Path, into: &mut String) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_test_that_is_named_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = String::new();
    sources(&root.join("src"), &mut all);
    sources(&root.join("tests"), &mut all);
    let named = named();
    assert!(named.len() > 100, "the page was not read");
    for name in named {
        assert!(all.contains(&format!("fn {name}(")), "no such test: {name}");
    }
}

//! Files stay small: whoever looks for a thing finds it by the name of its file.

use std::fs;

use crate::process::root;

const MOST: usize = 400;

#[test]
fn no_file_is_long() {
    let root = root();
    let mut folders = ["crates", "benches", "examples", "tests"].map(|name| root.join(name)).to_vec();
    let (mut seen, mut long) = (0, Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                seen += 1;
                let lines = fs::read_to_string(&path).unwrap().lines().count();
                let name = path.strip_prefix(root).unwrap().display().to_string();
                if lines > MOST {
                    long.push(format!("{name}: {lines} lines"));
                }
            }
        }
    }
    assert!(seen > 500, "only {seen} files found");
    assert!(long.is_empty(), "longer than {MOST} lines: {long:#?}");
}

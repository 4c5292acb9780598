//! Files of sources, and the loom models in them.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// The files of Rust in a folder and below.
pub(crate) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in names(folder)? {
        let path = folder.join(name);
        if path.is_dir() {
            found.append(&mut files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

/// The names of what is in a folder.
pub(crate) fn names(folder: &Path) -> io::Result<Vec<String>> {
    let name = |entry: fs::DirEntry| {
        entry.file_name().into_string().map_err(|name| io::Error::other(name.display().to_string()))
    };
    fs::read_dir(folder)?.map(|entry| name(entry?)).collect()
}

/// The names of the models in a text.
pub(crate) fn models(text: &str) -> impl Iterator<Item = &str> {
    let functions = text.lines().filter_map(|line| line.trim_start().strip_prefix("fn "));
    functions.filter(|name| name.starts_with("loom_")).filter_map(|name| name.split('(').next())
}

/// The names of all models in a folder and below.
pub(crate) fn models_below(folder: &Path) -> io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for file in files(folder)? {
        found.extend(models(&fs::read_to_string(file)?).map(str::to_owned));
    }
    Ok(found)
}

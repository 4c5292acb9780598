//! Keeps `MODELS.md` true: whoever adds an atomic, a lock or a model adds it to the list, or these tests fail.

use std::{collections::BTreeSet, fs};

use crate::{
    ci::MODELLED,
    process::root,
    sources::{files, models, names},
};

/// What is shared by threads, as words of the source. `watch` and channels are left out: what goes through them alone is as
/// safe as they are.
const SHARED: [&str; 6] = ["Mutex", "RwLock", "Condvar", "Semaphore", "ArcSwap", "UnsafeCell"];
/// Who names one of these works on an atomic, if only on one that is declared elsewhere.
const ORDERS: [&str; 5] = ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];
/// They have no code that runs for a user.
const LEFT_OUT: [&str; 4] = ["fuzz", "soak", "testkit", "xtask"];

/// A crate's folder, and a file below its `src` or the name of a test.
type Place = (String, String);

#[derive(Debug, Default)]
struct List {
    files: BTreeSet<Place>,
    models: BTreeSet<Place>,
    /// Rows of protocols without a model.
    bare: Vec<String>,
}

/// The rows of the tables: the crate, its files in backticks, and under the heading of protocols the tests in the last cell.
fn list(text: &str) -> List {
    let mut list = List::default();
    let mut of_protocols = false;
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            of_protocols = heading == "Protocols";
        }
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [folder, files, .., last] = *cells else { continue };
        let quoted = |cell: &str| {
            let parts = cell.split('`').skip(1).step_by(2);
            parts.map(|part| (folder.to_owned(), part.to_owned())).collect::<Vec<_>>()
        };
        if !line.starts_with('|') || quoted(files).is_empty() {
            continue;
        }
        list.files.extend(quoted(files));
        if of_protocols {
            let models = quoted(last);
            if models.is_empty() {
                list.bare.push(line.to_owned());
            }
            list.models.extend(models);
        }
    }
    list
}

#[derive(Debug, Default)]
struct Sources {
    /// In which threads share something.
    sharing: BTreeSet<Place>,
    models: BTreeSet<Place>,
}

fn sources() -> Sources {
    let mut sources = Sources::default();
    for folder in names(&root().join("crates")).unwrap() {
        if LEFT_OUT.contains(&folder.as_str()) {
            continue;
        }
        let src = root().join("crates").join(&folder).join("src");
        for path in files(&src).unwrap() {
            let text = fs::read_to_string(&path).unwrap();
            let file = path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
            sources.models.extend(models(&text).map(|name| (folder.clone(), name.to_owned())));
            if !is_of_tests(&file) && shares(&text) {
                sources.sharing.insert((folder.clone(), file));
            }
        }
    }
    sources
}

/// Also the file that switches between the standard library's and loom's.
fn is_of_tests(file: &str) -> bool {
    let mut parts = file.rsplit('/');
    let name = parts.next().unwrap_or_default();
    name == "sync.rs"
        || name.ends_with("tests.rs")
        || name.ends_with("models.rs")
        || parts.any(|folder| folder.ends_with("tests"))
}

fn shares(text: &str) -> bool {
    let code: String = without_tests(text).filter(|line| !line.trim_start().starts_with("//")).collect();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let one_of = |word: &str| SHARED.contains(&word) || ORDERS.contains(&word) || is_atomic(word);
    code.split(|c| !is_word(c)).any(one_of) || imports_notify(&code)
}

fn is_atomic(word: &str) -> bool {
    word.strip_prefix("Atomic").is_some_and(|kind| kind.starts_with(char::is_uppercase))
}

/// tokio's: alerts have a `Notify` of their own.
fn imports_notify(code: &str) -> bool {
    code.split("sync::").skip(1).any(|after| {
        let imported =
            after.strip_prefix('{').map_or(after, |group| group.split('}').next().unwrap_or(group));
        imported.trim_start().starts_with("Notify") || after.starts_with('{') && imported.contains("Notify")
    })
}

/// The lines before a module of tests that stands in the file.
fn without_tests(text: &str) -> impl Iterator<Item = &str> {
    let mut lines = text.split_inclusive('\n').peekable();
    std::iter::from_fn(move || {
        let line = lines.next()?;
        let begins_tests = line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test");
        let in_the_file = |next: &&str| next.starts_with("mod ") && next.trim_end().ends_with('{');
        (!begins_tests || !lines.peek().is_some_and(in_the_file)).then_some(line)
    })
}

fn the_list() -> List {
    list(&fs::read_to_string(root().join("MODELS.md")).unwrap())
}

/// What the first has and the second lacks, one a line.
fn lacks(these: &BTreeSet<Place>, those: &BTreeSet<Place>) -> String {
    these.difference(those).map(|(folder, what)| format!("\n  {folder}: {what}")).collect()
}

#[test]
fn every_file_in_which_threads_share_something_is_on_the_list() {
    let (list, sources) = (the_list().files, sources().sharing);
    let (missing, stale) = (lacks(&sources, &list), lacks(&list, &sources));
    assert!(missing.is_empty(), "MODELS.md does not say what threads share in:{missing}");
    assert!(stale.is_empty(), "nothing is shared any more in what MODELS.md has:{stale}");
}

#[test]
fn every_model_is_on_the_list_and_every_protocol_has_one() {
    let (list, sources) = (the_list(), sources().models);
    let (missing, stale) = (lacks(&sources, &list.models), lacks(&list.models, &sources));
    assert!(missing.is_empty(), "MODELS.md lacks the models:{missing}");
    assert!(stale.is_empty(), "MODELS.md has models that are not there:{stale}");
    assert!(list.bare.is_empty(), "protocols without a model: {:#?}", list.bare);
}

#[test]
fn every_crate_with_models_has_them_run() {
    let modelled: BTreeSet<String> = sources().models.into_iter().map(|(folder, _)| folder).collect();
    let run: BTreeSet<String> =
        MODELLED.iter().map(|package| package.trim_start_matches("buttress-").to_owned()).collect();
    assert_eq!(run, modelled);
}

#[test]
fn atomics_are_found_by_any_name_and_outside_of_tests_alone() {
    for shares_it in [
        "use std::sync::atomic::AtomicU8;\n",
        "use crate::sync::{Mutex, lock};\n",
        "    word.store(1, Release);\n",
        "use tokio::{net::TcpStream, sync::Semaphore};\n",
        "use tokio::{sync::Notify, time::Instant};\n",
        "use tokio::sync::{\n    Notify, oneshot,\n};\n",
        "#[cfg(test)]\nmod tests;\nstruct S(AtomicBool);\n",
    ] {
        assert!(shares(shares_it), "{shares_it}");
    }
    for does_not in [
        "use std::sync::MutexGuard;\n",
        "// The Mutex is elsewhere.\n",
        "use super::{Alert, Notify};\n",
        "use tokio::{sync::watch, task};\nuse super::Notify;\n",
        "struct S;\n\n#[cfg(test)]\nmod tests {\n    use std::sync::atomic::AtomicU8;\n}\n",
    ] {
        assert!(!shares(does_not), "{does_not}");
    }
}

#[test]
fn the_list_is_read_row_by_row() {
    let text = "## Protocols\n| crate | file | holds | test |\n|---|---|---|---|\n\
        | a | `x.rs`, `y/z.rs` | `not` a test | `loom_p`, `loom_q` |\n| b | `w.rs` | nothing | |\n\
        ## Counters\n| crate | files | why |\n|---|---|---|\n| a | `v.rs` | `sum` |\n";
    let list = list(text);
    let place = |folder: &str, what: &str| (folder.to_owned(), what.to_owned());
    let files = [place("a", "v.rs"), place("a", "x.rs"), place("a", "y/z.rs"), place("b", "w.rs")];
    assert_eq!(list.files, files.into());
    assert_eq!(list.models, [place("a", "loom_p"), place("a", "loom_q")].into());
    assert_eq!(list.bare, ["| b | `w.rs` | nothing | |"]);
}

//! The kept corpus, and what is made of it by chance.

use std::{
    fmt, fs, panic,
    path::{Path, PathBuf},
};

use buttress_fuzz::{TARGETS, Target};
use proptest::{prelude::*, sample::Index, test_runner::TestRunner};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The inputs of a target, and their names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let files =
        fs::read_dir(folder("corpus").join(target)).unwrap_or_else(|error| panic!("{target}: {error}"));
    let mut all: Vec<_> = files
        .map(|file| {
            let file = file.unwrap();
            (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())
        })
        .collect();
    all.sort();
    all
}

/// The names of what a folder holds, without the end.
fn names(path: &str, end: &str) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder(path))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap().trim_end_matches(end).to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn the_kept_corpus_passes() {
    let mut failed = Vec::new();
    for (target, run) in TARGETS {
        for (name, input) in corpus(target) {
            if panic::catch_unwind(|| run(&input)).is_err() {
                failed.push(format!("crates/fuzz/corpus/{target}/{name}"));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}: why, stands above");
}

#[test]
fn every_target_has_a_program_a_corpus_and_a_dictionary() {
    let targets = TARGETS.map(|(target, _)| target.to_owned()).to_vec();
    assert_eq!(names("targets/fuzz_targets", ".rs"), targets);
    assert_eq!(names("corpus", ""), targets);
    assert_eq!(names("dictionaries", ""), targets);
    let manifest = fs::read_to_string(folder("targets/Cargo.toml")).unwrap();
    for target in targets {
        let program =
            fs::read_to_string(folder("targets/fuzz_targets").join(format!("{target}.rs"))).unwrap();
        assert!(program.contains(&format!("buttress_fuzz::{target}(data)")), "{program}");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")), "{target}");
    }
}

#[test]
fn the_corpus_stays_small() {
    for (target, _) in TARGETS {
        let corpus = corpus(target);
        let bytes: usize = corpus.iter().map(|(_, input)| input.len()).sum();
        assert!(corpus.len() <= 200 && bytes <= 100_000, "{target}: {} inputs, {bytes} bytes", corpus.len());
    }
}

/// A finding aborts a fuzzer where it stands.
#[test]
fn a_configuration_leaves_no_file_behind_wherever_it_ends() {
    buttress_fuzz::config(b"name = \"shop\"\n# environment\nBUTTRESS_CACHE__TTL=2s");
    let thread = format!("{:?}", std::thread::current().id());
    let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
    let ours = format!("buttress-fuzz-{}-{thread}", std::process::id());
    let left = fs::read_dir(std::env::temp_dir()).unwrap().filter_map(Result::ok);
    let left: Vec<_> = left.filter(|file| file.file_name().to_string_lossy().starts_with(&ours)).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A change of an input, such as a fuzzer makes.
#[derive(Debug, Clone)]
enum Change {
    Cut(Index, Index),
    Put(Index, Vec<u8>),
    /// A part of another input.
    Take(Index, Index, Index, Index),
}

/// What means something to most of them.
const SIGNS: [&str; 12] = ["\"", ",", ";", "=", ":", "\n", "'", "$", "*", " ", "0", "9999999999"];

fn change() -> impl Strategy<Value = Change> {
    let any = any::<Index>;
    let bytes = prop_oneof![
        prop::collection::vec(any_byte(), 1..4),
        prop::sample::select(SIGNS.as_slice()).prop_map(|sign| sign.as_bytes().to_vec()),
    ];
    prop_oneof![
        (any(), any()).prop_map(|(at, length)| Change::Cut(at, length)),
        (any(), bytes).prop_map(|(at, bytes)| Change::Put(at, bytes)),
        (any(), any(), any(), any())
            .prop_map(|(at, other, from, length)| Change::Take(at, other, from, length)),
    ]
}

fn any_byte() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), b' '..=b'~']
}

fn changed(mut input: Vec<u8>, corpus: &[(String, Vec<u8>)], changes: &[Change]) -> Vec<u8> {
    for change in changes {
        match change {
            Change::Cut(at, length) if !input.is_empty() => {
                let at = at.index(input.len());
                let length = length.index((input.len() - at).min(16));
                input.drain(at..=at + length);
            }
            Change::Cut(..) => {}
            Change::Put(at, bytes) => {
                let at = at.index(input.len() + 1);
                input.splice(at..at, bytes.iter().copied());
            }
            Change::Take(at, other, from, length) => {
                let other = &corpus[other.index(corpus.len())].1;
                let from = from.index(other.len() + 1);
                let length = length.index((other.len() - from).min(32) + 1);
                let at = at.index(input.len() + 1);
                input.splice(at..at, other[from..from + length].iter().copied());
            }
        }
    }
    input
}

/// Shown as a text, which most are.
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

fn holds_by_chance(target: &str, run: Target) -> Result<(), String> {
    let corpus = corpus(target);
    let cases = ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() };
    let input = prop_oneof![
        4 => (any::<Index>(), prop::collection::vec(change(), 1..6)).prop_map(|(index, changes)| {
            changed(corpus[index.index(corpus.len())].1.clone(), &corpus, &changes)
        }),
        1 => prop::collection::vec(any_byte(), 0..200),
    ];
    let outcome = TestRunner::new(cases).run(&input.prop_map(Input), |Input(input)| {
        run(&input);
        Ok(())
    });
    outcome.map_err(|error| format!("{target}: {error}"))
}

#[test]
fn what_is_made_of_the_corpus_by_chance_passes() {
    let failed: Vec<String> =
        TARGETS.iter().filter_map(|(target, run)| holds_by_chance(target, *run).err()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

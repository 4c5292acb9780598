use std::{
    collections::HashMap,
    path::PathBuf,
    process::Command,
    sync::{Mutex, PoisonError},
};

/// Where one of the workspace's examples is, to be started as a process of its own. It is built where it is not yet, or not
/// any more.
///
/// # Panics
/// If it cannot be built, with what the compiler said.
pub fn example(name: &str) -> PathBuf {
    static BUILT: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let known = built.get_or_insert_default();
    known.entry(name.to_owned()).or_insert_with(|| build(name)).clone()
}

fn build(name: &str) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--message-format=json", "--example", name]);
    let output =
        cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).output().expect("cargo can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    let messages = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut built = messages.filter(|message| message["target"]["name"] == name);
    let program = built.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    program.unwrap_or_else(|| panic!("cargo did not say where the example `{name}` is"))
}

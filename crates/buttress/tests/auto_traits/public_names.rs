//! The types and traits that a crate gives out, by its sources: `lib.rs` and the modules that it makes public hold little
//! but `mod` and `pub use`, so that this finds all of them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Panics unless the two are the same.
pub(crate) fn compare(krate: &str, listed: &[&str]) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(krate).join("src");
    let mut public = BTreeSet::new();
    collect(&source, &source.join("lib.rs"), "", &mut public);
    let listed: BTreeSet<String> = listed.iter().map(|name| plain(name)).collect();
    let unlisted: Vec<_> = public.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&public).collect();
    assert!(unlisted.is_empty(), "public in {krate}, and not in its list: {unlisted:?}");
    assert!(gone.is_empty(), "in the list, and not public in {krate}: {gone:?}");
}

/// `a::Name<T>` without what it is filled with.
fn plain(name: &str) -> String {
    name.split('<').next().unwrap_or_default().split_whitespace().collect()
}

fn collect(source: &Path, file: &Path, prefix: &str, public: &mut BTreeSet<String>) {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let modules: BTreeSet<&str> = code.split("mod ").skip(1).map(word).collect();
    for item in code.split("pub ").skip(1) {
        let (kind, rest) = item.split_once(' ').unwrap_or((item, ""));
        match kind {
            "struct" | "enum" | "trait" => {
                public.insert(format!("{prefix}{}", word(rest)));
            }
            "mod" if rest.contains(';') && !rest[..rest.find(';').unwrap_or(0)].contains('{') => {
                let name = word(rest);
                // What documentation alone sees has no types, and what the fuzz targets call is nobody else's.
                if !matches!(name, "guides" | "fuzzing") {
                    collect(source, &file_of(source, prefix, name), &format!("{prefix}{name}::"), public);
                }
            }
            "use" => {
                let tree: String = rest.split(';').next().unwrap_or_default().split_whitespace().collect();
                let first = word(&tree);
                let ours = first == "self" || modules.contains(first);
                public.extend(leaves(&tree).filter(|_| ours).map(|name| format!("{prefix}{name}")));
            }
            _ => {}
        }
    }
}

fn file_of(source: &Path, prefix: &str, name: &str) -> PathBuf {
    let folder = prefix.split("::").fold(source.to_owned(), |folder, part| folder.join(part));
    let (flat, nested) = (folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs"));
    if flat.exists() { flat } else { nested }
}

/// The first name in it.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The types and traits of a tree of imports: neither modules and functions, nor constants.
fn leaves(tree: &str) -> impl Iterator<Item = &str> {
    let parts = tree.split([',', '{', '}']);
    let last = parts.map(|part| part.rsplit("::").next().unwrap_or_default());
    last.filter(|name| name.starts_with(char::is_uppercase) && name.contains(char::is_lowercase))
}

#[test]
fn names_are_found() {
    let tree = "self::{a::{B,c_d},E_F,g::Hi,j::{K,Lm},n}";
    assert_eq!(leaves(tree).collect::<Vec<_>>(), ["Hi", "Lm"]);
    assert_eq!(plain("a :: Name<B<C>, 'static>"), "a::Name");
    assert_eq!(word("Name<T>"), "Name");
}

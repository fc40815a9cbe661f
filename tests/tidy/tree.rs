//! The files of the repository, and the list of exceptions the rules still make.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::scan::Source;

/// A text file of the repository.
pub(crate) struct File {
    /// From the root, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
    /// For Rust files.
    pub(crate) source: Option<Source>,
}

impl File {
    /// Whether all of it is compiled for tests and benchmarks only.
    pub(crate) fn is_test(&self) -> bool {
        let folder = |name: &str| {
            self.path.starts_with(&format!("{name}/")) || self.path.contains(&format!("/{name}/"))
        };
        folder("tests") || folder("benches") || self.path.ends_with("/tests.rs")
    }

    pub(crate) fn has_extension(&self, extensions: &[&str]) -> bool {
        let extension = Path::new(&self.path).extension().and_then(|name| name.to_str());
        extension.is_some_and(|extension| extensions.contains(&extension))
    }

    /// A program text that is not Rust: scripts have no extension.
    pub(crate) fn is_script(&self) -> bool {
        self.text.starts_with("#!")
    }
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file of the repository, read once.
pub(crate) fn files() -> &'static [File] {
    static FILES: OnceLock<Vec<File>> = OnceLock::new();
    FILES.get_or_init(|| {
        let mut paths = tracked().unwrap_or_else(|| walk(root()));
        paths.sort();
        let files: Vec<File> = paths.into_iter().filter_map(read).collect();
        assert!(files.iter().any(|file| file.path == "Cargo.toml"), "this is no repository root");
        files
    })
}

/// The Rust files with their sources.
pub(crate) fn rust_files() -> impl Iterator<Item = (&'static File, &'static Source)> {
    files().iter().filter_map(|file| Some((file, file.source.as_ref()?)))
}

/// Whether something stands at this path from the root.
pub(crate) fn exists(path: &str) -> bool {
    root().join(path).exists()
}

fn read(path: String) -> Option<File> {
    // Not text, or deleted and not yet committed: nothing to check.
    let text = fs::read_to_string(root().join(&path)).ok()?;
    let source = path.ends_with(".rs").then(|| Source::read(&text));
    Some(File { path, text, source })
}

/// What git tracks or would track.
fn tracked() -> Option<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let list = String::from_utf8(output.stdout).ok()?;
    Some(list.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

/// The same without git, for a source archive.
fn walk(folder: &Path) -> Vec<String> {
    const SKIPPED: [&str; 6] =
        ["target", ".git", "node_modules", "corpus", "artifacts", "__pycache__"];
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path: PathBuf = entry.path();
        if SKIPPED.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        if path.is_dir() {
            paths.extend(walk(&path));
        } else if let Ok(path) = path.strip_prefix(root()) {
            paths.push(path.to_string_lossy().into_owned());
        }
    }
    paths
}

/// Something a rule objects to.
pub(crate) struct Violation {
    /// What it is about, in one line without spaces around: the key of an exception.
    pub(crate) subject: String,
    /// How much, for rules that count.
    pub(crate) amount: Option<usize>,
    /// What is wrong and what to do.
    pub(crate) message: String,
}

impl Violation {
    pub(crate) fn new(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { subject: subject.into(), amount: None, message: message.into() }
    }
}

/// How far a counted exception may lie above what is true before it has to be lowered.
const SLACK: usize = 10;

const EXCEPTIONS: &str = "tests/tidy-exceptions.txt";

/// Fails unless every violation of `rule` is excepted and every exception is still needed.
pub(crate) fn judge(rule: &str, violations: Vec<Violation>) {
    let excepted = exceptions(rule);
    let mut needed = BTreeSet::new();
    let mut faults = Vec::new();
    for Violation { subject, amount, message } in violations {
        needed.insert(subject.clone());
        match (excepted.get(&subject).copied(), amount) {
            (None, _) => faults.push(message),
            (Some(Some(allowed)), Some(amount)) if amount > allowed => {
                faults.push(format!("{message} (it was {allowed}, and may only shrink)"));
            }
            (Some(Some(allowed)), Some(amount)) if amount + SLACK < allowed => {
                faults.push(format!(
                    "{EXCEPTIONS}: lower `{rule} {subject} {allowed}` to {amount}: it got better"
                ));
            }
            (Some(_), _) => {}
        }
    }
    for (subject, amount) in excepted.iter().filter(|(subject, _)| !needed.contains(*subject)) {
        let amount = amount.map(|amount| format!(" {amount}")).unwrap_or_default();
        let line = format!("{rule} {subject}{amount}");
        faults.push(format!("{EXCEPTIONS}: remove `{line}`: it is no longer needed"));
    }
    let count = faults.len();
    assert!(faults.is_empty(), "{count} finding(s) of {rule}:\n  {}\n", faults.join("\n  "));
}

/// The exceptions of one rule: subject and, for rules that count, the amount.
fn exceptions(rule: &str) -> BTreeMap<String, Option<usize>> {
    let text = fs::read_to_string(root().join(EXCEPTIONS)).unwrap_or_default();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.strip_prefix(rule)?.strip_prefix(' '))
        .map(|rest| match rest.rsplit_once(' ') {
            Some((subject, amount)) if amount.parse::<usize>().is_ok() => {
                (subject.to_owned(), amount.parse().ok())
            }
            _ => (rest.to_owned(), None),
        })
        .collect()
}

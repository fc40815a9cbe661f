//! Holds the house style: layer order, headers, lengths, fences, links.
//!
//! One test per rule; a failure names the place and what to do. What the rules still overlook
//! stands in `tests/tidy-exceptions.txt`, which may only shrink. `docs/testing.md` lists the
//! rules for people.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may stop at a surprise")]

#[path = "tidy/scan.rs"]
mod scan;
#[path = "tidy/tree.rs"]
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use scan::{functions, line_of, words};
use tree::{File, Violation, exists, files, judge, rust_files};

/// Lines of a file without its tests.
const FILE_LINES_MAX: usize = 400;
/// Lines of a function.
const FUNCTION_LINES_MAX: usize = 70;
/// Letters of a line.
const COLUMNS_MAX: usize = 100;

/// Where `unsafe` may be: the few calls and maps that have no safe form, and test allocators.
const UNSAFE_ALLOWED: [&str; 7] = [
    "src/sys.rs",
    "src/io/uring/rings.rs",
    "src/log/map.rs",
    "loadgen/src/run/sockets/ring.rs",
    "wire/tests/",
    "tests/",
    "benches/",
];

/// Rooms and crates that are handed everything and reach for nothing.
const PURE: [&str; 3] = ["src/state/", "src/path/", "wire/src/"];
/// What reaching out looks like.
const REACHES: [&str; 10] = [
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "Instant",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "getrandom",
];

#[test]
fn rooms_use_only_rows_above_their_own() {
    let rows = rows();
    let mut violations = Vec::new();
    for (file, source) in rust_files() {
        let Some((room, depth)) = room_of(&file.path) else { continue };
        if file.is_test() {
            continue;
        }
        let Some(&row) = rows.get(&room) else {
            let message = format!("{}: room {room} is in no row of src/lib.rs", file.path);
            violations.push(Violation::new(&room, message));
            continue;
        };
        for (at, used) in rooms_used(&source.shipped, depth) {
            let Some(&used_row) = rows.get(&used) else { continue };
            if used != room && used_row >= row {
                violations.push(Violation::new(
                    format!("{room} {used}"),
                    format!(
                        "{}:{}: {room} (row {row}) uses {used} (row {used_row}); a room uses \
                         only rooms of rows above its own. Hand the thing in, or move it up.",
                        file.path,
                        line_of(&source.shipped, at)
                    ),
                ));
            }
        }
    }
    judge("layer", violations);
}

#[test]
fn pure_rooms_reach_for_nothing() {
    let mut violations = Vec::new();
    for (file, source) in rust_files() {
        if !PURE.iter().any(|pure| file.path.starts_with(pure)) || file.is_test() {
            continue;
        }
        for reach in REACHES {
            for at in words(&source.shipped, reach) {
                let line = line_of(&source.shipped, at);
                violations.push(Violation::new(
                    format!("{} {reach}", file.path),
                    format!("{}:{line}: {reach} in a room without I/O; hand it in", file.path),
                ));
            }
        }
    }
    judge("pure", violations);
}

#[test]
fn every_module_starts_with_its_purpose() {
    let bare = rust_files().filter(|(file, _)| !file.text.starts_with("//! "));
    let violation = |(file, _): (&File, _)| {
        let message = format!(
            "{}:1: starts without //! (purpose, owner thread, invariants, what is not here)",
            file.path
        );
        Violation::new(&file.path, message)
    };
    judge("header", bare.map(violation).collect());
}

#[test]
fn files_stay_short() {
    let mut violations = Vec::new();
    for (file, source) in rust_files().filter(|(file, _)| !file.is_test()) {
        let count = file.text.lines().count() - source.test_lines_count;
        if count > FILE_LINES_MAX {
            let message = format!(
                "{}: {count} lines without tests, {FILE_LINES_MAX} at the most; split it",
                file.path
            );
            let amount = Some(count);
            violations.push(Violation { subject: file.path.clone(), amount, message });
        }
    }
    judge("file-length", violations);
}

#[test]
fn functions_stay_short() {
    // Two functions of one name in a file share an exception, as large as the larger.
    let mut longest: BTreeMap<String, usize> = BTreeMap::new();
    for (file, source) in rust_files().filter(|(file, _)| !file.is_test()) {
        for function in functions(&source.shipped) {
            if function.lines_count > FUNCTION_LINES_MAX {
                let subject = format!("{} {}", file.path, function.name);
                let longest = longest.entry(subject).or_default();
                *longest = function.lines_count.max(*longest);
            }
        }
    }
    let violation = |(subject, count): (String, usize)| {
        let message = format!(
            "{subject}: a function of {count} lines, {FUNCTION_LINES_MAX} at the most; \
             name its parts"
        );
        Violation { subject, amount: Some(count), message }
    };
    judge("function-length", longest.into_iter().map(violation).collect());
}

#[test]
fn lines_fit_and_hold_no_tabs() {
    let mut violations = Vec::new();
    for file in files() {
        let is_code = file.has_extension(&["rs", "proto", "py", "js", "mjs"]) || file.is_script();
        for (index, line) in file.text.lines().enumerate() {
            let place = format!("{}:{}", file.path, index + 1);
            if line.contains('\t') && !file.path.starts_with("tests/golden/") {
                violations.push(Violation::new(&file.path, format!("{place}: a tab")));
            }
            let count = line.chars().count();
            if is_code && count > COLUMNS_MAX && !line.contains("https://") {
                let message = format!("{place}: {count} columns, {COLUMNS_MAX} at the most");
                violations.push(Violation::new(&file.path, message));
            }
        }
    }
    judge("layout", violations);
}

#[test]
fn nothing_is_left_for_later() {
    // Written in halves, or this file would find itself.
    let words_left = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let macros_left = [concat!("dbg", "!"), concat!("todo", "!"), concat!("unimplemented", "!")];
    let mut violations = Vec::new();
    for file in files().iter().filter(|file| !file.has_extension(&["md", "lock"])) {
        let left = words_left.iter().map(|word| (&file.text, *word));
        let code = file.source.iter().map(|source| &source.code);
        let left = left.chain(code.flat_map(|code| macros_left.map(|name| (code, name))));
        for (text, word) in left {
            for at in words_or_macro(text, word) {
                let message = format!(
                    "{}:{}: {word}; do it now, or say in docs/ what is missing and why",
                    file.path,
                    line_of(text, at)
                );
                violations.push(Violation::new(format!("{} {word}", file.path), message));
            }
        }
    }
    judge("left", violations);
}

#[test]
fn unsafe_stays_behind_its_fence() {
    let mut found = BTreeSet::new();
    for (file, source) in rust_files() {
        let fenced = UNSAFE_ALLOWED.iter().any(|allowed| {
            file.path.starts_with(allowed)
                || allowed.ends_with('/')
                    && !allowed.starts_with("src/")
                    && file.path.contains(&format!("/{allowed}"))
        });
        if !fenced && let Some(at) = words(&source.code, "unsafe").next() {
            found.insert((file.path.clone(), line_of(&source.code, at)));
        }
    }
    let violation = |(path, line): (String, usize)| {
        let message = format!(
            "{path}:{line}: unsafe outside {}; use a safe form, or move it there",
            UNSAFE_ALLOWED.join(", ")
        );
        Violation::new(path, message)
    };
    judge("unsafe", found.into_iter().map(violation).collect());
}

#[test]
fn every_limit_is_used() {
    let is_limits =
        |file: &File| file.path == "src/limits.rs" || file.path.starts_with("src/limits/");
    let limits: String = rust_files()
        .filter(|(file, _)| is_limits(file))
        .map(|(_, source)| source.code.clone() + "\n")
        .collect();
    let mut violations = Vec::new();
    for line in limits.lines() {
        let Some(rest) = line.strip_prefix("pub const ") else { continue };
        let name = rest.split(':').next().unwrap_or_default();
        let used_elsewhere = rust_files().any(|(file, source)| {
            !is_limits(file) && !file.is_test() && words(&source.shipped, name).next().is_some()
        });
        let used_by_another = limits.lines().any(|other| {
            other.starts_with("pub const ")
                && !other.starts_with(&format!("pub const {name}:"))
                && words(other, name).next().is_some()
        });
        if !used_elsewhere && !used_by_another {
            let message = format!("src/limits: {name} limits nothing; use it or remove it");
            violations.push(Violation::new(name, message));
        }
    }
    judge("unused-limit", violations);
}

#[test]
fn every_link_to_a_file_leads_somewhere() {
    let mut violations = Vec::new();
    for file in files() {
        let text = match &file.source {
            Some(source) => &source.comments,
            None if file.has_extension(&["md"]) => &file.text,
            None => continue,
        };
        for (at, target) in links(text).into_iter().chain(mentions(text)) {
            let found = match target {
                Target::Link(link) => check_link(&file.path, link),
                Target::Mention(path) => (!exists(path)).then(|| path.to_owned()),
            };
            if let Some(missing) = found {
                let place = format!("{}:{}", file.path, line_of(text, at));
                let subject = format!("{} {missing}", file.path);
                let message = format!("{place}: {missing} does not exist");
                violations.push(Violation::new(subject, message));
            }
        }
    }
    judge("link", violations);
}

#[test]
fn no_file_names_a_machine() {
    let names = [concat!("/wo", "rk"), concat!("/ro", "ot"), concat!("/fa", "rm")];
    let mut violations = Vec::new();
    for file in files() {
        for name in names {
            for at in words(&file.text, name) {
                let before = file.text[..at].chars().next_back();
                let inside =
                    before.is_some_and(|letter| scan::is_word(letter) || "./-~}:".contains(letter));
                if !inside {
                    let line = line_of(&file.text, at);
                    let message = format!("{}:{line}: {name} is a path of one machine", file.path);
                    violations.push(Violation::new(format!("{} {name}", file.path), message));
                }
            }
        }
    }
    judge("machine", violations);
}

#[test]
fn every_exception_belongs_to_a_rule() {
    const RULES: [&str; 10] = [
        "layer",
        "pure",
        "header",
        "file-length",
        "function-length",
        "layout",
        "left",
        "unsafe",
        "unused-limit",
        "link",
    ];
    let list = files().iter().find(|file| file.path == "tests/tidy-exceptions.txt");
    for line in list.into_iter().flat_map(|file| file.text.lines()) {
        let rule = line.split(' ').next().unwrap_or_default();
        let known = rule.is_empty() || rule.starts_with('#') || RULES.contains(&rule);
        assert!(known, "tests/tidy-exceptions.txt: `{line}` belongs to no rule");
    }
}

/// The row of every room, from the comments and modules of `src/lib.rs`.
fn rows() -> BTreeMap<String, usize> {
    let lib = files().iter().find(|file| file.path == "src/lib.rs").expect("src/lib.rs exists");
    let mut rows = BTreeMap::new();
    let mut row = None;
    for line in lib.text.lines() {
        if let Some(rest) = line.strip_prefix("// row ") {
            row = rest.split(':').next().and_then(|number| number.parse().ok());
        }
        let module = line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("mod "));
        if let Some(room) = module.and_then(|rest| rest.strip_suffix(';')) {
            let row = row.expect("src/lib.rs names a row (`// row 0: …`) before its first module");
            rows.insert(room.to_owned(), row);
        }
    }
    assert!(rows.len() > 5, "src/lib.rs lists the rooms below `// row N: …` comments");
    rows
}

/// The room a file of the server is in, and how many modules deep; `None` for other files.
fn room_of(path: &str) -> Option<(String, usize)> {
    let inside = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let inside = inside.strip_suffix("/mod").unwrap_or(inside);
    if inside == "lib" || inside == "main" {
        return None;
    }
    let room = inside.split('/').next()?;
    Some((room.to_owned(), inside.split('/').count()))
}

/// Every room that code names from the root of the crate, with where.
fn rooms_used(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut used = Vec::new();
    let climb = "super::".repeat(depth);
    for prefix in ["crate::", &climb] {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|letter| scan::is_word(letter) || letter == ':') {
                continue;
            }
            let rest = &code[at + prefix.len()..];
            used.extend(first_names(rest).into_iter().map(|name| (at, name)));
        }
    }
    used
}

/// The first name of a path, or those of a group `{a, b::c}`.
fn first_names(rest: &str) -> Vec<String> {
    let name = |text: &str| -> String { text.chars().take_while(|&c| scan::is_word(c)).collect() };
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let mut names = Vec::new();
    let mut depth = 0;
    let mut item = 0;
    for (at, letter) in group.char_indices() {
        let ends_item = depth == 0 && (letter == ',' || letter == '}');
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if ends_item {
            names.push(name(group[item..at].trim_start()));
            item = at + 1;
        }
        if depth < 0 {
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// A word, or a macro with its exclamation mark.
fn words_or_macro<'s>(text: &'s str, word: &'s str) -> Vec<usize> {
    match word.strip_suffix('!') {
        None => words(text, word).collect(),
        Some(name) => {
            words(text, name).filter(|at| text[at + name.len()..].starts_with('!')).collect()
        }
    }
}

enum Target<'t> {
    /// From a Markdown link, seen from the file's folder.
    Link(&'t str),
    /// A path between back-ticks, seen from the root.
    Mention(&'t str),
}

/// Targets of Markdown links that do not leave the repository.
fn links(text: &str) -> Vec<(usize, Target<'_>)> {
    let starts = text.match_indices("](");
    let target = |(at, _): (usize, _)| {
        let link = text[at + 2..].split([')', '\n']).next()?;
        let leaves = link.contains("://") || link.starts_with("mailto:") || link.contains("::");
        (!leaves && !link.is_empty()).then_some((at, Target::Link(link)))
    };
    starts.filter_map(target).collect()
}

/// Paths of ours between back-ticks.
fn mentions(text: &str) -> Vec<(usize, Target<'_>)> {
    const FOLDERS: [&str; 11] = [
        "docs/", "src/", "tests/", "scripts/", "wire/", "loadgen/", "client/", "fuzz/", "benches/",
        "tuning/", ".ci/",
    ];
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        for mention in line.split('`').skip(1).step_by(2) {
            let path = mention.split(' ').next().unwrap_or_default();
            let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            if plain && FOLDERS.iter().any(|folder| path.starts_with(folder)) {
                found.push((start, Target::Mention(path)));
            }
        }
        start += line.len();
    }
    found
}

/// What is missing at the end of a link in the file at `from`, if anything.
fn check_link(from: &str, link: &str) -> Option<String> {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = if path.is_empty() { from.to_owned() } else { join(folder, path) };
    if !exists(&path) {
        return Some(link.to_owned());
    }
    let target = files().iter().find(|file| file.path == path)?;
    let is_checked = !anchor.is_empty() && target.has_extension(&["md"]);
    (is_checked && !anchors(&target.text).contains(anchor)).then(|| link.to_owned())
}

/// A path seen from a folder, without dots.
fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// The anchors of a Markdown file's headings, made as code hosts make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| -> String {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|&c| scan::is_word(c) || c == '-' || c == ' ');
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn a_group_of_imports_is_read_whole() {
    assert_eq!(first_names("io::Driver"), ["io"]);
    assert_eq!(
        first_names("{auth, config::{self, Config}, limits};\nuse x::{y};"),
        ["auth", "config", "limits"]
    );
    let used = rooms_used("use crate::{a, b::c}; fn f() { super::super::d::e(); super::x(); }", 2);
    let names: Vec<_> = used.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["a", "b", "d"]);
}

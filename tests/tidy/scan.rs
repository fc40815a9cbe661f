//! Reads Rust source just well enough to judge it: what is code, what is comment, what is test.
//!
//! Not a parser. It knows comments, strings and braces, which is all the rules need, and it is
//! tested on the cases that fool simpler searches.

use std::ops::Range;

/// A source file, taken apart. All three texts have the lines and columns of the file.
pub(crate) struct Source {
    /// Code alone: comments and the insides of strings are spaces.
    pub(crate) code: String,
    /// Comments alone.
    pub(crate) comments: String,
    /// Code without what is compiled for tests only.
    pub(crate) shipped: String,
    /// Lines that are compiled for tests only.
    pub(crate) test_lines_count: usize,
}

impl Source {
    pub(crate) fn read(text: &str) -> Self {
        let (code, comments) = separate(text);
        let mut shipped = code.clone().into_bytes();
        let mut test_lines_count = 0;
        for part in test_parts(&code) {
            test_lines_count += code[part.clone()].lines().count();
            blank(&mut shipped, part);
        }
        Self { code, comments, shipped: text_of(shipped), test_lines_count }
    }
}

/// A function with a body.
pub(crate) struct Function<'s> {
    pub(crate) name: &'s str,
    /// From the line of `fn` to that of the closing brace, both included.
    pub(crate) lines_count: usize,
}

/// Every function with a body in masked code.
pub(crate) fn functions(code: &str) -> Vec<Function<'_>> {
    let mut functions = Vec::new();
    for start in words(code, "fn") {
        let rest = &code[start + 2..];
        let name = rest.trim_start().split(|letter| !is_word(letter)).next().unwrap_or_default();
        if name.is_empty() {
            continue; // a function pointer type
        }
        let Some(open) = body_start(code, start) else { continue };
        let end = closing(code, open);
        let lines_count = code[start..end].matches('\n').count() + 1;
        functions.push(Function { name, lines_count });
    }
    functions
}

/// Where each whole word `word` starts.
pub(crate) fn words<'s>(text: &'s str, word: &'s str) -> impl Iterator<Item = usize> + 's {
    text.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// The line, counted from one, that a byte is on.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

pub(crate) fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Splits text into code and comments, both padded with spaces to the same layout.
fn separate(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut comments = bytes.to_vec();
    blank(&mut comments, 0..bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let (end, kind) = token(text, at);
        match kind {
            Token::Code => {}
            Token::Text => blank(&mut code, at + 1..end.saturating_sub(1).max(at + 1)),
            Token::Comment => {
                comments[at..end].copy_from_slice(&bytes[at..end]);
                blank(&mut code, at..end);
            }
        }
        at = end;
    }
    (text_of(code), text_of(comments))
}

enum Token {
    Code,
    Comment,
    /// A string or character literal with its delimiters.
    Text,
}

/// The token at `at`: where it ends and what it is.
fn token(text: &str, at: usize) -> (usize, Token) {
    let bytes = text.as_bytes();
    let rest = &text[at..];
    if rest.starts_with("//") {
        return (at + rest.find('\n').unwrap_or(rest.len()), Token::Comment);
    }
    if rest.starts_with("/*") {
        return (at + block_comment(rest), Token::Comment);
    }
    let starts_word = at == 0 || !is_word_byte(bytes[at - 1]);
    if starts_word && let Some(length) = raw_string(rest) {
        return (at + length, Token::Text);
    }
    match bytes[at] {
        b'"' => (at + quoted(rest, b'"'), Token::Text),
        b'\'' => match character(rest) {
            Some(length) => (at + length, Token::Text),
            None => (at + 1, Token::Code), // a lifetime
        },
        _ => (at + rest.chars().next().map_or(1, char::len_utf8), Token::Code),
    }
}

/// Length of a block comment, which may hold further ones.
fn block_comment(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let (mut depth, mut at) = (0usize, 0);
    while at < bytes.len() {
        if rest.as_bytes()[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.as_bytes()[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

/// Length of a raw string (`r"…"`, `br#"…"#`), if one starts here.
fn raw_string(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = after.bytes().take_while(|&byte| byte == b'#').count();
    let body = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(rest.len() - body.len() + length)
}

/// Length of a literal that ends at the first delimiter without a backslash before it.
fn quoted(rest: &str, delimiter: u8) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == delimiter => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Length of a character literal, or `None` for a lifetime.
fn character(rest: &str) -> Option<usize> {
    let mut letters = rest.chars().skip(1);
    let first = letters.next()?;
    if first == '\\' {
        return Some(quoted(rest, b'\''));
    }
    (letters.next() == Some('\'')).then(|| 2 + first.len_utf8())
}

/// What is compiled for tests only: each item under a `cfg` that demands `test`.
fn test_parts(code: &str) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    let starts = ["#[cfg(test)]", "#[cfg(all(test"];
    let mut found: Vec<usize> =
        starts.iter().flat_map(|start| code.match_indices(start)).map(|(at, _)| at).collect();
    found.sort_unstable();
    for start in found {
        if parts.last().is_some_and(|last| last.contains(&start)) {
            continue;
        }
        let item = start + code[start..].find(']').map_or(0, |at| at + 1);
        let end = match body_start(code, item) {
            Some(open) => closing(code, open),
            None => item + code[item..].find(';').map_or(0, |at| at + 1),
        };
        parts.push(start..end);
    }
    parts
}

/// The brace that opens the body of the item at `start`; `None` if a semicolon ends it first.
fn body_start(code: &str, start: usize) -> Option<usize> {
    let mut depth = 0i32;
    for (at, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(at),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// One past the brace that closes the one at `open`.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0i32;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

fn blank(bytes: &mut [u8], range: Range<usize>) {
    for byte in &mut bytes[range] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("whole tokens were blanked, and tokens end between letters")
}

#[test]
fn comments_and_strings_are_not_code() {
    let text = r##"
let a = "un\"safe // no"; // unsafe
let b = r#"unsafe " /* "#; /* unsafe /* nested */ unsafe */
let c = b"unsafe"; let d = '"'; let e = '\''; let f: &'static str = "x";
real(d, 'é', b'\\');
"##;
    let source = Source::read(text);
    assert_eq!(words(&source.code, "unsafe").count(), 0, "{}", source.code);
    assert_eq!(words(&source.comments, "unsafe").count(), 3, "{}", source.comments);
    assert!(source.code.contains("real(d"), "{}", source.code);
    assert_eq!(source.code.len(), text.len());
}

#[test]
fn test_parts_are_not_shipped() {
    let text =
        "fn a() {}\n#[cfg(test)]\nmod t {\n    fn b() {}\n}\n#[cfg(test)]\nuse x::y;\nfn c() {}\n";
    let source = Source::read(text);
    assert!(source.shipped.contains("fn a") && source.shipped.contains("fn c"));
    assert!(!source.shipped.contains("fn b") && !source.shipped.contains("x::y"));
    assert_eq!(source.test_lines_count, 6);
}

#[test]
fn functions_are_measured_from_name_to_brace() {
    let long = "fn long(\n    x: [u8; 4],\n) -> fn(u8) {\n    x\n}\n";
    let text = format!("trait T {{ fn none(x: [u8; 4]); }}\n{long}fn short() {{}}\n");
    let found = functions(&text);
    let measured: Vec<_> = found.iter().map(|f| (f.name, f.lines_count)).collect();
    assert_eq!(measured, [("long", 5), ("short", 1)]);
}

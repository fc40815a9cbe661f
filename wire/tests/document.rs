//! `docs/protocol.md` holds the same lists as the code: no reason without its line and its advice.
//!
//! `WRITE_DOCUMENT=1 cargo nextest run -p myriad-wire document` prints the lines as they should be.

use wire::{FrameError, Parting, Refusal};

const DOCUMENT: &str = include_str!("../../docs/protocol.md");

/// Every line the document must hold.
fn lines() -> Vec<String> {
    let refusals = Refusal::ALL.iter().map(|reason| {
        let retriable = if reason.retriable() { "yes" } else { "no" };
        let advice = reason.advice();
        format!("| {} | `{}` | {retriable} | {advice} |", reason.code(), reason.name())
    });
    let partings = Parting::ALL.iter().map(|reason| {
        let (code, close_code) = (reason.code(), reason.close_code());
        format!("| {code} | `{}` | {close_code} | {} |", reason.name(), reason.advice())
    });
    let errors = FrameError::ALL.iter().map(|error| {
        let status = error.http_response().and_then(|response| response.get(9..12));
        let (http, close_code) = match status {
            Some(status) => (status, String::new()),
            None => ("", error.close_code().to_string()),
        };
        format!("| {http} | {close_code} | {} |", error.advice())
    });
    refusals.chain(partings).chain(errors).collect()
}

#[test]
fn the_document_holds_every_reason_with_its_advice() {
    if std::env::var_os("WRITE_DOCUMENT").is_some() {
        println!("{}", lines().join("\n"));
    }
    for line in lines() {
        assert!(DOCUMENT.contains(&line), "docs/protocol.md should hold:\n{line}");
    }
}

#[test]
fn the_document_names_every_frame_of_the_schema() {
    let schema = include_str!("../proto/myriad.proto");
    let bodies = schema.split("oneof body {").skip(1).filter_map(|part| part.split('}').next());
    for body in bodies {
        for line in body.lines().filter(|line| line.contains(" = ")) {
            let mut words = line.trim_end_matches(';').split_whitespace();
            let (Some(kind), Some(number)) = (words.next(), words.next_back()) else { continue };
            let name = if kind == "TypingFrom" { "Typing" } else { kind };
            let title = format!("| **{name}** ({number}) |");
            assert!(DOCUMENT.contains(&title), "docs/protocol.md should hold: {title}");
        }
    }
}

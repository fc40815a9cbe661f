//! Markup that can't be broken out of: what is no literal of this program is escaped.
//!
//! Invariant: [`Html::raw`] takes `&'static str` alone, so text from a report, a scenario or a
//! server reaches the page only through [`Html::text`] and attributes, which escape it.

use std::fmt::{Display, Write as _};

/// A piece of a page.
#[derive(Clone, Debug, Default)]
pub(in crate::report) struct Html {
    text: String,
}

/// Attributes of an element: names are ours, values are anybody's.
pub(in crate::report) type Attributes<'a> = &'a [(&'static str, &'a dyn Display)];

impl Html {
    /// Markup of our own.
    pub(in crate::report) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.text.push_str(markup);
        self
    }

    /// Text of whatever origin.
    pub(in crate::report) fn text(&mut self, text: impl Display) -> &mut Self {
        // Writing to a string does not fail.
        let _ = write!(Escaper(&mut self.text), "{text}");
        self
    }

    /// The start of an element.
    pub(in crate::report) fn open(
        &mut self,
        tag: &'static str,
        attributes: Attributes<'_>,
    ) -> &mut Self {
        self.text.push('<');
        self.text.push_str(tag);
        for (name, value) in attributes {
            self.text.push(' ');
            self.text.push_str(name);
            self.text.push_str("=\"");
            self.text(value);
            self.text.push('"');
        }
        self.text.push('>');
        self
    }

    /// The end of an element.
    pub(in crate::report) fn close(&mut self, tag: &'static str) -> &mut Self {
        self.text.push_str("</");
        self.text.push_str(tag);
        self.text.push('>');
        self
    }

    /// An element with nothing but text in it.
    pub(in crate::report) fn element(
        &mut self,
        tag: &'static str,
        attributes: Attributes<'_>,
        text: impl Display,
    ) -> &mut Self {
        self.open(tag, attributes).text(text).close(tag)
    }

    /// Another piece.
    pub(in crate::report) fn append(&mut self, other: &Self) -> &mut Self {
        self.text.push_str(&other.text);
        self
    }

    /// The page as it is written.
    pub(in crate::report) fn into_string(self) -> String {
        self.text
    }
}

/// Escapes what is written through it.
struct Escaper<'s>(&'s mut String);

impl std::fmt::Write for Escaper<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for letter in text.chars() {
            match letter {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                _ => self.0.push(visible(letter)),
            }
        }
        Ok(())
    }
}

/// The letter, or a mark in its place if it would act on the page or terminal that shows it:
/// controls, and what turns the direction of writing.
pub(crate) fn visible(letter: char) -> char {
    let turns = matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if letter.is_control() || turns { char::REPLACEMENT_CHARACTER } else { letter }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        let mut html = Html::default();
        html.element("b", &[("title", &"\" onload='x'")], "<script>&\u{202e}\0\u{1b}[2J");
        assert_eq!(
            html.into_string(),
            "<b title=\"&quot; onload=&#39;x&#39;\">&lt;script&gt;&amp;\u{fffd}\u{fffd}\u{fffd}[2J\
             </b>"
        );
    }
}

//! Numbers of 64 bits in JSON: text, because JavaScript can't hold every one of them.

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU64;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// The id of a user, a group, a report: never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id(NonZeroU64);

impl Id {
    /// The number.
    pub(super) fn number(self) -> u64 {
        self.0.get()
    }

    /// Reads it: digits, one spelling per number.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        (digits && !text.starts_with('0')).then(|| text.parse().ok()).flatten().map(Self)
    }
}

impl From<u64> for Id {
    /// For numbers the server itself gave out. 0 becomes the largest id, which nobody has.
    fn from(number: u64) -> Self {
        Self(NonZeroU64::new(number).unwrap_or(NonZeroU64::MAX))
    }
}

/// A position in a stream, a client's number of a message: 0 is possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Number(pub(super) u64);

impl Number {
    /// Reads it: digits, one spelling per number.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text == "0" { Some(Self(0)) } else { Id::parse(text).map(|id| Self(id.number())) }
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Reads(1, Self::parse))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Reads(0, Self::parse))
    }
}

/// Reads a number from this one on.
struct Reads<T>(u8, fn(&str) -> Option<T>);

impl<T> Visitor<'_> for Reads<T> {
    type Value = T;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a whole number from {} to {} as text, like \"4711\"", self.0, u64::MAX)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(text), &self))
    }
}

fn text_schema(pattern: &str, about: &str) -> RefOr<Schema> {
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern))
        .description(Some(about))
        .examples([serde_json::json!("4711")]);
    schema.into()
}

impl PartialSchema for Id {
    fn schema() -> RefOr<Schema> {
        text_schema(
            "^[1-9][0-9]{0,19}$",
            "A number from 1 to 18446744073709551615 as text (JavaScript's numbers have only 53 \
             bits): keep it as text.",
        )
    }
}

impl ToSchema for Id {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Id")
    }
}

impl PartialSchema for Number {
    fn schema() -> RefOr<Schema> {
        text_schema(
            "^(0|[1-9][0-9]{0,19})$",
            "A number up to 18446744073709551615 as text (JavaScript's numbers have only 53 \
             bits). Positions of one stream order its messages: compare them as whole numbers, not \
             as text.",
        )
    }
}

impl ToSchema for Number {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Number")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        assert_eq!(Id::parse("18446744073709551615").map(Id::number), Some(u64::MAX));
        for text in ["", "0", "01", "+1", "-1", " 1", "1 ", "1.0", "18446744073709551616", "x"] {
            assert_eq!(Id::parse(text), None, "{text}");
        }
        assert_eq!(Number::parse("0"), Some(Number(0)));
        assert_eq!(Number::parse("00"), None);
    }

    #[test]
    fn a_number_in_json_is_refused_and_text_comes_back_as_it_was() {
        for (json, told) in [("4711", "integer `4711`"), ("\"0\"", "string \"0\"")] {
            let error = serde_json::from_str::<Id>(json).unwrap_err().to_string();
            let (told, wants) = (error.contains(told), error.contains("from 1 to 184467440737"));
            assert!(told && wants, "{error}");
        }
        let id: Id = serde_json::from_str("\"9007199254740993\"").unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"9007199254740993\"");
    }
}

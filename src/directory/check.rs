//! Whether what a command brings can be.
//!
//! Pure functions. What they refuse they say how to write.

use super::Fault;
use crate::limits;

/// A name as it is kept: small letters, digits, `_` and `.`.
///
/// # Errors
/// Too short, too long, or something else in it.
pub(super) fn name(text: &str) -> Result<String, Fault> {
    let folded = text.to_ascii_lowercase();
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.".contains(&byte);
    let long = (limits::NAME_CHARS_MIN..=limits::NAME_CHARS_MAX).contains(&folded.len());
    // Digits alone would be taken for a user's number.
    let named = folded.bytes().any(|byte| !byte.is_ascii_digit());
    if long && named && folded.bytes().all(fits) {
        return Ok(folded);
    }
    let advice = "write 3 to 32 of a-z, 0-9, `.` and `_`, not digits alone";
    Err(Fault::Invalid { field: "name", advice })
}

/// A phone number as it is kept: `+` and digits, the first not 0 (E.164).
///
/// # Errors
/// Anything else.
pub(super) fn phone(text: &str) -> Result<String, Fault> {
    let digits = text.strip_prefix('+').unwrap_or_default();
    let long = (limits::PHONE_DIGITS_MIN..=limits::PHONE_DIGITS_MAX).contains(&digits.len());
    if long && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(text.to_owned());
    }
    let advice = "write + and 7 to 15 digits with the country first, like +4930123456";
    Err(Fault::Invalid { field: "phone", advice })
}

/// What somebody is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Handle {
    /// A name.
    Name(String),
    /// A phone number.
    Phone(String),
}

/// Reads a name or phone number.
///
/// # Errors
/// It is neither.
pub(super) fn handle(text: &str) -> Result<Handle, Fault> {
    if text.starts_with('+') {
        phone(text).map(Handle::Phone)
    } else {
        name(text).map(Handle::Name)
    }
}

/// A new password.
///
/// # Errors
/// Too short or too long.
pub(super) fn password(text: &str) -> Result<(), Fault> {
    let advice = "choose 8 characters or more, and at most 1024 bytes";
    let long = text.chars().count() >= limits::PASSWORD_CHARS_MIN;
    if long && text.len() <= limits::PASSWORD_BYTES_MAX {
        return Ok(());
    }
    Err(Fault::Invalid { field: "password", advice })
}

/// Text of a user's or the operator's: not too long, and one can see it.
///
/// # Errors
/// Longer than `bytes_max`, or with control characters other than line ends.
pub(super) fn text(field: &'static str, text: &str, bytes_max: usize) -> Result<(), Fault> {
    if text.len() > bytes_max {
        return Err(Fault::Invalid { field, advice: "this is too long; shorten it" });
    }
    if text.chars().any(|char| char.is_control() && char != '\n') {
        return Err(Fault::Invalid { field, advice: "leave out control characters" });
    }
    Ok(())
}

/// How many rows a page has at the most.
pub(super) fn limit(limit: u32) -> u32 {
    limit.clamp(1, limits::PAGE_ROWS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_folded_and_phone_numbers_are_international() {
        assert_eq!(name("Ada.L_9").unwrap(), "ada.l_9");
        for text in ["", "ab", "a b c", "ada-l", "adä", &"a".repeat(33), "+491234567"] {
            assert!(name(text).is_err(), "{text}");
        }
        assert_eq!(phone("+4930123456").unwrap(), "+4930123456");
        for text in
            ["", "+", "4930123456", "+0301234567", "+123456", "+49 30 1234567", "+1234567890123456"]
        {
            assert!(phone(text).is_err(), "{text}");
        }
        assert_eq!(handle("ADA").unwrap(), Handle::Name("ada".to_owned()));
        assert_eq!(handle("+4930123456").unwrap(), Handle::Phone("+4930123456".to_owned()));
    }

    #[test]
    fn a_password_is_counted_in_characters_and_bounded_in_bytes() {
        assert!(password("sieben7").is_err());
        assert!(password("äöüäöüäö").is_ok());
        assert!(password(&"x".repeat(1025)).is_err());
    }

    proptest! {
        #[test]
        fn no_name_is_a_phone_number(input in "\\PC{0,40}") {
            prop_assert!(name(&input).is_err() || phone(&input).is_err());
            if let Ok(name) = name(&input) {
                prop_assert_eq!(super::name(&name).unwrap(), name);
            }
        }
    }
}

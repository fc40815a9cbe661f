//! How an operator writes a retention: `until-acked`, `permanent`, or a time like `90s` or `30d`.

use wire::{RETENTION_SECONDS_MAX, Retention};

use super::ConfigError;

const KEY: &str = "history_default";

/// Reads a retention.
///
/// # Errors
/// Anything else, with the forms to write.
pub(super) fn parse(text: &str) -> Result<Retention, ConfigError> {
    match text {
        "until-acked" => return Ok(Retention::UntilAcked),
        "permanent" => return Ok(Retention::Permanent),
        _ => {}
    }
    let seconds = text.split_at_checked(text.len().saturating_sub(1)).and_then(|(count, unit)| {
        let unit_s = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 24 * 3_600,
            _ => return None,
        };
        count.parse::<u32>().ok()?.checked_mul(unit_s)
    });
    match seconds {
        Some(seconds @ 1..=RETENTION_SECONDS_MAX) => Ok(Retention::Seconds(seconds)),
        _ => Err(ConfigError::Unusable {
            key: KEY,
            detail: format!(
                "'{text}' is no retention; write until-acked, permanent, or a time from 1s to \
                 3650d, like 90s, 15m, 12h or 30d"
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_reads_as_it_is_documented() {
        assert_eq!(parse("until-acked").unwrap(), Retention::UntilAcked);
        assert_eq!(parse("permanent").unwrap(), Retention::Permanent);
        assert_eq!(parse("90s").unwrap(), Retention::Seconds(90));
        assert_eq!(parse("15m").unwrap(), Retention::Seconds(900));
        assert_eq!(parse("12h").unwrap(), Retention::Seconds(43_200));
        assert_eq!(parse("3650d").unwrap(), Retention::Seconds(RETENTION_SECONDS_MAX));
    }

    #[test]
    fn what_is_no_retention_is_refused_with_the_forms_to_write() {
        for text in ["", "0s", "3651d", "forever", "9", "s", "-1d", "1 d", "99999999999d", "1ö"] {
            let refusal = parse(text).unwrap_err().to_string();
            assert!(refusal.contains("until-acked, permanent"), "{text}: {refusal}");
        }
    }
}

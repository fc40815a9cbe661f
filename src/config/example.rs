//! The commented configuration file that `myriad config example` prints.
//!
//! Made from the same struct as the flags, so that no key can be forgotten and no default lies.

use toml::{Table, Value};

use super::{defaults, layers};

/// A complete TOML file: every key with its help and unit, all but the required ones commented
/// out at their default.
#[must_use]
pub fn example() -> String {
    let defaults = Table::try_from(defaults()).unwrap_or_default();
    let mut text = String::from(
        "# Myriad's settings, each at its default. A flag (--heartbeat-ms) wins over an\n\
         # environment variable (MYRIAD_HEARTBEAT_MS), that over this file, that over the\n\
         # default. Units stand in the names. `myriad config check FILE` checks a file.\n",
    );
    for argument in layers::command().get_arguments() {
        let key = argument.get_id().as_str();
        if layers::is_flag_only(key) {
            continue;
        }
        let about = argument.get_help().map(ToString::to_string).unwrap_or_default();
        text.push_str(&format!("\n# {about}\n"));
        text.push_str(&match (defaults.get(key), sample(key)) {
            (_, Sample::Required(value)) => format!("{key} = {value}\n"),
            (Some(value), _) => format!("# {key} = {}\n", underscored(value)),
            (None, Sample::Unset(value)) => format!("# (unset)\n# {key} = {value}\n"),
            (None, Sample::Default) => format!("# {key} =\n"),
        });
    }
    text
}

/// What the example shows for a key.
enum Sample {
    /// Its default.
    Default,
    /// There is none: this value, to be changed.
    Required(&'static str),
    /// Unset unless said; this is what a value looks like.
    Unset(&'static str),
}

fn sample(key: &str) -> Sample {
    match key {
        "data" => Sample::Required("\"/var/lib/myriad\""),
        "auth_secret_file" => Sample::Required("\"/etc/myriad/secret\""),
        "shards" => Sample::Unset("4"),
        "unknown_users_allowed" => Sample::Unset("false"),
        "directory" => Sample::Unset("true"),
        "api_listen" => Sample::Unset("\"127.0.0.1:7880\""),
        "webhook_url" => Sample::Unset("\"http://127.0.0.1:9000/events\""),
        "webhook_secret_file" => Sample::Unset("\"/etc/myriad/webhook-secret\""),
        "admin_token_file" => Sample::Unset("\"/etc/myriad/admin-token\""),
        "log_bytes_max" => Sample::Unset("100_000_000_000"),
        "auth_jwks_file" => Sample::Unset("\"/etc/myriad/jwks.json\""),
        "auth_keys" => Sample::Unset(
            "[{ kid = \"2026\", alg = \"EdDSA\", file = \"/etc/myriad/issuer.pem\" }]",
        ),
        _ => Sample::Default,
    }
}

/// A value as a person would write it: long numbers in groups of three digits.
fn underscored(value: &Value) -> String {
    let Value::Integer(number) = value else { return value.to_string() };
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push('_');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Settings;

    #[test]
    fn the_example_names_every_key_and_is_valid_commented_or_not() {
        let text = example();
        let plain = layers::parse_file(Path::new("example"), &text).unwrap();
        assert!(plain.data.is_some() && plain.auth_secret_file.is_some());
        let uncommented: String = text
            .lines()
            .map(|line| line.strip_prefix("# ").filter(|rest| is_assignment(rest)).unwrap_or(line))
            .flat_map(|line| [line, "\n"])
            .collect();
        let all = layers::parse_file(Path::new("example"), &uncommented).unwrap();
        let table = Table::try_from(&all).unwrap();
        for key in layers::known_keys() {
            assert!(table.contains_key(&key), "{key} is not in the example:\n{uncommented}");
        }
    }

    #[test]
    fn the_defaults_in_the_example_are_the_defaults() {
        let text = example();
        let Settings { heartbeat_ms, .. } = defaults();
        assert_eq!(heartbeat_ms, Some(crate::limits::HEARTBEAT_MS));
        assert!(text.contains("# heartbeat_ms = 5_000\n"), "{text}");
    }

    fn is_assignment(line: &str) -> bool {
        line.split_once(" = ").is_some_and(|(key, _)| layers::known_keys().iter().any(|k| k == key))
    }
}

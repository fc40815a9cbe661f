//! Reads each source of settings (file, environment) and lays them over one another.
//!
//! Owner: the main thread, at start. Unknown keys are refused here, with the nearest known one,
//! because a misspelt limit that is silently a default is found out on the worst day.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use clap::{Args as _, Command, FromArgMatches as _};
use toml::Table;

use super::error::ConfigError;
use super::settings::Settings;
use crate::limits;

/// What every variable of ours starts with.
pub(super) const PREFIX: &str = "MYRIAD_";

/// Variables with our prefix that are no settings: the file to read and a token for the client.
const OTHER_VARIABLES: [&str; 2] = ["MYRIAD_CONFIG", "MYRIAD_TOKEN"];

/// What only a flag may say, because it is true of one start: in a file or an environment it would
/// stay for ever.
const FLAG_ONLY: [&str; 1] = ["clock_confirmed"];

/// The flags of the settings alone, which is also the list of their names and their help.
pub(super) fn command() -> Command {
    let command = Command::new("settings").no_binary_name(true).disable_help_flag(true);
    Settings::augment_args(command)
}

/// Every key, in the order it is documented.
pub(super) fn known_keys() -> Vec<String> {
    let command = command();
    let keys = command.get_arguments().map(|argument| argument.get_id().to_string());
    keys.filter(|key| !is_flag_only(key)).collect()
}

/// Whether a setting is no key of a file or an environment.
pub(super) fn is_flag_only(key: &str) -> bool {
    FLAG_ONLY.contains(&key)
}

/// Reads a TOML file.
///
/// # Errors
/// Unreadable, not TOML, unknown keys, or values of the wrong type.
pub(super) fn read_file(path: &Path) -> Result<Settings, ConfigError> {
    let unreadable = |cause| ConfigError::Unreadable { path: path.to_owned(), cause };
    let mut text = String::new();
    File::open(path)
        .map_err(unreadable)?
        .take(limits::CONFIG_FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > limits::CONFIG_FILE_BYTES_MAX {
        let bytes_max = limits::CONFIG_FILE_BYTES_MAX;
        return Err(ConfigError::TooLarge { path: path.to_owned(), bytes_max });
    }
    parse_file(path, &text)
}

/// Parses the text of a TOML file; `path` is only for messages.
pub(super) fn parse_file(path: &Path, text: &str) -> Result<Settings, ConfigError> {
    let malformed = |fault: &toml::de::Error| ConfigError::Malformed {
        path: path.to_owned(),
        detail: fault.to_string().trim_end().to_owned(),
    };
    let table: Table = text.parse().map_err(|fault| malformed(&fault))?;
    let known = known_keys();
    for key in table.keys() {
        if is_flag_only(key) {
            return Err(flag_only(&format!("The configuration file {}", path.display()), key));
        }
        if !known.contains(key) {
            return Err(unknown_key(&format!("The configuration file {}", path.display()), key));
        }
    }
    // From the text, not the table, so that a fault names its line and column.
    toml::from_str(text).map_err(|fault| malformed(&fault))
}

/// Reads our variables out of an environment.
///
/// A variable with our prefix that is no setting is only refused if it is nearly one: other
/// things have a right to names of their own (a cluster names variables after its services).
///
/// # Errors
/// A value that can't be read, or a name that is nearly a setting's.
pub(super) fn read_environment(
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Settings, ConfigError> {
    let known = known_keys();
    let mut settings = Settings::default();
    for (variable, value) in variables {
        let Some(name) = variable.strip_prefix(PREFIX) else { continue };
        if OTHER_VARIABLES.contains(&variable.as_str()) {
            continue;
        }
        let key = name.to_ascii_lowercase();
        if is_flag_only(&key) {
            return Err(flag_only(&format!("The environment ({variable})"), &key));
        }
        if known.contains(&key) {
            set_variable(&mut settings, &variable, &key, &value)?;
        } else if nearest(&key, &known).is_some() {
            return Err(unknown_key(&format!("The environment ({variable})"), &key));
        }
    }
    Ok(settings)
}

/// Reads one variable the way its flag would be read.
fn set_variable(
    settings: &mut Settings,
    variable: &str,
    key: &str,
    value: &str,
) -> Result<(), ConfigError> {
    let refused = |fault: &clap::Error| ConfigError::Variable {
        variable: variable.to_owned(),
        detail: first_line(&fault.to_string()),
    };
    let flag = format!("--{}={value}", key.replace('_', "-"));
    let matches = command().try_get_matches_from([flag]).map_err(|fault| refused(&fault))?;
    settings.update_from_arg_matches(&matches).map_err(|fault| refused(&fault))
}

/// A fault of clap's without its heading, its usage lines and its final stop.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").trim_end_matches('.').to_owned()
}

/// Lays layers over one another: what a later one says wins.
///
/// # Errors
/// A value TOML has no room for (a path that is not UTF-8, a number above 2^63).
pub(super) fn merge(layers: &[&Settings]) -> Result<Settings, ConfigError> {
    let mut merged = Table::new();
    for layer in layers {
        let table = Table::try_from(layer).map_err(|fault| ConfigError::Unusable {
            key: "A setting",
            detail: format!("{fault}; paths must be UTF-8 and numbers below 2^63"),
        })?;
        merged.extend(table);
    }
    merged.try_into().map_err(|fault: toml::de::Error| ConfigError::Unusable {
        key: "A setting",
        detail: fault.message().to_owned(),
    })
}

/// The refusal of a key that is a flag and nothing else.
fn flag_only(place: &str, key: &str) -> ConfigError {
    let (place, key) = (place.to_owned(), key.to_owned());
    ConfigError::FlagOnly { place, flag: format!("--{}", key.replace('_', "-")), key }
}

/// The refusal of a key nobody knows.
fn unknown_key(place: &str, key: &str) -> ConfigError {
    let known = known_keys();
    let hint =
        nearest(key, &known).map(|nearest| format!(" Did you mean {nearest}?")).unwrap_or_default();
    ConfigError::UnknownKey {
        place: place.to_owned(),
        key: key.to_owned(),
        hint,
        known: format!("The settings are: {}.", known.join(", ")),
    }
}

/// The known key a slip of the pen away from `key`: at most a third of its letters differ.
fn nearest<'k>(key: &str, known: &'k [String]) -> Option<&'k str> {
    let (distance, nearest) =
        known.iter().map(|candidate| (edit_distance(key, candidate), candidate)).min()?;
    (distance <= 1 + nearest.len() / 4).then_some(nearest.as_str())
}

/// How many letters must be put in, taken out or changed to turn one word into the other.
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for column in 0..to.len() {
            let changed = diagonal + usize::from(to[column] != letter);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        read_environment(pairs)
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_one() {
        let refusal = parse_file(Path::new("m.toml"), "hartbeat_ms = 5\n").unwrap_err().to_string();
        assert!(refusal.contains("m.toml sets hartbeat_ms"), "{refusal}");
        assert!(refusal.contains("Did you mean heartbeat_ms?"), "{refusal}");
        assert!(refusal.contains("sessions_max"), "{refusal}");
        let refusal = parse_file(Path::new("m.toml"), "colour = 5\n").unwrap_err().to_string();
        assert!(!refusal.contains("Did you mean"), "{refusal}");
    }

    #[test]
    fn what_is_true_of_one_start_is_a_flag_and_nothing_else() {
        let file = parse_file(Path::new("m.toml"), "clock_confirmed = true\n").unwrap_err();
        let variable = environment(&[("MYRIAD_CLOCK_CONFIRMED", "true")]).unwrap_err();
        for (refusal, place) in [(file, "m.toml"), (variable, "MYRIAD_CLOCK_CONFIRMED")] {
            let refusal = refusal.to_string();
            assert!(refusal.contains(place), "{refusal}");
            assert!(refusal.contains("start once with --clock-confirmed"), "{refusal}");
        }
        let flag = command().try_get_matches_from(["--clock-confirmed"]).unwrap();
        let mut settings = Settings::default();
        settings.update_from_arg_matches(&flag).unwrap();
        assert_eq!(settings.clock_confirmed, Some(true));
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused_with_its_line() {
        let refusal =
            parse_file(Path::new("m.toml"), "dev = true\nshards = \"two\"\n").unwrap_err();
        assert!(refusal.to_string().contains("line 2"), "{refusal}");
        parse_file(Path::new("m.toml"), "listen = \"nowhere\"\n").unwrap_err();
        parse_file(Path::new("m.toml"), "shards = -1\n").unwrap_err();
        parse_file(Path::new("m.toml"), "shards = 1.5\n").unwrap_err();
        parse_file(Path::new("m.toml"), "shards = 1\nshards = 2\n").unwrap_err();
        parse_file(Path::new("m.toml"), "[[auth_keys]]\nalg = \"none\"\nfile = \"f\"\n")
            .unwrap_err();
    }

    #[test]
    fn the_environment_is_read_like_flags() {
        let settings = environment(&[
            ("MYRIAD_LISTEN", "127.0.0.1:0"),
            ("MYRIAD_DEV", "true"),
            ("MYRIAD_ORIGINS", "https://a.example,https://b.example"),
            ("MYRIAD_AUTH_KEYS", "one:HS256:s1,two:EdDSA:p2"),
            ("MYRIAD_CONFIG", "elsewhere.toml"),
            ("PATH", "/bin"),
        ])
        .unwrap();
        assert_eq!(settings.listen, Some("127.0.0.1:0".parse().unwrap()));
        assert_eq!(settings.dev, Some(true));
        assert_eq!(settings.origins.unwrap().len(), 2);
        assert_eq!(settings.auth_keys.unwrap().len(), 2);
    }

    #[test]
    fn a_misspelt_variable_is_refused_and_a_foreign_one_is_not() {
        let refusal = environment(&[("MYRIAD_LISTN", "x")]).unwrap_err().to_string();
        assert!(refusal.contains("Did you mean listen?"), "{refusal}");
        environment(&[("MYRIAD_PORT_7878_TCP_PROTO", "tcp")]).unwrap();
        environment(&[("MYRIAD_SERVICE_HOST", "10.0.0.1")]).unwrap();
        let refusal = environment(&[("MYRIAD_SHARDS", "many")]).unwrap_err().to_string();
        assert!(refusal.starts_with("The environment variable MYRIAD_SHARDS"), "{refusal}");
    }

    #[test]
    fn a_later_layer_wins_and_an_unset_key_falls_through() {
        let file = parse_file(Path::new("m.toml"), "shards = 1\nheartbeat_ms = 2000\n").unwrap();
        let flags = environment(&[("MYRIAD_SHARDS", "2")]).unwrap();
        let merged = merge(&[&file, &flags]).unwrap();
        assert_eq!((merged.shards, merged.heartbeat_ms), (Some(2), Some(2000)));
        assert_eq!(merged.dev, None);
    }

    #[test]
    fn edit_distance_counts_letters() {
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("same", "same"), 0);
    }
}

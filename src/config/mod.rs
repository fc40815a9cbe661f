//! Settings: flags over environment over file over defaults, checked once, immutable after.
//!
//! Owner: the main thread reads them at start and hands copies to the rest. A [`Config`] that
//! exists is valid: every number is within its bound, and what may not be combined is not.
//! Defaults and bounds come from `limits`. Deliberately not here: opening any file a setting
//! names (`auth` reads keys, `log` opens the data folder), and reloading.

mod api;
mod bounds;
mod error;
mod example;
mod groups;
mod layers;
mod retention;
mod settings;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;

pub use self::api::{ApiConfig, ApiSettings, WebhookUrl};
pub use self::error::ConfigError;
pub use self::example::example;
pub use self::groups::GroupRules;
pub use self::settings::{Algorithm, Driver, KeyFile, Registration, ServeFlags, Settings};
use crate::limits;
use wire::Retention;

/// Where a server listens unless told otherwise.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7878);
/// The data folder of `--dev` unless told otherwise.
const DEV_DATA: &str = "myriad-data";
/// The file in the data folder that holds the secret `--dev` makes.
const DEV_SECRET: &str = "dev-secret";

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Address to listen on; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Folder for everything that survives a restart; may not exist yet.
    pub data: PathBuf,
    /// Shards, 1 to [`limits::SHARDS_MAX`].
    pub shards: usize,
    /// The driver asked for.
    pub driver: Driver,
    /// The HS256 secret without a name. With `dev`: the file to write a fresh one to.
    pub auth_secret_file: Option<PathBuf>,
    /// Further keys.
    pub auth_keys: Vec<KeyFile>,
    /// Still further ones: a JSON Web Key Set.
    pub auth_jwks_file: Option<PathBuf>,
    /// Trying things out: loopback, fresh secret.
    pub dev: bool,
    /// Plaintext off loopback was asked for.
    pub allow_plaintext: bool,
    /// Browser origins that may connect; `*` allows all, none allows the same host only.
    pub origins: Vec<String>,
    /// Heartbeat interval told to clients, in milliseconds.
    pub heartbeat_ms: u64,
    /// Sessions at once over all shards.
    pub sessions_max: usize,
    /// Users remembered over all shards.
    pub users_max: usize,
    /// Pairs (recipient, sender) whose marks are remembered over all shards.
    pub pairs_max: usize,
    /// Whether messages may wait for users that never logged in.
    pub unknown_users_allowed: bool,
    /// Connections without a login per source and shard.
    pub unknown_conns_per_source_max: usize,
    /// Messages of one user in a second; 0: no bound.
    pub messages_per_second_max: u32,
    /// Logins from one source and shard in a second; 0: no bound.
    pub logins_per_second_max: u32,
    /// Largest payload of a message in bytes, at most [`limits::PAYLOAD_BYTES_MAX`].
    pub payload_bytes_max: usize,
    /// How long an un-acked message is kept, seconds.
    pub retention_s: u32,
    /// The clock may be far ahead of the log.
    pub clock_confirmed: bool,
    /// Messages waiting in one inbox.
    pub inbox_messages_max: u32,
    /// Payload bytes waiting in one inbox; at least one payload of the largest size.
    pub inbox_bytes_max: u64,
    /// Messages of one sender waiting in one inbox.
    pub inbox_messages_per_sender_max: u32,
    /// Payload bytes of one sender waiting in one inbox; at least one payload.
    pub inbox_bytes_per_sender_max: u64,
    /// Those of groups; one payload of the largest size fits.
    pub groups: GroupRules,
    /// Bytes of all segments of the log; `None`: what the disk has.
    pub log_bytes_max: Option<u64>,
    /// Bytes of one segment, a multiple of [`limits::COMMIT_ALIGN_BYTES`].
    pub segment_bytes: u64,
    /// Pause between two commits in microseconds.
    pub commit_gap_us: u64,
    /// Whether history is kept.
    pub history: bool,
    /// How long it keeps a conversation whose user chose nothing.
    pub history_default: Retention,
    /// Messages it keeps of each side of a conversation.
    pub history_messages_max: u32,
    /// Whether accounts are kept; `None`: with the HTTP API, or if the data folder has any.
    pub directory: Option<bool>,
    /// Who may register an account.
    pub registration: Registration,
    /// How long an access token of an account is good, in seconds.
    pub access_token_s: u64,
    /// Threads that hash passwords.
    pub password_threads: usize,
    /// Memory near which sessions are refused and idle ones let go, in bytes; 0: the limit of the
    /// control group or the host.
    pub memory_max_bytes: u64,
    /// Time to drain at a stop in milliseconds.
    pub drain_ms: u64,
    /// The HTTP API.
    pub api: ApiConfig,
}

impl Config {
    /// Reads the process's environment and the file that the flags name, and checks the whole.
    ///
    /// # Errors
    /// A source that can't be read, an unknown key, a value out of bounds, a bad combination;
    /// the text says what to do.
    pub fn load(flags: &ServeFlags) -> Result<Self, ConfigError> {
        // Both sides lossy: a variable of ours that is not UTF-8 is then refused by its value.
        let variables = std::env::vars_os().map(|(name, value)| {
            (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        });
        let environment = layers::read_environment(variables)?;
        let file = match &flags.config {
            Some(path) => layers::read_file(path)?,
            None => Settings::default(),
        };
        Self::check(&layers::merge(&[&defaults(), &file, &environment, &flags.settings])?)
    }

    /// Reads one file alone, without the environment, and checks it.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_file(path: &Path) -> Result<Self, ConfigError> {
        Self::check(&layers::merge(&[&defaults(), &layers::read_file(path)?])?)
    }

    /// Checks settings that hold only what differs from the defaults. For tests and tools that
    /// bring neither flags nor files.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        Self::check(&layers::merge(&[&defaults(), settings])?)
    }

    /// Checks merged settings, in the order an operator would want to hear about faults.
    fn check(settings: &Settings) -> Result<Self, ConfigError> {
        let mut config = Self::unchecked(settings);
        if let Some(text) = &settings.history_default {
            config.history_default = retention::parse(text)?;
        }
        config.check_reach()?;
        config.api.check(config.dev, config.allow_plaintext, config.directory)?;
        config.check_keys()?;
        if config.data.as_os_str().is_empty() {
            return Err(ConfigError::NoData);
        }
        if config.driver == Driver::Uring && !cfg!(target_os = "linux") {
            return Err(ConfigError::UringIsLinux);
        }
        config.check_origins()?;
        bounds::check(&config)?;
        config.check_log()?;
        Ok(config)
    }

    /// Takes every setting as it is. What is unset has no default, or it is in [`defaults`].
    fn unchecked(settings: &Settings) -> Self {
        let said = settings.clone();
        let dev = said.dev.unwrap_or_default();
        let dev_data = if dev { PathBuf::from(DEV_DATA) } else { PathBuf::new() };
        Self {
            listen: said.listen.unwrap_or(LISTEN),
            data: said.data.unwrap_or(dev_data),
            shards: said.shards.unwrap_or_else(allowed_cores),
            driver: said.driver.unwrap_or(Driver::Auto),
            auth_secret_file: said.auth_secret_file,
            auth_keys: said.auth_keys.unwrap_or_default(),
            auth_jwks_file: said.auth_jwks_file,
            dev,
            allow_plaintext: said.allow_plaintext.unwrap_or_default(),
            origins: said.origins.unwrap_or_default(),
            heartbeat_ms: said.heartbeat_ms.unwrap_or_default(),
            sessions_max: said.sessions_max.unwrap_or_default(),
            users_max: said.users_max.unwrap_or_default(),
            pairs_max: said.pairs_max.unwrap_or_default(),
            // Somebody trying things out writes before the other side ever logged in.
            unknown_users_allowed: said.unknown_users_allowed.unwrap_or(dev),
            unknown_conns_per_source_max: said.unknown_conns_per_source_max.unwrap_or_default(),
            messages_per_second_max: said.messages_per_second_max.unwrap_or_default(),
            logins_per_second_max: said.logins_per_second_max.unwrap_or_default(),
            payload_bytes_max: said.payload_bytes_max.unwrap_or_default(),
            retention_s: said.retention_s.unwrap_or_default(),
            clock_confirmed: said.clock_confirmed.unwrap_or_default(),
            inbox_messages_max: said.inbox_messages_max.unwrap_or_default(),
            inbox_bytes_max: said.inbox_bytes_max.unwrap_or_default(),
            inbox_messages_per_sender_max: said.inbox_messages_per_sender_max.unwrap_or_default(),
            inbox_bytes_per_sender_max: said.inbox_bytes_per_sender_max.unwrap_or_default(),
            groups: GroupRules::of(settings),
            log_bytes_max: said.log_bytes_max,
            segment_bytes: said.segment_bytes.unwrap_or_default(),
            commit_gap_us: said.commit_gap_us.unwrap_or_default(),
            history: said.history.unwrap_or_default(),
            history_default: Retention::UntilAcked,
            history_messages_max: said.history_messages_max.unwrap_or_default(),
            directory: said.directory,
            registration: said.registration.unwrap_or_default(),
            access_token_s: said.access_token_s.unwrap_or_default(),
            password_threads: said.password_threads.unwrap_or_default(),
            memory_max_bytes: said.memory_max_bytes.unwrap_or_default(),
            drain_ms: said.drain_ms.unwrap_or_default(),
            api: ApiConfig::unchecked(said.api),
        }
    }

    /// Who can reach the address, and whether that was wanted.
    fn check_reach(&self) -> Result<(), ConfigError> {
        let listen = self.listen;
        let loopback = listen.ip().to_canonical().is_loopback();
        if self.dev && !loopback {
            return Err(ConfigError::DevOffLoopback { listen });
        }
        if !loopback && !self.allow_plaintext {
            return Err(ConfigError::PlaintextOffLoopback { listen });
        }
        Ok(())
    }

    /// Whether somebody else than this server signs tokens: then it does not know all users.
    #[must_use]
    pub fn has_operator_keys(&self) -> bool {
        self.auth_secret_file.is_some()
            || !self.auth_keys.is_empty()
            || self.auth_jwks_file.is_some()
    }

    /// That there is a key, and with `dev` only its own.
    fn check_keys(&mut self) -> Result<(), ConfigError> {
        match (self.dev, self.has_operator_keys()) {
            (true, true) => Err(ConfigError::DevWithKeys),
            // Accounts have tokens of the server's own.
            (false, false) if self.directory.unwrap_or_else(|| self.api.listen.is_some()) => Ok(()),
            (false, false) => Err(ConfigError::NoKey),
            (false, true) => Ok(()),
            (true, false) => {
                self.auth_secret_file = Some(self.data.join(DEV_SECRET));
                Ok(())
            }
        }
    }

    fn check_origins(&self) -> Result<(), ConfigError> {
        match self.origins.iter().find(|origin| !is_origin(origin)) {
            None => Ok(()),
            Some(origin) => Err(ConfigError::Unusable {
                key: "origins",
                detail: format!(
                    "'{origin}' is no origin; write scheme, host and port if it is not the \
                     usual one, in small letters and without a path, like \
                     https://chat.example.org, or * for all"
                ),
            }),
        }
    }

    /// What bounds alone can't say.
    fn check_log(&self) -> Result<(), ConfigError> {
        if !self.segment_bytes.is_multiple_of(limits::COMMIT_ALIGN_BYTES as u64) {
            return Err(ConfigError::Unusable {
                key: "segment_bytes",
                detail: format!(
                    "{} is no multiple of {}, the unit in which the log is written; \
                     {} is the next one that is",
                    self.segment_bytes,
                    limits::COMMIT_ALIGN_BYTES,
                    self.segment_bytes.next_multiple_of(limits::COMMIT_ALIGN_BYTES as u64),
                ),
            });
        }
        Ok(())
    }
}

/// Every setting that has a default, at it.
fn defaults() -> Settings {
    Settings {
        listen: Some(LISTEN),
        driver: Some(Driver::Auto),
        dev: Some(false),
        allow_plaintext: Some(false),
        origins: Some(Vec::new()),
        heartbeat_ms: Some(limits::HEARTBEAT_MS),
        sessions_max: Some(limits::SESSIONS_MAX),
        users_max: Some(limits::USERS_MAX),
        pairs_max: Some(limits::PAIRS_MAX),
        unknown_conns_per_source_max: Some(limits::UNKNOWN_CONNS_PER_SOURCE_MAX),
        messages_per_second_max: Some(limits::MESSAGES_PER_SECOND_MAX),
        logins_per_second_max: Some(limits::LOGINS_PER_SECOND_MAX),
        retention_s: Some(limits::RETENTION_S),
        clock_confirmed: Some(false),
        payload_bytes_max: Some(limits::PAYLOAD_BYTES_MAX),
        inbox_messages_max: Some(limits::INBOX_MESSAGES_MAX),
        inbox_bytes_max: Some(limits::INBOX_BYTES_MAX),
        inbox_messages_per_sender_max: Some(limits::INBOX_MESSAGES_PER_SENDER_MAX),
        inbox_bytes_per_sender_max: Some(limits::INBOX_BYTES_PER_SENDER_MAX),
        group_members_max: Some(limits::GROUP_MEMBERS_MAX),
        group_push_max: Some(limits::GROUP_PUSH_MAX),
        group_quiet_above: Some(limits::GROUP_QUIET_ABOVE),
        group_messages_max: Some(limits::GROUP_MESSAGES_MAX),
        group_bytes_max: Some(limits::GROUP_BYTES_MAX),
        segment_bytes: Some(limits::SEGMENT_BYTES),
        commit_gap_us: Some(limits::COMMIT_GAP_US),
        history: Some(false),
        history_default: Some("until-acked".to_owned()),
        history_messages_max: Some(limits::HISTORY_MESSAGES_MAX),
        registration: Some(Registration::Closed),
        access_token_s: Some(limits::ACCESS_TOKEN_S),
        password_threads: Some(limits::PASSWORD_THREADS),
        memory_max_bytes: Some(0),
        drain_ms: Some(limits::DRAIN_MS),
        api: api::defaults(),
        // With `dev` it is allowed, otherwise not.
        unknown_users_allowed: None,
        // Neither have a default that fits every host, nor may they: they are asked for.
        data: None,
        shards: None,
        auth_secret_file: None,
        auth_keys: None,
        auth_jwks_file: None,
        log_bytes_max: None,
        // It depends on the data folder.
        directory: None,
    }
}

/// One shard per core this process may run on; affinity and control groups are respected.
fn allowed_cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(limits::SHARDS_MAX)
}

/// Whether text is an origin as a browser sends it: `scheme://host[:port]`, or our `*`.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return text == "*" };
    let in_host =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._:[]".contains(&byte);
    !scheme.is_empty()
        && scheme.bytes().all(|byte| byte.is_ascii_lowercase() || b"-+.".contains(&byte))
        && !host.is_empty()
        && host.bytes().all(in_host)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The least a server outside `--dev` needs.
    fn least() -> Settings {
        Settings {
            data: Some("data".into()),
            auth_secret_file: Some("secret".into()),
            ..Settings::default()
        }
    }

    fn refusal(settings: &Settings) -> String {
        Config::from_settings(settings).unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_valid_and_come_from_limits() {
        let config = Config::from_settings(&least()).unwrap();
        assert_eq!(config.listen, LISTEN);
        assert_eq!(config.driver, Driver::Auto);
        assert_eq!(config.heartbeat_ms, limits::HEARTBEAT_MS);
        assert_eq!(config.inbox_bytes_max, limits::INBOX_BYTES_MAX);
        assert_eq!(config.log_bytes_max, None);
        assert!(config.shards >= 1 && !config.dev && !config.unknown_users_allowed);
    }

    #[test]
    fn a_server_without_a_key_or_a_folder_is_refused() {
        let settings = Settings { auth_secret_file: None, ..least() };
        assert!(refusal(&settings).contains("--auth-secret-file"));
        let settings = Settings { data: None, ..least() };
        assert!(refusal(&settings).contains("--data"));
        let settings = Settings { data: Some(PathBuf::new()), ..least() };
        assert!(refusal(&settings).contains("--data"));
    }

    #[test]
    fn dev_is_complete_by_itself_and_stays_on_loopback() {
        let dev = Settings { dev: Some(true), ..Settings::default() };
        let config = Config::from_settings(&dev).unwrap();
        assert_eq!(config.auth_secret_file, Some(PathBuf::from("myriad-data/dev-secret")));
        for listen in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
            let listen = Some(listen.parse().unwrap());
            let open = Settings { listen, allow_plaintext: Some(true), ..dev.clone() };
            assert!(refusal(&open).contains("--dev is for this machine only"));
        }
        for listen in ["127.0.0.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            let near = Settings { listen: Some(listen.parse().unwrap()), ..dev.clone() };
            Config::from_settings(&near).unwrap();
        }
        let keyed = Settings { auth_secret_file: Some("secret".into()), ..dev };
        assert!(refusal(&keyed).contains("Leave one of the two out"));
    }

    #[test]
    fn plaintext_off_loopback_must_be_asked_for() {
        let listen = Some("192.0.2.1:7878".parse().unwrap());
        let open = Settings { listen, ..least() };
        assert!(refusal(&open).contains("--allow-plaintext"));
        Config::from_settings(&Settings { allow_plaintext: Some(true), ..open }).unwrap();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn every_driver_can_be_asked_for() {
        for driver in [Driver::Auto, Driver::Ready, Driver::Uring] {
            let settings = Settings { driver: Some(driver), ..least() };
            assert_eq!(Config::from_settings(&settings).unwrap().driver, driver);
        }
    }

    #[test]
    fn numbers_out_of_bounds_are_refused_by_name() {
        let cases = [
            ("shards", Settings { shards: Some(0), ..least() }),
            ("shards", Settings { shards: Some(65), ..least() }),
            ("heartbeat_ms", Settings { heartbeat_ms: Some(999), ..least() }),
            ("sessions_max", Settings { sessions_max: Some(0), ..least() }),
            ("payload_bytes_max", Settings { payload_bytes_max: Some(65_537), ..least() }),
            ("retention_s", Settings { retention_s: Some(59), ..least() }),
            ("inbox_bytes_max", Settings { inbox_bytes_max: Some(65_535), ..least() }),
            ("segment_bytes", Settings { segment_bytes: Some(4096), ..least() }),
            ("segment_bytes", Settings { segment_bytes: Some(8 * 1024 * 1024 + 1), ..least() }),
            ("log_bytes_max", Settings { log_bytes_max: Some(1024 * 1024), ..least() }),
            ("commit_gap_us", Settings { commit_gap_us: Some(2_000_000), ..least() }),
            ("drain_ms", Settings { drain_ms: Some(600_001), ..least() }),
        ];
        for (key, settings) in cases {
            assert!(refusal(&settings).starts_with(key), "{key}: {}", refusal(&settings));
        }
    }

    #[test]
    fn origins_are_written_as_browsers_send_them() {
        for origin in ["*", "https://chat.example.org", "http://localhost:8080", "http://[::1]:1"] {
            assert!(is_origin(origin), "{origin}");
        }
        for origin in
            ["", "chat.example.org", "https://", "https://a/b", "https://A", "null", "//a"]
        {
            assert!(!is_origin(origin), "{origin}");
        }
        let settings = Settings { origins: Some(vec!["https://a/".to_owned()]), ..least() };
        assert!(refusal(&settings).contains("'https://a/' is no origin"));
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_within_its_bounds(
            shards in 0usize..200,
            heartbeat_ms in any::<u32>(),
            payload_bytes_max in 0usize..200_000,
            inbox_bytes_max in any::<u32>(),
            segment_bytes in any::<u32>(),
        ) {
            let settings = Settings {
                shards: Some(shards),
                heartbeat_ms: Some(heartbeat_ms.into()),
                payload_bytes_max: Some(payload_bytes_max),
                inbox_bytes_max: Some(inbox_bytes_max.into()),
                segment_bytes: Some(segment_bytes.into()),
                ..least()
            };
            if let Ok(config) = Config::from_settings(&settings) {
                prop_assert!((1..=limits::SHARDS_MAX).contains(&config.shards));
                prop_assert!(config.payload_bytes_max <= limits::PAYLOAD_BYTES_MAX);
                prop_assert!(config.inbox_bytes_max >= config.payload_bytes_max as u64);
                prop_assert_eq!(config.segment_bytes % limits::COMMIT_ALIGN_BYTES as u64, 0);
            }
        }
    }
}

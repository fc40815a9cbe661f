//! Settings of the HTTP API: off unless it is given an address.

use super::error::ConfigError;
use clap::Args;
use clap::builder::BoolishValueParser;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// What an operator may say of the API.
#[derive(Args, Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct ApiSettings {
    /// Address and port of the HTTP API; port 0 picks a free one; off unless set
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub api_listen: Option<SocketAddr>,
    /// Write a line for each request of the HTTP API
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub api_access_log: Option<bool>,
    /// The HTTP API is behind a proxy that names its clients: believe the last X-Forwarded-For
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub api_behind_proxy: Option<bool>,
    /// File with the token of the admin endpoints (at least 32 bytes); none: there are none
    #[arg(long, value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// Tell this program of accounts, reports and suspensions, like http://127.0.0.1:9000/events
    #[arg(long, value_name = "URL")]
    pub webhook_url: Option<WebhookUrl>,
    /// File with the secret that signs what the webhook tells (at least 32 bytes)
    #[arg(long, value_name = "FILE")]
    pub webhook_secret_file: Option<PathBuf>,
}

/// A URL that events are posted to: plain HTTP, without user, query or fragment.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct WebhookUrl {
    authority: String,
    path: String,
}

impl WebhookUrl {
    /// Host and port.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The path, with its first slash.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether what is told stays on this machine.
    fn is_loopback(&self) -> bool {
        self.authority.parse().is_ok_and(|to: SocketAddr| to.ip().to_canonical().is_loopback())
            || self.authority.starts_with("localhost:")
    }
}

impl FromStr for WebhookUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || {
            format!(
                "'{text}' is no address for events: write http://HOST:PORT/PATH. For HTTPS put a \
                 proxy of yours in between that encrypts"
            )
        };
        let rest = text.strip_prefix("http://").ok_or_else(wanted)?;
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, format!("/{path}")),
            None => (rest, "/".to_owned()),
        };
        let (host, port) = authority.rsplit_once(':').ok_or_else(wanted)?;
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let odd = |letter: char| "@?#\"\\".contains(letter);
        let usable = !host.is_empty() && plain(rest) && !rest.contains(odd);
        if !usable || port.parse::<u16>().is_err() {
            return Err(wanted());
        }
        Ok(Self { authority: authority.to_owned(), path })
    }
}

impl TryFrom<String> for WebhookUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<WebhookUrl> for String {
    fn from(url: WebhookUrl) -> Self {
        url.to_string()
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "http://{}{}", self.authority, self.path)
    }
}

/// The checked settings of the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiConfig {
    /// Where it listens; none: nowhere.
    pub listen: Option<SocketAddr>,
    /// A line per request.
    pub access_log: bool,
    /// The last `X-Forwarded-For` is the operator's proxy's word.
    pub behind_proxy: bool,
    /// The file with the admin token.
    pub admin_token_file: Option<PathBuf>,
    /// Whom the webhook tells.
    pub webhook: Option<WebhookUrl>,
    /// The file with the secret that signs what it tells.
    pub webhook_secret_file: Option<PathBuf>,
}

/// Every one that has a default, at it.
pub(super) fn defaults() -> ApiSettings {
    ApiSettings {
        api_access_log: Some(false),
        api_behind_proxy: Some(false),
        ..ApiSettings::default()
    }
}

impl ApiConfig {
    /// Takes what was said as it is.
    pub(super) fn unchecked(said: ApiSettings) -> Self {
        Self {
            listen: said.api_listen,
            access_log: said.api_access_log.unwrap_or_default(),
            behind_proxy: said.api_behind_proxy.unwrap_or_default(),
            admin_token_file: said.admin_token_file,
            webhook: said.webhook_url,
            webhook_secret_file: said.webhook_secret_file,
        }
    }

    /// That passwords and tokens are not readable on the way by accident.
    pub(super) fn check(
        &self,
        dev: bool,
        allow_plaintext: bool,
        directory: Option<bool>,
    ) -> Result<(), ConfigError> {
        self.check_webhook(allow_plaintext)?;
        let Some(listen) = self.listen else { return Ok(()) };
        if directory == Some(false) {
            return Err(ConfigError::Unusable {
                key: "api_listen",
                detail: "the HTTP API needs the directory of accounts: leave directory out or set \
                         it to true, or leave api_listen out"
                    .to_owned(),
            });
        }
        let loopback = listen.ip().to_canonical().is_loopback();
        match (loopback, dev, allow_plaintext) {
            (true, ..) => Ok(()),
            (false, true, _) => Err(ConfigError::DevOffLoopback { listen }),
            (false, false, true) => Ok(()),
            (false, false, false) => Err(ConfigError::PlaintextOffLoopback { listen }),
        }
    }

    fn check_webhook(&self, allow_plaintext: bool) -> Result<(), ConfigError> {
        let unusable = |detail: &str| {
            Err(ConfigError::Unusable { key: "webhook_url", detail: detail.to_owned() })
        };
        let Some(to) = &self.webhook else { return Ok(()) };
        if self.listen.is_none() {
            return unusable("the webhook belongs to the HTTP API: set api_listen as well");
        }
        if self.webhook_secret_file.is_none() {
            return unusable(
                "whoever is told has to know that it is this server: set webhook_secret_file as \
                 well (`openssl rand -hex 32 > FILE` makes one)",
            );
        }
        if !to.is_loopback() && !allow_plaintext {
            return unusable(
                "events would leave this machine unencrypted: tell a proxy on 127.0.0.1 that \
                 encrypts, or accept it by giving --allow-plaintext",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listen: &str, dev: bool, allow_plaintext: bool) -> Result<(), ConfigError> {
        let listen = Some(listen.parse().unwrap());
        ApiConfig { listen, ..ApiConfig::default() }.check(dev, allow_plaintext, None)
    }

    #[test]
    fn a_webhook_has_a_host_a_port_and_a_path() {
        let url: WebhookUrl = "http://127.0.0.1:9000/my/events".parse().unwrap();
        assert_eq!((url.authority(), url.path()), ("127.0.0.1:9000", "/my/events"));
        assert_eq!(url.to_string(), "http://127.0.0.1:9000/my/events");
        let bare: WebhookUrl = "http://localhost:80".parse().unwrap();
        assert_eq!(bare.path(), "/");
        for text in [
            "",
            "https://a:1/",
            "http://a/",
            "http://:1/",
            "http://u@a:1/",
            "http://a:x/",
            "http://a:1/?q",
            "http://a:1/ b",
        ] {
            text.parse::<WebhookUrl>().unwrap_err();
        }
    }

    #[test]
    fn the_api_does_not_go_without_the_directory() {
        let listen = Some("127.0.0.1:1".parse().unwrap());
        let config = ApiConfig { listen, ..ApiConfig::default() };
        config.check(false, false, Some(true)).unwrap();
        config.check(false, false, Some(false)).unwrap_err();
        ApiConfig::default().check(false, false, Some(false)).unwrap();
    }

    #[test]
    fn a_webhook_needs_a_secret_and_stays_here_unless_told() {
        let config = |to: &str, secret: bool| ApiConfig {
            listen: Some("127.0.0.1:1".parse().unwrap()),
            webhook: Some(to.parse().unwrap()),
            webhook_secret_file: secret.then(|| "secret".into()),
            ..ApiConfig::default()
        };
        config("http://127.0.0.1:9/", true).check(false, false, None).unwrap();
        config("http://127.0.0.1:9/", false).check(false, false, None).unwrap_err();
        config("http://192.0.2.1:9/", true).check(false, false, None).unwrap_err();
        config("http://192.0.2.1:9/", true).check(false, true, None).unwrap();
    }

    #[test]
    fn plaintext_off_loopback_must_be_asked_for_and_never_with_dev() {
        check("127.0.0.1:1", true, false).unwrap();
        check("[::1]:1", false, false).unwrap();
        let refusal = check("192.0.2.1:1", false, false).unwrap_err().to_string();
        assert!(refusal.contains("--allow-plaintext"), "{refusal}");
        check("192.0.2.1:1", false, true).unwrap();
        let refusal = check("192.0.2.1:1", true, true).unwrap_err().to_string();
        assert!(refusal.contains("--dev is for this machine only"), "{refusal}");
    }
}

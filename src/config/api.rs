//! Settings of the HTTP API: off unless it is given an address.

use super::error::ConfigError;
use clap::Args;
use clap::builder::BoolishValueParser;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

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
        }
    }

    /// That passwords and tokens are not readable on the way by accident.
    pub(super) fn check(&self, dev: bool, allow_plaintext: bool) -> Result<(), ConfigError> {
        let Some(listen) = self.listen else { return Ok(()) };
        let loopback = listen.ip().to_canonical().is_loopback();
        match (loopback, dev, allow_plaintext) {
            (true, ..) => Ok(()),
            (false, true, _) => Err(ConfigError::DevOffLoopback { listen }),
            (false, false, true) => Ok(()),
            (false, false, false) => Err(ConfigError::PlaintextOffLoopback { listen }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listen: &str, dev: bool, allow_plaintext: bool) -> Result<(), ConfigError> {
        let listen = Some(listen.parse().unwrap());
        ApiConfig { listen, ..ApiConfig::default() }.check(dev, allow_plaintext)
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

//! `myriad serve`: reads settings and keys, then hands over to the server.
//!
//! Everything that can be wrong before a socket opens is found here, so that the exit code can
//! tell "refused" from "failed".

use super::Failure;
use crate::auth::{self, FreshSecret, Keys};
use crate::config::{Config, ServeFlags};
use crate::server;

pub(super) fn run(flags: &ServeFlags) -> Result<(), Failure> {
    let config = Config::load(flags).map_err(Failure::refused)?;
    // Held until the server has stopped: nobody else may replace the secret meanwhile.
    let _secret = if config.dev { Some(make_dev_secret(&config)?) } else { None };
    let keys = Keys::load(&config).map_err(Failure::refused)?;
    server::run(&config, keys).map_err(Failure::failed)
}

/// Makes the secret of `--dev` and tells whoever started the server.
fn make_dev_secret(config: &Config) -> Result<FreshSecret, Failure> {
    let path = config.auth_secret_file.as_deref().ok_or_else(|| {
        Failure::refused("--dev is set, but no file for its secret is. This is a fault of ours.")
    })?;
    let secret = auth::write_fresh_secret(path).map_err(Failure::refused)?;
    eprintln!(
        "myriad: --dev, for trying things out on this machine only. A fresh secret is in {0}; \
         whoever can read it can log in as anybody, and tokens of earlier starts no longer \
         work. Mint one with: myriad token --auth-secret-file {0} --user 1",
        path.display()
    );
    Ok(secret)
}

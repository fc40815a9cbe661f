//! Tokens of `Hello` and `Renew`: checked here or by the thread beside the shards, a bounded number
//! per turn; what they say becomes a login on its way home or a later end of the session.

use super::intake::Step;
use super::{CheckJob, Core, Mover};
use crate::auth::{Claims, TokenError};
use crate::log::Reader;
use crate::mem::{RetryAfterMs, Token};
use crate::state::NONE;
use crate::state::conn::Phase;
use crate::state::request::Login;
use wire::{Hello, Parting};

/// What a source is told that logs in more often than it may.
const LOGINS_ADVICE: &str = "too many logins from this address; connect again after retry_after_ms";

impl<S, R: Reader> Core<S, R> {
    pub(super) fn on_hello(&mut self, token: Token, hello: &Hello<'_>) -> Step {
        if self.turn_away_if_full(token) {
            return Step::Taken;
        }
        if let Err(RetryAfterMs(retry_after_ms)) = self.may_log_in(token) {
            self.say_goodbye_for(token, Parting::Overloaded, retry_after_ms, LOGINS_ADVICE);
            return Step::Taken;
        }
        let login = Login {
            user: 0,
            device: 0,
            expires_s: 0,
            issued_s: 0,
            resume_after: hello.resume_after,
            confirmed: hello.confirmed,
            active: hello.active,
        };
        self.on_token(token, hello.token, Some(login))
    }

    /// A token to check, of a `Hello` or a `Renew`; in the next turn if this one checked enough.
    pub(super) fn on_token(&mut self, token: Token, jwt: &str, hello: Option<Login>) -> Step {
        if self.signatures_left == 0 {
            self.park(token);
            return Step::Wait;
        }
        self.signatures_left -= 1;
        self.check(token, jwt, hello)
    }

    /// Checks a token here, or has it checked where it may take long.
    fn check(&mut self, conn: Token, jwt: &str, hello: Option<Login>) -> Step {
        if let Some(side) = self.side.as_ref().filter(|_| self.keys.is_slow(jwt)) {
            let job = CheckJob { shard: self.me, conn, jwt: jwt.to_owned(), hello };
            if side.jobs.push(job).is_err() {
                return self.doom(conn, Parting::Overloaded);
            }
            if hello.is_some()
                && let Some(conn) = self.tables.conns.get_mut(conn)
            {
                conn.phase = Phase::Verifying;
                conn.paused = true;
            }
            return Step::Taken;
        }
        let claims = self.keys.verify(jwt, self.now.wall_ms / 1000);
        self.on_claims(conn, hello, claims);
        Step::Taken
    }

    /// Answers of the thread that checks slow tokens.
    pub(super) fn checked(&mut self) {
        let Some(side) = self.side.clone() else { return };
        while let Some(checked) = side.checked.pop() {
            let waits = self
                .tables
                .conns
                .get(checked.conn)
                .is_some_and(|conn| conn.phase == Phase::Verifying || checked.hello.is_none());
            if waits {
                self.on_claims(checked.conn, checked.hello, checked.claims);
            }
        }
    }

    fn on_claims(
        &mut self,
        token: Token,
        hello: Option<Login>,
        claims: Result<Claims, TokenError>,
    ) {
        let Some(conn) = self.tables.conns.get_mut(token) else { return };
        let claims = match claims {
            Ok(claims) => claims,
            Err(error) => {
                let expired = error == TokenError::Expired;
                let parting = if expired { Parting::TokenExpired } else { Parting::TokenInvalid };
                self.say_goodbye(token, parting, &error.to_string());
                return;
            }
        };
        if let Some(login) = hello {
            let Claims { user, device, expires_s, issued_s } = claims;
            conn.phase = Phase::Moving;
            conn.paused = true;
            let login = Login { user, device, expires_s, issued_s, ..login };
            self.movers.push_back(Mover { conn: token, login, since_ms: self.now.mono_ms });
        } else if conn.phase == Phase::Session && conn.device != NONE {
            let device = self.tables.users.device(conn.device);
            let same =
                self.tables.users.user(device.user).id == claims.user && device.id == claims.device;
            let issued_s = claims.issued_s;
            if same && self.tables.people.is_revoked(device.user, device.id, issued_s) {
                self.doom(token, Parting::LoggedOut);
            } else if same {
                conn.expires_s = u32::try_from(claims.expires_s).unwrap_or(u32::MAX);
            } else {
                self.doom(token, Parting::TokenInvalid);
            }
        }
    }
}

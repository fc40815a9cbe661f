//! Devices: their numbers, their tokens, their end.
//!
//! A refresh token is two random parts. The *family* stays as long as the device is logged in; the
//! *secret* is good once. Who shows the family with a secret that is not the newest has an old
//! token, so somebody has a copy: the device is logged out. Only hashes of both are kept.

use super::accounts::random;
use super::book::{Book, LIVES, SUSPENDED};
use super::sql::{Outcome, all, id_of, is_there, one, run, sql, value};
use super::{Answer, Fault, Secret, Session};
use crate::limits;
use crate::state::order::Order;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rusqlite::params;
use sha2::{Digest as _, Sha256};

/// Bytes of a family: it names a device and proves that a token is of it.
const FAMILY_BYTES: usize = 16;
/// Bytes of a secret.
const SECRET_BYTES: usize = 32;

/// The hash under which a secret is kept. Secrets are random, so one that is slow gains nothing.
pub(super) fn hash(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

impl Book<'_> {
    /// Logs a device in: the one that comes back, if it is still the user's, else a new one. The
    /// one that was here longest ago makes room.
    pub(super) fn new_session(
        &mut self,
        user: u64,
        device: Option<u32>,
        label: &str,
    ) -> Outcome<Answer> {
        let family = random::<FAMILY_BYTES>()?;
        let secret = random::<SECRET_BYTES>()?;
        let (now_s, hashes) = (sql(self.now_s), (hash(&family), hash(&secret)));
        if let Some(device) = device {
            let text = "UPDATE devices SET label = ?, refreshed_s = ?, family = ?, secret = ? \
                        WHERE user = ? AND device = ?";
            let values = params![label, now_s, hashes.0, hashes.1, sql(user), device];
            if run(self.db, text, values)? == 1 {
                return Ok(self.session(user, device, &family, &secret));
            }
        }
        self.make_room_for_device(user)?;
        let text = "UPDATE users SET devices_made = devices_made + 1 WHERE user = ? \
                    RETURNING devices_made";
        let made: i64 = value(self.db, text, [sql(user)])?.ok_or(Fault::Unknown("user"))?;
        let many = Fault::Conflict("this account had too many devices; make another one");
        let device = u32::try_from(made).map_err(|_| many)?;
        let text = "INSERT INTO devices \
                    (user, device, label, created_s, refreshed_s, family, secret) \
                    VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6)";
        run(self.db, text, params![sql(user), device, label, now_s, hashes.0, hashes.1])?;
        Ok(self.session(user, device, &family, &secret))
    }

    fn session(&self, user: u64, device: u32, family: &[u8], secret: &[u8]) -> Answer {
        let access = self.rules.own.mint(user, device, self.rules.access_s, self.now_s);
        let refresh = URL_SAFE_NO_PAD.encode([family, secret].concat());
        Answer::Session(Session {
            user,
            device,
            access: Secret::new(access),
            access_s: self.rules.access_s,
            refresh: Secret::new(refresh),
            refresh_s: limits::REFRESH_TOKEN_S,
        })
    }

    fn make_room_for_device(&mut self, user: u64) -> Outcome<()> {
        let text =
            "SELECT device FROM devices WHERE user = ? ORDER BY refreshed_s DESC, device DESC";
        let devices: Vec<u32> = all(self.db, text, [sql(user)], |row| row.get(0))?;
        for &device in devices.iter().skip(limits::DEVICES_PER_USER_MAX - 1) {
            self.end_device(user, device)?;
        }
        Ok(())
    }

    /// New tokens for a refresh token. The second part says whether the refusal is to be kept: a
    /// device that is logged out because its token was shown twice stays so.
    pub(super) fn refresh(&mut self, token: &Secret) -> Outcome<Result<Answer, Fault>> {
        let over = Ok(Err(Fault::SessionOver));
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(token.expose()) else { return over };
        if bytes.len() != FAMILY_BYTES + SECRET_BYTES {
            return over;
        }
        let (family, shown) = bytes.split_at(FAMILY_BYTES);
        let text = "SELECT d.user, device, secret, refreshed_s, state \
                    FROM devices d JOIN users u ON u.user = d.user WHERE family = ?";
        let found = one(self.db, text, [hash(family)], |row| {
            let secret: Vec<u8> = row.get(2)?;
            let state: i64 = row.get(4)?;
            Ok((id_of(row, 0)?, row.get::<_, u32>(1)?, secret, id_of(row, 3)?, state))
        })?;
        let Some((user, device, secret, refreshed_s, state)) = found else { return over };
        let late = self.now_s > refreshed_s.saturating_add(limits::REFRESH_TOKEN_S);
        if secret != hash(shown) || late {
            self.end_device(user, device)?;
            return over;
        }
        match state {
            LIVES => {}
            SUSPENDED => return Ok(Err(Fault::Suspended)),
            _ => return over,
        }
        let fresh = random::<SECRET_BYTES>()?;
        let text = "UPDATE devices SET secret = ?, refreshed_s = ? WHERE user = ? AND device = ?";
        run(self.db, text, params![hash(&fresh), sql(self.now_s), sql(user), device])?;
        Ok(Ok(self.session(user, device, family, &fresh)))
    }

    /// Logs a device out at the wish of its user. An operator's own identity may name any.
    pub(super) fn log_out(&mut self, user: u64, device: u32) -> Outcome<Answer> {
        self.need_user(user)?;
        let text = "SELECT 1 FROM devices WHERE user = ? AND device = ?";
        let known = is_there(self.db, text, params![sql(user), device])?;
        if !known && (!self.rules.foreign || device == 0) {
            return Err(Fault::Unknown("device").into());
        }
        self.end_device(user, device)?;
        Ok(Answer::Done)
    }

    /// Ends all devices of a user but one.
    pub(super) fn end_other_devices(&mut self, user: u64, keep: u32) -> Outcome<()> {
        let text = "SELECT device FROM devices WHERE user = ? AND device <> ?";
        let others: Vec<u32> = all(self.db, text, params![sql(user), keep], |row| row.get(0))?;
        others.into_iter().try_for_each(|device| self.end_device(user, device))
    }

    /// Ends a device: its tokens are refused from the next second on.
    pub(super) fn end_device(&mut self, user: u64, device: u32) -> Outcome<()> {
        let text = "DELETE FROM devices WHERE user = ? AND device = ?";
        run(self.db, text, params![sql(user), device])?;
        let not_before_s = self.now_s + 1;
        let text = "INSERT INTO revoked (user, device, not_before_s) VALUES (?1, ?2, ?3) \
                    ON CONFLICT DO UPDATE SET not_before_s = max(not_before_s, ?3), told = 0";
        run(self.db, text, params![sql(user), device, sql(not_before_s)])?;
        self.fold_revoked(user)?;
        self.orders.push(Order::EndDevice { user, device, not_before_s });
        Ok(())
    }

    /// Of very many devices that were ended the first one counts for all, as it does at shards:
    /// tokens as old as its last ones are refused, whatever device they name.
    fn fold_revoked(&self, user: u64) -> Outcome<()> {
        let text = "SELECT device, not_before_s FROM revoked WHERE user = ? AND told = 1 \
                    ORDER BY not_before_s DESC LIMIT -1 OFFSET ?";
        let most = limits::REVOCATIONS_PER_USER_MAX as i64;
        let folded: Vec<(u32, i64)> =
            all(self.db, text, params![sql(user), most], |row| Ok((row.get(0)?, row.get(1)?)))?;
        for (device, not_before_s) in folded {
            let text = "UPDATE users SET not_before_s = max(not_before_s, ?) WHERE user = ?";
            run(self.db, text, params![not_before_s, sql(user)])?;
            let text = "DELETE FROM revoked WHERE user = ? AND device = ?";
            run(self.db, text, params![sql(user), device])?;
        }
        Ok(())
    }

    /// A device's home has obeyed its end.
    pub(super) fn told(&self, user: u64, device: u32, not_before_s: u64) -> Outcome<()> {
        let text = "UPDATE revoked SET told = 1 \
                    WHERE user = ? AND device = ? AND not_before_s <= ?";
        run(self.db, text, params![sql(user), device, sql(not_before_s)])?;
        Ok(())
    }
}

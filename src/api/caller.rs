//! Who asks: the user of an access token, or the operator with the admin token.
//!
//! Invariants: a token is good only if its signature is, its time is not over, its device was not
//! logged out since it was issued, and its user is neither suspended nor deleted; if that can't be
//! told (the directory does not answer), it is not good. The admin token is compared in a time
//! that does not depend on where it differs, by way of its hash, which hides its length too.

use super::App;
use super::front::Source;
use super::problem::{Code, Problem};
use crate::clock::wall_ms;
use crate::directory::{Command, Standing};
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

/// A user with a good access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// Who.
    pub(super) user: u64,
    /// On which device.
    pub(super) device: u32,
}

/// The operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admin;

/// What is known of the admin token: its hash.
pub(super) struct AdminToken([u8; 32]);

impl AdminToken {
    pub(super) fn new(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    fn is(&self, said: &str) -> bool {
        let said: [u8; 32] = Sha256::digest(said).into();
        self.0.ct_eq(&said).into()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("AdminToken")
    }
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        // `once` may have asked already.
        if let Some(caller) = parts.extensions.get::<Self>() {
            return Ok(*caller);
        }
        let caller = check(app, &parts.headers).await?;
        parts.extensions.insert(caller);
        Ok(caller)
    }
}

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        if parts.extensions.get::<Self>().is_some() {
            return Ok(Self);
        }
        let Some(token) = &app.admin else {
            let advice = "This server has no admin token: its operator sets admin_token_file.";
            return Err(Problem::new(Code::Unauthorized, advice));
        };
        if !token.is(bearer(&parts.headers)?) {
            // Guessing is slow for everybody but whoever has the token.
            if let Some(source) = parts.extensions.get::<Source>() {
                app.buckets.attempt(source.0)?;
            }
            return Err(Problem::new(
                Code::Unauthorized,
                "This is not the admin token; it is what the file of admin_token_file holds.",
            ));
        }
        parts.extensions.insert(Self);
        Ok(Self)
    }
}

/// Whose an idempotency key is: the user's, or 0 for the operator.
pub(super) async fn owner(parts: &mut Parts, app: &Arc<App>) -> Result<u64, Problem> {
    let is_operator = match (&app.admin, bearer(&parts.headers)) {
        (Some(token), Ok(said)) => token.is(said),
        _ => false,
    };
    if is_operator {
        parts.extensions.insert(Admin);
        return Ok(0);
    }
    Caller::from_request_parts(parts, app).await.map(|caller| caller.user)
}

async fn check(app: &App, headers: &HeaderMap) -> Result<Caller, Problem> {
    let token = bearer(headers)?;
    let claims = app.keys.verify(token, wall_ms() / 1_000).map_err(|error| {
        Problem::new(Code::Unauthorized, format!("{error}: {}.", error.advice()))
    })?;
    let (user, device) = (claims.user, claims.device);
    app.buckets.caller(user)?;
    let command = Command::Standing { user, device, issued_s: claims.issued_s };
    match app.ask(command).await?.standing()? {
        Standing::Good => Ok(Caller { user, device }),
        Standing::Suspended => Err(Problem::new(
            Code::Suspended,
            "This account is suspended; ask the operator of this server.",
        )),
        Standing::LoggedOut => {
            Err(Problem::new(Code::Unauthorized, "This device was logged out; log in again."))
        }
        Standing::Deleted => {
            Err(Problem::new(Code::Unauthorized, "This account was deleted; log in with another."))
        }
    }
}

/// The bearer token of a request.
fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let missing = || {
        Problem::new(
            Code::Unauthorized,
            "Send the access token in the header Authorization: Bearer TOKEN; POST /v1/sessions \
             gives one.",
        )
    };
    let said = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, token) = said.and_then(|said| said.split_once(' ')).ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(missing());
    }
    Ok(token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_bearer_token_is_found_whatever_the_case_of_its_scheme() {
        let mut headers = HeaderMap::new();
        bearer(&headers).unwrap_err();
        for (said, token) in [("Bearer abc", Some("abc")), ("bearer  abc", Some("abc"))] {
            headers.insert(AUTHORIZATION, HeaderValue::from_static(said));
            assert_eq!(bearer(&headers).ok(), token);
        }
        for said in ["Basic YTpi", "Bearer", "abc"] {
            headers.insert(AUTHORIZATION, HeaderValue::from_static(said));
            bearer(&headers).unwrap_err();
        }
    }

    #[test]
    fn only_the_admin_token_is_the_admin_token() {
        let token = AdminToken::new(b"0123456789abcdef0123456789abcdef");
        assert!(token.is("0123456789abcdef0123456789abcdef"));
        for said in ["", "0123456789abcdef0123456789abcde", "0123456789abcdef0123456789abcdeF"] {
            assert!(!token.is(said));
        }
        assert_eq!(format!("{token:?}"), "AdminToken");
    }
}

//! What a token says: its header and claims, parsed strictly, without any trust in them.
//!
//! Pure functions on whatever thread calls them. The order of use is fixed in `mod.rs`: the
//! header picks a key, the signature is checked, and only then is a claim read.
//! Claims that are not ours (`iss`, `aud`, rights) are skipped.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::limits;

/// Who a token speaks for, and until when. Exists only for tokens whose signature was checked,
/// but for [`super::read_own`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The user (`sub`), never 0.
    pub user: u64,
    /// The device (`device`), never 0; 1 if the token names none.
    pub device: u32,
    /// When the token ends (`exp`), in seconds since 1970.
    pub expires_s: u64,
    /// When it was issued (`iat`), in seconds since 1970; 0 if it does not say.
    pub issued_s: u64,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Larger than [`limits::TOKEN_BYTES_MAX`]; nothing of it was read.
    #[error("the token is larger than {} bytes", limits::TOKEN_BYTES_MAX)]
    TooLarge,
    /// Not three parts of base64url, or a part is not the JSON it should be.
    #[error("this is not a JSON Web Token")]
    Malformed,
    /// `typ` is there and is not `JWT`, or `crit` asks for an extension.
    #[error("the token is of another type than JWT, or needs an extension")]
    WrongType,
    /// `alg` names nothing a key here is used with.
    #[error("the token's algorithm is not one this server has a key for")]
    AlgorithmNotAllowed,
    /// `kid` names no key of this server.
    #[error("the token names a key this server does not have")]
    UnknownKey,
    /// No key that may be tried made this signature.
    #[error("the token's signature is not by a key of this server")]
    BadSignature,
    /// A claim that must be there is not.
    #[error("the token has no claim {0}")]
    MissingClaim(&'static str),
    /// A claim is there but can't be used.
    #[error("the token's claim {0} is not usable")]
    BadClaim(&'static str),
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` is still to come.
    #[error("the token is not valid yet")]
    NotYetValid,
}

impl TokenError {
    /// What whoever made the token should do about it.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::TooLarge => "leave out claims this server does not need",
            Self::Malformed => "send the token as it was issued: header.claims.signature",
            Self::WrongType => "issue a plain signed JWT: typ JWT or none, no crit",
            Self::AlgorithmNotAllowed => {
                "sign with HS256, RS256 or EdDSA, as this server has keys for"
            }
            Self::UnknownKey => "give the server the key under this kid, or issue a new token",
            Self::BadSignature => "sign with the secret or private key the server was given",
            Self::MissingClaim(_) => "issue tokens with sub (the user) and exp (seconds)",
            Self::BadClaim(_) => {
                "sub is a whole number above 0, plain or as text; device a number from 1 to \
                 4294967295; exp, nbf and iat are seconds since 1970"
            }
            Self::Expired => "fetch a new token and log in again",
            Self::NotYetValid => "wait, or set the clocks of issuer and server right",
        }
    }
}

/// The parts of a token, still encoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'t> {
    /// What is signed: `header.claims`.
    pub(super) signed: &'t str,
    header: &'t str,
    claims: &'t str,
    /// The signature.
    pub(super) signature: &'t str,
}

impl<'t> Parts<'t> {
    /// Splits a token.
    ///
    /// # Errors
    /// Too large, or not three parts.
    pub(super) fn split(token: &'t str) -> Result<Self, TokenError> {
        if token.len() > limits::TOKEN_BYTES_MAX {
            return Err(TokenError::TooLarge);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        if claims.contains('.') || signature.is_empty() {
            return Err(TokenError::Malformed);
        }
        Ok(Self { signed, header, claims, signature })
    }

    /// Reads the header.
    ///
    /// # Errors
    /// Malformed, or a type or extension that is not ours.
    pub(super) fn header(&self) -> Result<Header, TokenError> {
        let json = decode(self.header)?;
        let raw: RawHeader<'_> = parse(&json)?;
        let is_jwt = raw.typ.is_none_or(|typ| typ.eq_ignore_ascii_case("JWT"));
        if !is_jwt || raw.crit.is_some() {
            return Err(TokenError::WrongType);
        }
        Ok(Header { alg: raw.alg.into_owned(), kid: raw.kid.map(Cow::into_owned) })
    }

    /// Reads the claims and holds them against the time.
    ///
    /// # Errors
    /// Malformed, claims missing or unusable, expired, not yet valid.
    pub(super) fn claims(&self, now_s: u64) -> Result<Claims, TokenError> {
        let (mut claims, not_before_s) = self.raw_claims()?;
        if now_s >= claims.expires_s {
            return Err(TokenError::Expired);
        }
        let latest_s = now_s.saturating_add(limits::TOKEN_LEEWAY_S);
        if not_before_s > latest_s {
            return Err(TokenError::NotYetValid);
        }
        // A clock that was set back must lock nobody out. But where tokens were revoked, one from
        // the future would outlive that: there it counts as an old one.
        if claims.issued_s > latest_s {
            claims.issued_s = 0;
        }
        Ok(claims)
    }

    /// The claims and `nbf` (0 if absent), whatever the time.
    pub(super) fn raw_claims(&self) -> Result<(Claims, u64), TokenError> {
        let json = decode(self.claims)?;
        let raw: RawClaims = parse(&json)?;
        let user = raw.sub.whole("sub")?.ok_or(TokenError::MissingClaim("sub"))?;
        let device = raw.device.number("device")?.unwrap_or(1);
        let expires_s = raw.exp.date("exp")?.ok_or(TokenError::MissingClaim("exp"))?;
        let not_before_s = raw.nbf.date("nbf")?.unwrap_or(0);
        let issued_s = raw.iat.date("iat")?.unwrap_or(0);
        let device = u32::try_from(device).map_err(|_| TokenError::BadClaim("device"))?;
        if user == 0 {
            return Err(TokenError::BadClaim("sub"));
        }
        if device == 0 {
            return Err(TokenError::BadClaim("device"));
        }
        Ok((Claims { user, device, expires_s, issued_s }, not_before_s))
    }
}

/// What a header says that decides about keys.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
}

#[derive(Deserialize)]
struct RawHeader<'j> {
    #[serde(borrow)]
    alg: Cow<'j, str>,
    #[serde(borrow, default)]
    typ: Option<Cow<'j, str>>,
    #[serde(borrow, default)]
    kid: Option<Cow<'j, str>>,
    #[serde(default)]
    crit: Option<de::IgnoredAny>,
}

/// A field given twice is refused by the derived code, which is what we want.
#[derive(Deserialize)]
struct RawClaims {
    #[serde(default)]
    sub: Claim,
    #[serde(default)]
    device: Claim,
    #[serde(default)]
    exp: Claim,
    #[serde(default)]
    nbf: Claim,
    #[serde(default)]
    iat: Claim,
}

/// One claim as JSON has it.
#[derive(Clone, Copy, Default)]
enum Claim {
    #[default]
    Absent,
    Whole(u64),
    /// The same, in text.
    Text(u64),
    Fraction(f64),
    /// Anything else: negative, too large, null, a list.
    Unusable,
}

impl Claim {
    /// A whole number, plain or as text.
    fn whole(self, name: &'static str) -> Result<Option<u64>, TokenError> {
        match self {
            Self::Text(number) => Ok(Some(number)),
            plain => plain.number(name),
        }
    }

    /// A whole number, plain.
    fn number(self, name: &'static str) -> Result<Option<u64>, TokenError> {
        match self {
            Self::Absent => Ok(None),
            Self::Whole(number) => Ok(Some(number)),
            Self::Text(_) | Self::Fraction(_) | Self::Unusable => Err(TokenError::BadClaim(name)),
        }
    }

    /// Seconds since 1970; RFC 7519 allows fractions of one, which are cut off.
    fn date(self, name: &'static str) -> Result<Option<u64>, TokenError> {
        /// Up to here every whole number is a float; a date beyond is nonsense anyway.
        const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
        match self {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the guard leaves 0 to 2^53, and the fraction is meant to go"
            )]
            Self::Fraction(date) if (0.0..=EXACT_MAX).contains(&date) => Ok(Some(date as u64)),
            other => other.number(name),
        }
    }
}

impl<'de> Deserialize<'de> for Claim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ClaimVisitor)
    }
}

struct ClaimVisitor;

impl<'de> Visitor<'de> for ClaimVisitor {
    type Value = Claim;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a claim")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Claim, E> {
        Ok(Claim::Whole(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Claim, E> {
        Ok(u64::try_from(number).map_or(Claim::Unusable, Claim::Whole))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Claim, E> {
        Ok(Claim::Fraction(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Claim, E> {
        // One spelling per number: no sign, no leading zero, no space.
        let plain = !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'));
        Ok(match text.parse() {
            Ok(number) if plain => Claim::Text(number),
            _ => Claim::Unusable,
        })
    }

    fn visit_bool<E>(self, _: bool) -> Result<Claim, E> {
        Ok(Claim::Unusable)
    }

    fn visit_unit<E>(self) -> Result<Claim, E> {
        Ok(Claim::Unusable)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Claim, A::Error> {
        while items.next_element::<de::IgnoredAny>()?.is_some() {}
        Ok(Claim::Unusable)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<Claim, A::Error> {
        while entries.next_entry::<de::IgnoredAny, de::IgnoredAny>()?.is_some() {}
        Ok(Claim::Unusable)
    }
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

fn parse<'j, T: Deserialize<'j>>(json: &'j [u8]) -> Result<T, TokenError> {
    // Derived code would take a list for a struct, field by field; a token's parts are objects.
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(TokenError::Malformed);
    }
    serde_json::from_slice(json).map_err(|_| TokenError::Malformed)
}

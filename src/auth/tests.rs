//! Attacks on tokens, and the tokens that must work.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm as JwtAlgorithm, EncodingKey, crypto};
use proptest::prelude::*;

use super::*;
use crate::config::Settings;

mod issuers;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW_S: u64 = 1_800_000_000;

/// A key pair made for these tests alone.
const ED_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIPaaSrcycwaLVtFFXX0zNaCS42ymBb0ViFd1wLaDV1Ae\n\
    -----END PRIVATE KEY-----\n";
const ED_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEAyER7MxX4DSrr70aSJwBtBnMqc/Q6eu4mnO0uvWJ8oNw=\n\
    -----END PUBLIC KEY-----\n";

/// 32 bytes that are no point of the curve, as DER.
const NO_POINT: &str = "MCowBQYDK2VwAyEAAgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn pem(der: &str) -> String {
    format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
}

/// Signs any header and claims with HS256.
fn token_of(header: &str, claims: &str, secret: &[u8]) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = EncodingKey::from_secret(secret);
    let signature = crypto::sign(signed.as_bytes(), &key, JwtAlgorithm::HS256).unwrap();
    format!("{signed}.{signature}")
}

fn ed_token_of(header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = EncodingKey::from_ed_pem(ED_PRIVATE.as_bytes()).unwrap();
    let signature = crypto::sign(signed.as_bytes(), &key, JwtAlgorithm::EdDSA).unwrap();
    format!("{signed}.{signature}")
}

/// Checks claims in an otherwise good token.
fn verify_claims(claims: &str) -> Result<Claims, TokenError> {
    let token = token_of(r#"{"alg":"HS256","typ":"JWT"}"#, claims, SECRET);
    Keys::from_secret(SECRET).verify(&token, NOW_S)
}

fn verify_header(header: &str) -> Result<Claims, TokenError> {
    let token = token_of(header, r#"{"sub":"1","exp":1900000000}"#, SECRET);
    Keys::from_secret(SECRET).verify(&token, NOW_S)
}

/// A folder of its own for each test, gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("myriad-auth-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn load(secret: Option<PathBuf>, keys: Vec<KeyFile>) -> Result<Keys, KeyError> {
    let settings = Settings {
        data: Some("data".into()),
        auth_secret_file: secret,
        auth_keys: Some(keys),
        ..Settings::default()
    };
    Keys::load(&Config::from_settings(&settings).unwrap())
}

fn key_file(kid: Option<&str>, alg: Algorithm, file: PathBuf) -> KeyFile {
    KeyFile { kid: kid.map(str::to_owned), alg, file }
}

#[test]
fn a_minted_token_verifies_and_ends() {
    let keys = Keys::from_secret(SECRET);
    let token = mint(SECRET, u64::MAX, u32::MAX, 60, NOW_S);
    let claims = keys.verify(&token, NOW_S).unwrap();
    let expires_s = NOW_S + 60;
    assert_eq!(claims, Claims { user: u64::MAX, device: u32::MAX, expires_s, issued_s: NOW_S });
    assert_eq!(read_own(&token), Ok(claims));
    assert!(keys.verify(&token, expires_s - 1).is_ok());
    assert_eq!(keys.verify(&token, expires_s), Err(TokenError::Expired));
    assert_eq!(keys.verify(&token, u64::MAX), Err(TokenError::Expired));
    assert!(!keys.is_slow(&token));
}

#[test]
fn the_servers_own_key_is_made_once_and_checks_its_tokens_beside_the_operators() {
    let folder = Folder::new("own");
    let path = folder.0.join("directory/token-key");
    let own = OwnKey::open(&path).unwrap();
    let again = OwnKey::open(&path).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let keys = Keys::from_secret(SECRET).and_own(&own);
    let token = again.mint(7, 3, 60, NOW_S);
    let claims = Claims { user: 7, device: 3, expires_s: NOW_S + 60, issued_s: NOW_S };
    assert_eq!(keys.verify(&token, NOW_S), Ok(claims));
    assert!(keys.verify(&mint(SECRET, 7, 3, 60, NOW_S), NOW_S).is_ok());
    // Another server's, and the operator's under its name.
    let other = OwnKey::from_secret(b"another secret of thirty-two bytes");
    let foreign = other.mint(7, 3, 60, NOW_S);
    assert_eq!(keys.verify(&foreign, NOW_S), Err(TokenError::BadSignature));
    let own_kid = format!("{:?}", &own);
    let kid = own_kid.split('"').nth(1).unwrap();
    let header = format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#);
    let forged = token_of(&header, r#"{"sub":"1","exp":1900000000}"#, SECRET);
    assert_eq!(keys.verify(&forged, NOW_S), Err(TokenError::BadSignature));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!own_kid.contains(text.trim()));
}

#[test]
fn another_secret_or_a_changed_byte_is_a_bad_signature() {
    let token = mint(SECRET, 7, 1, 60, NOW_S);
    let other = Keys::from_secret(b"another secret of thirty-two bytes");
    assert_eq!(other.verify(&token, NOW_S), Err(TokenError::BadSignature));
    let (signed, _) = token.rsplit_once('.').unwrap();
    let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0u8; 32]));
    assert_eq!(Keys::from_secret(SECRET).verify(&forged, NOW_S), Err(TokenError::BadSignature));
}

#[test]
fn no_algorithm_but_the_keys_own_is_accepted() {
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let claims = URL_SAFE_NO_PAD.encode(r#"{"sub":"1","exp":1900000000}"#);
    let keys = Keys::from_secret(SECRET);
    let unsigned = format!("{none}.{claims}.");
    assert_eq!(keys.verify(&unsigned, NOW_S), Err(TokenError::Malformed));
    let signed = format!("{none}.{claims}.AAAA");
    assert_eq!(keys.verify(&signed, NOW_S), Err(TokenError::AlgorithmNotAllowed));
    for alg in ["None", "NONE", "hs256", "HS384", "HS512", "RS256", "EdDSA", ""] {
        let verified = verify_header(&format!(r#"{{"alg":"{alg}"}}"#));
        assert_eq!(verified, Err(TokenError::AlgorithmNotAllowed), "{alg}");
    }
}

#[test]
fn a_public_key_is_never_a_secret() {
    let folder = Folder::new("confusion");
    let public = folder.file("public.pem", ED_PUBLIC);
    let only = || vec![key_file(Some("ed"), Algorithm::EdDsa, public.clone())];
    let keys = load(None, only()).unwrap();
    let raw = keys.keys[0].clone();
    let claims = r#"{"sub":"1","exp":1900000000}"#;
    for header in [r#"{"alg":"HS256"}"#, r#"{"alg":"HS256","kid":"ed"}"#] {
        let forged = token_of(header, claims, ED_PUBLIC.as_bytes());
        assert_eq!(keys.verify(&forged, NOW_S), Err(TokenError::AlgorithmNotAllowed));
        assert!(!raw.signed(forged.rsplit_once('.').unwrap().0, "AAAA"));
    }
    // With an HS256 key beside it, the name of the other key does not help either.
    let secret = folder.file("secret", SECRET);
    let both = load(Some(secret), only()).unwrap();
    let forged = token_of(r#"{"alg":"HS256"}"#, claims, ED_PUBLIC.as_bytes());
    assert_eq!(both.verify(&forged, NOW_S), Err(TokenError::BadSignature));
    let forged = token_of(r#"{"alg":"HS256","kid":"ed"}"#, claims, SECRET);
    assert_eq!(both.verify(&forged, NOW_S), Err(TokenError::AlgorithmNotAllowed));
    // And an operator's slip is caught at start.
    assert!(matches!(load(Some(public), Vec::new()), Err(KeyError::PemAsSecret { .. })));
}

#[test]
fn an_ed25519_token_verifies_and_is_slow() {
    let folder = Folder::new("ed25519");
    let public = folder.file("public.pem", ED_PUBLIC);
    let keys = load(None, vec![key_file(None, Algorithm::EdDsa, public)]).unwrap();
    let token = ed_token_of(r#"{"alg":"EdDSA","typ":"JWT"}"#, r#"{"sub":9,"exp":1900000000}"#);
    assert_eq!(keys.verify(&token, NOW_S).unwrap().user, 9);
    assert!(keys.is_slow(&token));
    assert!(!Keys::from_secret(SECRET).is_slow(&token));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    for forged in ["AAAA".to_owned(), "A".repeat(86), format!("{signature}AA")] {
        let forged = format!("{signed}.{forged}");
        assert_eq!(keys.verify(&forged, NOW_S), Err(TokenError::BadSignature));
    }
}

#[test]
fn keys_rotate_by_name() {
    let folder = Folder::new("rotation");
    let old = folder.file("old", b"the old secret, thirty-two bytes!");
    let new = folder.file("new", b"the new secret, thirty-two bytes!");
    let bare = folder.file("bare", SECRET);
    let named = vec![
        key_file(Some("old"), Algorithm::Hs256, old),
        key_file(Some("new"), Algorithm::Hs256, new),
    ];
    let keys = load(None, named.clone()).unwrap();
    let claims = r#"{"sub":"1","exp":1900000000}"#;
    let token = |kid: &str, secret: &[u8]| {
        token_of(&format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#), claims, secret)
    };
    let old_secret: &[u8] = b"the old secret, thirty-two bytes!";
    assert!(keys.verify(&token("old", old_secret), NOW_S).is_ok());
    assert_eq!(keys.verify(&token("new", old_secret), NOW_S), Err(TokenError::BadSignature));
    assert_eq!(keys.verify(&token("gone", old_secret), NOW_S), Err(TokenError::UnknownKey));
    let nameless = token_of(r#"{"alg":"HS256"}"#, claims, old_secret);
    assert!(keys.verify(&nameless, NOW_S).is_ok());
    // A key without a name takes tokens whose name nobody has, but not those of a named key.
    let keys = load(Some(bare), named).unwrap();
    assert!(keys.verify(&token("theirs", SECRET), NOW_S).is_ok());
    assert_eq!(keys.verify(&token("old", SECRET), NOW_S), Err(TokenError::BadSignature));
}

#[test]
fn weak_doubled_and_surplus_keys_are_refused_at_start() {
    let folder = Folder::new("weak");
    let secret = folder.file("good", SECRET);
    let named = |kid: &str| key_file(Some(kid), Algorithm::Hs256, secret.clone());
    let weak = load(Some(folder.file("weak", &SECRET[1..])), Vec::new());
    assert!(matches!(weak, Err(KeyError::TooShort { bytes: 31, .. })));
    let padded = load(Some(folder.file("padded", [&SECRET[1..], b"\n"].concat())), Vec::new());
    assert!(matches!(padded, Err(KeyError::TooShort { bytes: 31, .. })));
    let missing = load(Some(folder.0.join("missing")), Vec::new());
    assert!(missing.unwrap_err().to_string().contains("can't be read"));
    let large = folder.file("large", vec![b'a'; 20_000]);
    assert!(matches!(load(Some(large), Vec::new()), Err(KeyError::TooLarge { .. })));
    let doubled = load(None, vec![named("a"), named("a")]);
    assert!(matches!(doubled, Err(KeyError::SameName { .. })));
    let surplus = load(None, ["a", "b", "c", "d", "e"].map(named).to_vec());
    assert!(matches!(surplus, Err(KeyError::TooMany { .. })));
    for (name, content) in [
        ("text", "hello".to_owned()),
        ("private", ED_PRIVATE.to_owned()),
        ("short", pem("MAwwBQYDK2VwAwMAqrs=")),
        ("no-point", pem(NO_POINT)),
    ] {
        let file = folder.file(name, content);
        let keys = load(None, vec![key_file(None, Algorithm::EdDsa, file)]);
        assert!(matches!(keys, Err(KeyError::NotEd25519 { .. })), "{name}");
    }
}

#[test]
fn a_secret_is_the_same_with_and_without_its_line_end() {
    let folder = Folder::new("line-end");
    let plain = read_secret(&folder.file("plain", SECRET)).unwrap();
    assert_eq!(plain, SECRET);
    for ending in ["\n", "\r\n"] {
        let ended = folder.file("ended", [SECRET, ending.as_bytes()].concat());
        assert_eq!(read_secret(&ended).unwrap(), plain);
    }
    // Bytes that are no text are taken as they are, whatever they end with.
    let binary = [&[0xff; 32][..], b"\n"].concat();
    assert_eq!(read_secret(&folder.file("binary", &binary)).unwrap(), binary);
}

#[test]
fn a_fresh_secret_is_private_and_new_each_time() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new("fresh");
    let path = folder.0.join("data").join("dev-secret");
    let held = write_fresh_secret(&path).unwrap();
    let first = read_secret(&path).unwrap();
    assert_eq!(first.len(), 64);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // While one server holds it, another cannot take it away from under it.
    assert!(matches!(write_fresh_secret(&path), Err(KeyError::InUse { .. })));
    assert_eq!(read_secret(&path).unwrap(), first);
    drop(held);
    let _held = write_fresh_secret(&path).unwrap();
    assert_ne!(read_secret(&path).unwrap(), first);
}

#[test]
fn a_wrong_type_or_a_demanded_extension_is_refused() {
    assert!(verify_header(r#"{"alg":"HS256"}"#).is_ok());
    assert!(verify_header(r#"{"typ":"jwt","alg":"HS256","x":[1]}"#).is_ok());
    for header in [
        r#"{"alg":"HS256","typ":"at+jwt"}"#,
        r#"{"alg":"HS256","typ":"JWE"}"#,
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
    ] {
        assert_eq!(verify_header(header), Err(TokenError::WrongType), "{header}");
    }
    for header in [
        r#"{"typ":"JWT"}"#,
        r#"{"alg":null}"#,
        r#"{"alg":1}"#,
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"["HS256"]"#,
        "",
        "{",
        r#"{"alg":"HS256"}x"#,
    ] {
        assert_eq!(verify_header(header), Err(TokenError::Malformed), "{header}");
    }
}

#[test]
fn claims_are_read_strictly() {
    let good = |claims: &str| verify_claims(claims).unwrap_or_else(|e| panic!("{claims}: {e}"));
    assert_eq!(good(r#"{"sub":"42","exp":1900000000}"#).user, 42);
    assert_eq!(good(r#"{"sub":42,"exp":1900000000}"#).device, 1);
    assert_eq!(good(r#"{"sub":18446744073709551615,"exp":1900000000}"#).user, u64::MAX);
    assert_eq!(good(r#"{"sub":1,"device":3,"exp":1900000000.75}"#).expires_s, 1_900_000_000);
    assert_eq!(good(r#"{"sub":1,"exp":18446744073709551615}"#).expires_s, u64::MAX);
    assert_eq!(good(r#"{"sub":1,"exp":1900000000,"nbf":1800000030,"aud":["x"]}"#).user, 1);

    let missing = |claim| Err(TokenError::MissingClaim(claim));
    assert_eq!(verify_claims(r#"{"exp":1900000000}"#), missing("sub"));
    assert_eq!(verify_claims(r#"{"sub":1}"#), missing("exp"));
    let listed = verify_claims("[1,1,1900000000,0]");
    assert_eq!(listed, Err(TokenError::Malformed));
    let expired = verify_claims(r#"{"sub":1,"exp":0}"#);
    assert_eq!(expired, Err(TokenError::Expired));
    let early = verify_claims(r#"{"sub":1,"exp":1900000000,"nbf":1800000031}"#);
    assert_eq!(early, Err(TokenError::NotYetValid));
    let unborn = verify_claims(r#"{"sub":1,"exp":1900000000,"iat":1800000031}"#).unwrap();
    assert_eq!(unborn.issued_s, 0, "as old as can be");
    let undated = verify_claims(r#"{"sub":1,"exp":1900000000}"#).unwrap();
    assert_eq!(undated.issued_s, 0);
}

#[test]
fn a_claim_that_is_no_number_of_ours_is_refused_by_name() {
    let values =
        ["0", "-1", "1.5", "1e3", "18446744073709551616", "1e400", "null", "true", "[1]", "{}"];
    let texts = [r#""""#, r#""+1""#, r#""01""#, r#"" 1""#, r#""0x1""#, r#""1.0""#, r#""0""#];
    for sub in values.iter().chain(&texts) {
        let verified = verify_claims(&format!(r#"{{"sub":{sub},"exp":1900000000}}"#));
        // JSON has no number as large as 1e400, so that one is no JSON at all.
        let expected =
            if *sub == "1e400" { TokenError::Malformed } else { TokenError::BadClaim("sub") };
        assert_eq!(verified, Err(expected), "{sub}");
    }
    for device in ["0", "-1", "4294967296", "1.0", "null", r#""1""#] {
        let claims = format!(r#"{{"sub":1,"exp":1900000000,"device":{device}}}"#);
        assert_eq!(verify_claims(&claims), Err(TokenError::BadClaim("device")), "{device}");
    }
    for date in ["-1", "-1.5", "1e300", "null", r#""1900000000""#, "[]"] {
        let verified = verify_claims(&format!(r#"{{"sub":1,"exp":{date}}}"#));
        assert_eq!(verified, Err(TokenError::BadClaim("exp")), "{date}");
    }
}

#[test]
fn a_claim_given_twice_is_refused() {
    for claims in [
        r#"{"sub":1,"sub":2,"exp":1900000000}"#,
        r#"{"sub":1,"exp":1900000000,"exp":0}"#,
        r#"{"sub":1,"exp":1900000000,"device":1,"\u0064evice":2}"#,
    ] {
        assert_eq!(verify_claims(claims), Err(TokenError::Malformed), "{claims}");
    }
}

#[test]
fn a_truncated_token_is_refused_at_every_length() {
    let keys = Keys::from_secret(SECRET);
    let token = mint(SECRET, 7, 1, 60, NOW_S);
    for length in 0..token.len() {
        assert!(keys.verify(&token[..length], NOW_S).is_err(), "{length}");
    }
    for token in ["", ".", "..", "...", "a.b", "a.b.c.d", "é.é.é", "a b.c.d"] {
        assert_eq!(keys.verify(token, NOW_S), Err(TokenError::Malformed), "{token}");
    }
}

#[test]
fn a_large_token_is_refused_unread() {
    let filler = "x".repeat(limits::TOKEN_BYTES_MAX);
    let claims = format!(r#"{{"sub":1,"exp":1900000000,"filler":"{filler}"}}"#);
    assert_eq!(verify_claims(&claims), Err(TokenError::TooLarge));
    let keys = Keys::from_secret(SECRET);
    let dots = ".".repeat(limits::TOKEN_BYTES_MAX + 1);
    assert_eq!(keys.verify(&dots, NOW_S), Err(TokenError::TooLarge));
    assert_eq!(keys.verify(&dots[1..], NOW_S), Err(TokenError::Malformed));
}

#[test]
fn every_refusal_comes_with_advice_and_no_output_shows_a_secret() {
    for error in [TokenError::TooLarge, TokenError::BadClaim("sub"), TokenError::Expired] {
        assert!(error.advice().len() > 10 && !error.to_string().is_empty());
    }
    let shown = format!("{:?}", Keys::from_secret(SECRET));
    assert!(!shown.contains("0123") && !shown.contains("48, 49"), "{shown}");
}

proptest! {
    #[test]
    fn garbage_never_panics_nor_passes(token in "\\PC{0,200}") {
        let keys = Keys::from_secret(SECRET);
        prop_assert!(keys.verify(&token, NOW_S).is_err());
        let _ = keys.is_slow(&token);
        let _ = read_own(&token);
    }

    #[test]
    fn garbage_inside_a_signed_token_never_panics(
        header in "[\\x20-\\x7e]{0,60}",
        claims in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let claims = String::from_utf8_lossy(&claims);
        let _ = verify_claims(&claims);
        let _ = verify_header(&header);
    }

    #[test]
    fn what_is_minted_is_what_is_read(user in 1u64.., device in 1u32.., ttl_s in 0u64..1 << 40) {
        let token = mint(SECRET, user, device, ttl_s, NOW_S);
        let expires_s = NOW_S + ttl_s;
        let claims = Keys::from_secret(SECRET).verify(&token, NOW_S).unwrap();
        prop_assert_eq!(claims, Claims { user, device, expires_s, issued_s: NOW_S });
    }
}

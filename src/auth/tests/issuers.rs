//! Tokens of issuers that sign with RSA, or publish their keys as a set.

use super::*;

/// The public half of a key made for these tests alone.
const RSA_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
    MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEApN+yl71ML+AddyOhwnyj\n\
    hIK51/r7pqw5f2BoWmqRyvdsh80dG9qKOW9Kt+/EKCl35mcuthBqk6pk85+HAbIH\n\
    eCE1Lo5Q29kbh80Aqz2HCQkqgNX047hwV1Cdqvx7NQ9+x8I0/U/58ThuTBFn7d/V\n\
    UMDpQuVOasjg1d8LUUgcxU1b504tZGGcFJ91RBKaNxcZp844xmlBCfKt8LcM3L5Y\n\
    JkdpHL003uS+SxbmwJJJ4e5NMP84omlpccc8BWdSYvQGu5EVqFsABMc/YGU4SXvd\n\
    Lry94+npSJbHVtyifmqJ1Yd7StDm/+GrovN6L5hnNhAIwWoxaYzpwaOwQjP1k1WL\n\
    1QIDAQAB\n\
    -----END PUBLIC KEY-----\n";
/// 1,024 bits.
const RSA_WEAK: &str = "-----BEGIN PUBLIC KEY-----\n\
    MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDnOaPxk7SFPIonuQMldMTW3IRo\n\
    XTWGXWVjmPVsppwO9VedB3PMZhW9oVLjHiEPeacMqiC2/jLhe2wps5xLEPNV/j9x\n\
    J/mc3GMB6btlkQqk9E+MJXKbjQUAwBmNn0DOcNsff3XFy/cY6M0PBwwMBgjXdNKl\n\
    To2rkpGlmehlblHCmwIDAQAB\n\
    -----END PUBLIC KEY-----\n";
/// The modulus of the first as a key set has it; the exponent is `AQAB`.
const RSA_MODULUS: &str = "\
    pN-yl71ML-AddyOhwnyjhIK51_r7pqw5f2BoWmqRyvdsh80dG9qKOW9Kt-_EKCl35mcuthBqk6pk85-\
    HAbIHeCE1Lo5Q29kbh80Aqz2HCQkqgNX047hwV1Cdqvx7NQ9-\
    x8I0_U_58ThuTBFn7d_VUMDpQuVOasjg1d8LUUgcxU1b504tZGGcFJ91RBKaNxcZp844xmlBCfKt8LcM3L5YJkdpHL\
    003uS-SxbmwJJJ4e5NMP84omlpccc8BWdSYvQGu5EVqFsABMc_YGU4SXvdLry94-npSJbHVtyifmqJ1Yd7StDm_-\
    GrovN6L5hnNhAIwWoxaYzpwaOwQjP1k1WL1Q";
/// Signed with it: user 7, device 3, from `NOW_S` to 1900000000, under the name `rsa`.
const RSA_TOKEN: &str = "\
    eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI3IiwiZGV2aWNlIjozLCJpYXQiO\
    jE4MDAwMDAwMDAsImV4cCI6MTkwMDAwMDAwMH0.UAo6EqYyNxuh39WuLpbFndsp9eSioprMx1ksqXnHlusLesBcIKa\
    ajWzuorV_1TXI03mN2ddQR0ItBo1qXWxgtpQcGNDkPpBsqJjDxSfSxSPCrUEcMklRQ86al9en1ffsRhQWMD2wP3xl_\
    GclY4uGB_hcA6nGrXqxXMMsXsve73mTGQRdpKTBl4bmI3cPCLDimdwGzuCFnIcU4w8F7dvbsOcoetuVTwOfZ3m5EKX\
    QSFGIkhA25-Fjo-7_nmXSiih_kAiRq5u8ysjDzhK3dfC_t3E4OmWDpXhOInbxlDU9b-\
    Al9Qxesw552dE5BdJippimf6jsjjE0mCtqLPqyk22PDg";

fn jwks(folder: &Folder, text: &str) -> Result<Keys, KeyError> {
    let settings = Settings {
        data: Some("data".into()),
        auth_jwks_file: Some(folder.file("jwks.json", text)),
        ..Settings::default()
    };
    Keys::load(&Config::from_settings(&settings).unwrap())
}

fn is_user_7(keys: &Keys) {
    let claims = Claims { user: 7, device: 3, expires_s: 1_900_000_000, issued_s: NOW_S };
    assert_eq!(keys.verify(RSA_TOKEN, NOW_S), Ok(claims));
    assert!(keys.is_slow(RSA_TOKEN));
    let (signed, _) = RSA_TOKEN.rsplit_once('.').unwrap();
    let other = format!("{signed}.{}", URL_SAFE_NO_PAD.encode([1u8; 256]));
    assert_eq!(keys.verify(&other, NOW_S), Err(TokenError::BadSignature));
    // The public key as if it were a secret: whoever knows it could sign then.
    let header = r#"{"alg":"HS256","kid":"rsa"}"#;
    let forged = token_of(header, r#"{"sub":"7","exp":1900000000}"#, RSA_PUBLIC.as_bytes());
    assert_eq!(keys.verify(&forged, NOW_S), Err(TokenError::AlgorithmNotAllowed));
}

#[test]
fn an_rsa_key_checks_its_issuers_tokens_and_nothing_else() {
    let folder = Folder::new("rsa");
    let file = folder.file("rsa.pem", RSA_PUBLIC);
    is_user_7(&load(None, vec![key_file(Some("rsa"), Algorithm::Rs256, file.clone())]).unwrap());
    let wrong = load(None, vec![key_file(None, Algorithm::EdDsa, file)]);
    assert!(matches!(wrong, Err(KeyError::NotEd25519 { .. })));
    for text in [RSA_WEAK, "", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        let file = folder.file("bad.pem", text);
        let refused = load(None, vec![key_file(None, Algorithm::Rs256, file)]);
        assert!(matches!(refused, Err(KeyError::NotRsa { .. })), "{text}");
    }
}

#[test]
fn a_key_set_gives_all_keys_it_has_for_us() {
    let folder = Folder::new("jwks");
    let rsa =
        format!(r#"{{"kty":"RSA","kid":"rsa","alg":"RS256","n":"{RSA_MODULUS}","e":"AQAB"}}"#);
    let ed = r#"{"kty":"OKP","crv":"Ed25519","kid":"ed","use":"sig",
                 "x":"yER7MxX4DSrr70aSJwBtBnMqc_Q6eu4mnO0uvWJ8oNw"}"#;
    let others = r#"{"kty":"EC","crv":"P-256","kid":"ec","x":"AA","y":"AA"},
                    {"kty":"RSA","kid":"enc","use":"enc","n":"AA","e":"AQAB"},
                    {"kty":"RSA","kid":"ps","alg":"PS256","n":"AA","e":"AQAB"},
                    {"kty":"later","kid":"new"}"#;
    let keys = jwks(&folder, &format!(r#"{{"keys":[{others},{rsa},{ed}]}}"#)).unwrap();
    assert_eq!(keys.keys.len(), 2);
    is_user_7(&keys);
    let claims = r#"{"sub":"9","exp":1900000000}"#;
    let header = r#"{"alg":"EdDSA","kid":"ed"}"#;
    assert_eq!(keys.verify(&ed_token_of(header, claims), NOW_S).unwrap().user, 9);
    let wrong = ed_token_of(r#"{"alg":"EdDSA","kid":"rsa"}"#, claims);
    assert_eq!(keys.verify(&wrong, NOW_S), Err(TokenError::AlgorithmNotAllowed));
}

#[test]
fn a_secret_in_a_key_set_has_to_be_long_and_is_never_shown() {
    let folder = Folder::new("jwks-oct");
    let secret = URL_SAFE_NO_PAD.encode(SECRET);
    let text = format!(r#"{{"keys":[{{"kty":"oct","kid":"s","k":"{secret}"}}]}}"#);
    let keys = jwks(&folder, &text).unwrap();
    let token = token_of(r#"{"alg":"HS256","kid":"s"}"#, r#"{"sub":"7","exp":1900000000}"#, SECRET);
    assert!(keys.verify(&token, NOW_S).is_ok());
    assert!(!format!("{keys:?}").contains(&secret));
    let cut = jwks(&folder, &text[..text.len() - 3]).unwrap_err().to_string();
    assert!(!cut.contains(&secret) && cut.contains("line 1"), "{cut}");
    for bad in [
        r#"{"keys":[]}"#.to_owned(),
        r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#.to_owned(),
        r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#.to_owned(),
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}"#.to_owned(),
        format!(r#"{{"keys":[{{"kty":"RSA","n":"{RSA_MODULUS}","e":"AA"}}]}}"#),
        "[]".to_owned(),
    ] {
        let refused = jwks(&folder, &bad).unwrap_err();
        assert!(matches!(refused, KeyError::NotKeySet { .. }), "{bad}: {refused}");
    }
}

#[test]
fn a_name_is_one_keys_alone_wherever_it_is_set() {
    let folder = Folder::new("jwks-twice");
    let key = format!(r#"{{"kty":"RSA","kid":"rsa","n":"{RSA_MODULUS}","e":"AQAB"}}"#);
    let twice = jwks(&folder, &format!(r#"{{"keys":[{key},{key}]}}"#));
    assert!(matches!(twice, Err(KeyError::SameName { .. })));
}

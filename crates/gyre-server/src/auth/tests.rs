use std::{sync::LazyLock, time::Duration};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    hmac, rand,
    rsa::KeySize,
    signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RsaKeyPair},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use gyre_core::ports::{Overrides, RevokedTokens};
use proptest::prelude::*;
use regex::Regex;
use serde_json::{Value, json};

use super::*;
use crate::{config::TokenOptions, secret::Secret};

mod published;

const NOW: f64 = 1_800_000_000.25;
const SECRET: &str = "secret";

/// Signs what a header and claims make up; the tests decide what is in them.
fn compact(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = sign(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn hmac_with(algorithm: hmac::Algorithm, secret: &str) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = hmac::Key::new(algorithm, secret.as_bytes());
    move |message| hmac::sign(&key, message).as_ref().to_vec()
}

fn hs256(claims: &Value) -> String {
    compact(r#"{"alg":"HS256"}"#, &claims.to_string(), hmac_with(hmac::HMAC_SHA256, SECRET))
}

fn options() -> TokenOptions {
    TokenOptions { hmac_secret_key: Secret::new(SECRET.to_owned()), ..TokenOptions::default() }
}

fn verifier() -> TokenVerifier {
    TokenVerifier::new(options()).unwrap()
}

fn connect(claims: &Value) -> Result<ConnectionClaims, TokenError> {
    verifier().connection(&hs256(claims), NOW)
}

fn subscribe(claims: &Value) -> Result<SubscriptionClaims, TokenError> {
    verifier().subscription(&hs256(claims), NOW)
}

#[track_caller]
fn assert_invalid<T: std::fmt::Debug>(result: Result<T, TokenError>, reason: &str) {
    match result {
        Err(TokenError::Invalid { reason: said }) => assert!(said.contains(reason), "{said}"),
        other => panic!("expected an invalid token ({reason}), got {other:?}"),
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

static RSA: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());

fn rsa_pem(pair: &RsaKeyPair) -> String {
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    pem("PUBLIC KEY", der.as_ref())
}

fn rsa_with(pair: &RsaKeyPair, padding: &'static dyn signature::RsaEncoding) -> impl Fn(&[u8]) -> Vec<u8> {
    move |message| {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(padding, &rand::SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }
}

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm) -> (EcdsaKeyPair, String) {
    let pair = EcdsaKeyPair::generate(algorithm).unwrap();
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let pem = pem("PUBLIC KEY", der.as_ref());
    (pair, pem)
}

/// Spec: RFC 7515 appendix A.1, the HS256 example with its key.
#[test]
fn example_of_the_rfc() {
    // A token made by others must verify: the key of the example is not text, so the key set is used directly.
    let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9\
                 leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let key = hmac::Key::new(hmac::HMAC_SHA256, &URL_SAFE_NO_PAD.decode(key).unwrap());
    let jwt = jwt::Jwt::parse(token).unwrap();
    assert_eq!(jwt.header().unwrap().alg, "HS256");
    hmac::verify(&key, jwt.signed(), jwt.signature()).unwrap();
    let claims: claims::RegisteredClaims<'_> = jwt.claims().unwrap();
    assert_eq!(claims.iss.as_deref(), Some("joe"));
}

/// Spec: centrifugal.dev, "Client JWT authentication", claims.
#[test]
fn claims_of_a_connection_token() {
    // Every claim of a full token must arrive where the core looks for it.
    let claims = connect(&json!({
        "sub": "42", "exp": NOW + 60.0, "iat": 0, "jti": "x", "info": {"name": "Ann"}, "meta": [1], "caps": "ignored",
        "subs": {
            "a": {"info": 1, "b64info": "eyJiIjoyfQ==", "data": {"d": 1}, "override": {
                "presence": {"value": true}, "join_leave": {"value": false}, "force_push_join_leave": {},
            }},
            "b": null,
        },
        "channels": ["ignored"],
    }))
    .unwrap();
    assert_eq!(&*claims.user, "42");
    assert_eq!(claims.expire_at, Some(1_800_000_060));
    assert_eq!(&claims.info.bytes()[..], br#"{"name":"Ann"}"#);
    assert_eq!(&claims.meta.bytes()[..], b"[1]");
    let [a, b] = &claims.subs[..] else { panic!("{:?}", claims.subs) };
    assert_eq!((&*a.channel, &*b.channel), ("a", "b"));
    assert_eq!(&a.grant.info.bytes()[..], br#"{"b":2}"#);
    assert_eq!(&a.grant.data.bytes()[..], br#"{"d":1}"#);
    let overrides = Overrides {
        presence: Some(true),
        join_leave: Some(false),
        force_push_join_leave: Some(false),
        ..Overrides::default()
    };
    assert_eq!(a.grant.overrides, overrides);
    assert_eq!(b.grant, Default::default());
}

#[test]
fn claims_of_a_subscription_token() {
    // Every claim of a full token must arrive where the core looks for it.
    let claims = subscribe(&json!({
        "sub": "42", "channel": "news", "client": "c1", "expire_at": 7, "exp": NOW + 60.0, "data": 1,
        "b64data": "/w==", "override": {"force_recovery": {"value": true}, "force_positioning": {"value": true}},
    }))
    .unwrap();
    assert_eq!((&*claims.user, &*claims.channel, &*claims.client), ("42", "news", "c1"));
    assert_eq!(claims.expire_at, Some(7));
    assert_eq!(&claims.grant.data.bytes()[..], [0xff]);
    assert!(claims.grant.info.is_empty());
    let overrides =
        Overrides { force_recovery: Some(true), force_positioning: Some(true), ..Overrides::default() };
    assert_eq!(claims.grant.overrides, overrides);
}

#[test]
fn channels_without_subs() {
    // A list of channels is a list of plain subscriptions; a channel named twice is one.
    for claims in [
        json!({"channels": ["b", "a", "b"]}),
        json!({"channels": ["b", "a"], "subs": {}}),
        json!({"channels": ["b", "a"], "subs": null}),
    ] {
        let claims = connect(&claims).unwrap();
        let channels: Vec<&str> = claims.subs.iter().map(|sub| &*sub.channel).collect();
        assert_eq!(channels, ["a", "b"]);
    }
}

#[test]
fn anonymous_tokens() {
    // A token without a user is anonymous, and refused where that is not allowed.
    let strict = TokenOptions { disallow_anonymous: true, ..options() };
    let strict = TokenVerifier::new(strict).unwrap();
    for claims in [json!({}), json!({"sub": ""}), json!({"sub": null})] {
        assert_eq!(&*connect(&claims).unwrap().user, "");
        let refused = strict.connection(&hs256(&claims), NOW);
        assert_eq!(refused, Err(TokenError::AnonymousNotAllowed));
    }
    assert!(strict.connection(&hs256(&json!({"sub": "u"})), NOW).is_ok());
}

#[test]
fn times() {
    // Each claims set is judged at NOW, a fraction after a full second; both ends are exclusive.
    let rows = [
        (json!({"exp": NOW - 10.0}), false),
        (json!({"exp": NOW}), false),
        (json!({"exp": NOW + 0.25}), true),
        (json!({"exp": 0}), false),
        (json!({"exp": -1}), false),
        (json!({"exp": "1800000001"}), true),
        (json!({"exp": "1799999999.5"}), false),
        (json!({"exp": null}), true),
        (json!({"nbf": NOW}), false),
        (json!({"nbf": NOW + 60.0}), false),
        (json!({"nbf": "1800000000"}), true),
        (json!({"iat": NOW + 1000.0}), true),
    ];
    for (claims, is_current) in rows {
        let result = connect(&claims).map(|_| ());
        let expected = if is_current { Ok(()) } else { Err(TokenError::Expired) };
        assert_eq!(result, expected, "{claims}");
    }
}

#[test]
fn leeway() {
    // Clocks may differ by the leeway in both directions, and no more.
    let verifier = TokenVerifier::new(TokenOptions { leeway: Duration::from_secs(5), ..options() }).unwrap();
    let outcome = |claims: Value| verifier.connection(&hs256(&claims), NOW).map(|_| ());
    assert_eq!(outcome(json!({"exp": NOW - 4.0, "nbf": NOW + 4.0})), Ok(()));
    assert_eq!(outcome(json!({"exp": NOW - 5.0})), Err(TokenError::Expired));
    assert_eq!(outcome(json!({"nbf": NOW + 5.0})), Err(TokenError::Expired));
}

#[test]
fn expiry_of_the_connection() {
    // `expire_at` replaces `exp` as the connection's expiry, also with 0, while `exp` is still judged.
    let expire_at = |claims| connect(&claims).unwrap().expire_at;
    assert_eq!(expire_at(json!({})), None);
    assert_eq!(expire_at(json!({"exp": NOW + 60.5})), Some(1_800_000_060));
    assert_eq!(expire_at(json!({"exp": NOW + 60.0, "expire_at": 0})), Some(0));
    assert_eq!(expire_at(json!({"expire_at": 5})), Some(5));
    assert_eq!(expire_at(json!({"exp": 1e300})), Some(i64::MAX));
    assert_eq!(connect(&json!({"exp": NOW - 1.0, "expire_at": 0})), Err(TokenError::Expired));
}

#[test]
fn claims_of_a_wrong_type_or_kind() {
    // One bad claim makes an otherwise valid token invalid.
    for claims in [
        json!({"sub": 42}),
        json!({"sub": ["u"]}),
        json!({"exp": "soon"}),
        json!({"exp": "inf"}),
        json!({"exp": true}),
        json!({"iat": {}}),
        json!({"aud": 1}),
        json!({"iss": 1}),
        json!({"channels": "c"}),
        json!({"channels": [1]}),
        json!({"subs": ["c"]}),
        json!({"subs": {"c": {"override": {"presence": true}}}}),
        json!({"expire_at": "5"}),
        json!({"b64info": 1}),
        json!({"channel": 1}),
        json!([]),
        json!("text"),
        json!(null),
    ] {
        assert_invalid(connect(&claims), "header or claims");
    }
    assert_invalid(connect(&json!({"sub": "u", "channel": "c"})), "subscription token");
    assert_invalid(subscribe(&json!({"sub": "u"})), "names no channel");
}

#[test]
fn bad_base64_is_reported_apart() {
    // Undecodable payloads have an outcome of their own, after expiry has been judged.
    for claims in [json!({"b64info": "!"}), json!({"subs": {"c": {"b64data": "YQ"}}})] {
        assert!(matches!(connect(&claims), Err(TokenError::Undecodable { .. })));
    }
    assert_eq!(connect(&json!({"b64info": "!", "exp": 1})), Err(TokenError::Expired));
}

/// Spec: RFC 7518 section 3.2.
#[test]
fn hmac_algorithms() {
    // All three hashes verify with the one secret, and with no other secret or hash.
    let rows = [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)];
    let verify = |name: &str, sign: &dyn Fn(&[u8]) -> Vec<u8>| {
        verifier().connection(&compact(&json!({"alg": name}).to_string(), "{}", sign), NOW)
    };
    for (name, algorithm) in rows {
        assert!(verify(name, &hmac_with(algorithm, SECRET)).is_ok());
        assert_invalid(verify(name, &hmac_with(algorithm, "other")), "does not match");
        for (other, _) in rows.iter().filter(|row| row.0 != name) {
            assert_invalid(verify(other, &hmac_with(algorithm, SECRET)), "does not match");
        }
    }
}

#[test]
fn previous_secret() {
    // The previous secret counts beside the present one until the end of its validity.
    let outcome = |valid_until, secret| {
        let options = TokenOptions {
            hmac_previous_secret_key: Secret::new("old".to_owned()),
            hmac_previous_secret_key_valid_until: valid_until,
            ..options()
        };
        let token = compact(r#"{"alg":"HS256"}"#, "{}", hmac_with(hmac::HMAC_SHA256, secret));
        TokenVerifier::new(options).unwrap().connection(&token, 1_000.0).is_ok()
    };
    assert!(outcome(0, "old"));
    assert!(outcome(1_000, "old"));
    assert!(!outcome(999, "old"));
    assert!(outcome(999, SECRET));
    assert!(!outcome(0, "older"));
}

#[test]
fn empty_secrets_are_no_keys() {
    // A secret left empty in the configuration must not become a key that anyone can sign with.
    let options = TokenOptions::default();
    assert!(options.hmac_secret_key.expose().is_empty());
    let token = compact(r#"{"alg":"HS256"}"#, "{}", hmac_with(hmac::HMAC_SHA256, ""));
    assert_invalid(TokenVerifier::new(options).unwrap().connection(&token, NOW), "no key");
}

#[test]
fn rejected_algorithms() {
    // No header may talk the verifier into another algorithm than those of its keys.
    for (header, reason) in [
        (r#"{"alg":"none"}"#, "not supported"),
        (r#"{"alg":"hs256"}"#, "not supported"),
        (r#"{"alg":"PS256"}"#, "not supported"),
        (r#"{"alg":"EdDSA"}"#, "no key"),
        (r#"{"alg":""}"#, "not supported"),
        (r#"{"alg":"RS256"}"#, "no key"),
        (r#"{"alg":"ES256"}"#, "no key"),
        (r#"{"alg":"ES512"}"#, "no key"),
        (r#"{"typ":"JWT"}"#, "missing field"),
        (r#"{"alg":1}"#, "invalid type"),
        (r#"{"alg":"HS256","alg":"none"}"#, "duplicate"),
        (r#"["HS256"]"#, "not a JSON object"),
        (r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, "crit"),
    ] {
        let token = compact(header, "{}", hmac_with(hmac::HMAC_SHA256, SECRET));
        assert_invalid(verifier().connection(&token, NOW), reason);
        let unsigned = compact(header, "{}", |_| Vec::new());
        assert_invalid(verifier().connection(&unsigned, NOW), reason);
    }
}

#[test]
fn hmac_is_never_checked_against_a_public_key() {
    // The classic confusion: HS256 with the text of the public RSA key as secret, which everyone knows.
    let public = rsa_pem(&RSA);
    let rsa_only = TokenOptions { rsa_public_key: public.clone(), ..TokenOptions::default() };
    let both = TokenOptions { rsa_public_key: public.clone(), ..options() };
    for (options, reason) in [(rsa_only, "no key"), (both, "does not match")] {
        let verifier = TokenVerifier::new(options).unwrap();
        for secret in [public.as_str(), public.trim_end()] {
            let token = compact(r#"{"alg":"HS256"}"#, "{}", hmac_with(hmac::HMAC_SHA256, secret));
            assert_invalid(verifier.connection(&token, NOW), reason);
        }
    }
}

/// Spec: RFC 7518 section 3.3.
#[test]
fn rsa_algorithms() {
    // All three hashes verify with the configured key, another key or padding does not.
    let options = TokenOptions { rsa_public_key: rsa_pem(&RSA), ..options() };
    let verifier = TokenVerifier::new(options).unwrap();
    let verify = |name: &str, sign: &dyn Fn(&[u8]) -> Vec<u8>| {
        verifier.connection(&compact(&json!({"alg": name}).to_string(), "{}", sign), NOW)
    };
    assert!(verify("RS256", &rsa_with(&RSA, &signature::RSA_PKCS1_SHA256)).is_ok());
    assert!(verify("RS384", &rsa_with(&RSA, &signature::RSA_PKCS1_SHA384)).is_ok());
    assert!(verify("RS512", &rsa_with(&RSA, &signature::RSA_PKCS1_SHA512)).is_ok());
    assert_invalid(verify("RS512", &rsa_with(&RSA, &signature::RSA_PKCS1_SHA256)), "does not match");
    assert_invalid(verify("RS256", &rsa_with(&RSA, &signature::RSA_PSS_SHA256)), "does not match");
    assert_invalid(verify("RS256", &|_| Vec::new()), "does not match");
    let other = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    assert_invalid(verify("RS256", &rsa_with(&other, &signature::RSA_PKCS1_SHA256)), "does not match");
    // HMAC goes on beside it.
    assert!(verify("HS256", &hmac_with(hmac::HMAC_SHA256, SECRET)).is_ok());
}

/// Spec: RFC 7518 section 3.4.
#[test]
fn ecdsa_algorithms_belong_to_curves() {
    // A key verifies the one algorithm of its curve, and counts as absent for the others.
    let curves = [
        ("ES256", &signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        ("ES384", &signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        ("ES512", &signature::ECDSA_P521_SHA512_FIXED_SIGNING),
    ];
    for (own, algorithm) in curves {
        let (pair, pem) = ecdsa(algorithm);
        let options = TokenOptions { ecdsa_public_key: pem, ..TokenOptions::default() };
        let verifier = TokenVerifier::new(options).unwrap();
        let sign = |message: &[u8]| pair.sign(&rand::SystemRandom::new(), message).unwrap().as_ref().to_vec();
        for (name, _) in curves {
            let token = compact(&json!({"alg": name}).to_string(), r#"{"sub":"u"}"#, sign);
            let result = verifier.connection(&token, NOW);
            if name == own {
                assert_eq!(&*result.unwrap().user, "u");
            } else {
                assert_invalid(result, "no key");
            }
        }
    }
}

#[test]
fn keys_from_certificates() {
    // A certificate stands for the key in it: the same tokens verify.
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::new(["issuer.test".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&pair).unwrap().pem();
    let options = TokenOptions { ecdsa_public_key: certificate, ..TokenOptions::default() };
    let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let signer = EcdsaKeyPair::from_pkcs8(algorithm, pair.serialized_der()).unwrap();
    let token = compact(r#"{"alg":"ES256"}"#, "{}", |message| {
        signer.sign(&rand::SystemRandom::new(), message).unwrap().as_ref().to_vec()
    });
    assert!(TokenVerifier::new(options).unwrap().connection(&token, NOW).is_ok());
}

#[test]
fn unusable_keys_are_refused_at_start() {
    // Each value is given for both kinds of keys, and must be named in the error.
    let (pair, p256) = ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING);
    let (_, secp256k1) = ecdsa(&signature::ECDSA_P256K1_SHA256_FIXED_SIGNING);
    let private = pem("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref());
    let rsa = |value: &str| {
        let options = TokenOptions { rsa_public_key: value.to_owned(), ..options() };
        TokenVerifier::new(options).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let ecdsa = |value: &str| {
        let options = TokenOptions { ecdsa_public_key: value.to_owned(), ..options() };
        TokenVerifier::new(options).err().map(|error| error.to_string()).unwrap_or_default()
    };
    for garbage in ["secret", &private, &pem("PUBLIC KEY", b"x"), &pem("CERTIFICATE", &[0x30, 0x84])] {
        assert!(rsa(garbage).starts_with("rsa_public_key: "), "{garbage}: {}", rsa(garbage));
        assert!(ecdsa(garbage).starts_with("ecdsa_public_key: "), "{garbage}: {}", ecdsa(garbage));
    }
    assert!(rsa(&p256).contains("not an RSA key"));
    assert!(ecdsa(&rsa_pem(&RSA)).contains("not an ECDSA key"));
    assert!(ecdsa(&secp256k1).contains("not an ECDSA key"));
}

#[test]
fn audience_and_issuer() {
    // Exact rules and patterns decide over claims that are right, wrong, lists or absent.
    let pattern = |text: &str| Some(Regex::new(text).unwrap());
    let outcome = |options: TokenOptions, claims: Value| {
        TokenVerifier::new(options).unwrap().connection(&hs256(&claims), NOW).map(|_| ())
    };
    for options in [
        TokenOptions { audience: "x".to_owned(), ..options() },
        TokenOptions { audience_regex: pattern("^x$"), ..options() },
    ] {
        let outcome = |claims| outcome(options.clone(), claims);
        assert_eq!(outcome(json!({"aud": "x"})), Ok(()));
        assert_eq!(outcome(json!({"aud": ["y", "x"]})), Ok(()));
        for claims in [json!({}), json!({"aud": []}), json!({"aud": "z"}), json!({"aud": ["xx", ""]})] {
            assert_invalid(outcome(claims), "another audience");
        }
    }
    for options in [
        TokenOptions { issuer: "me".to_owned(), ..options() },
        TokenOptions { issuer_regex: pattern("^me$"), ..options() },
    ] {
        let outcome = |claims| outcome(options.clone(), claims);
        assert_eq!(outcome(json!({"iss": "me"})), Ok(()));
        for claims in [json!({}), json!({"iss": "you"}), json!({"iss": ""})] {
            assert_invalid(outcome(claims), "another issuer");
        }
    }
    // Patterns are searched for, not matched as a whole.
    let options = TokenOptions { audience_regex: pattern("x"), issuer_regex: pattern("e"), ..options() };
    assert_eq!(outcome(options, json!({"aud": "axb", "iss": "me"})), Ok(()));
}

#[test]
fn user_from_another_claim() {
    // The named claim is the user, whatever its type; `sub` is ignored, though it must still be a string.
    let options = TokenOptions { user_id_claim: "uid".to_owned(), ..options() };
    let verifier = TokenVerifier::new(options).unwrap();
    let user = |claims: Value| verifier.connection(&hs256(&claims), NOW).unwrap().user;
    assert_eq!(&*user(json!({"uid": "w\"é", "sub": "u"})), "w\"é");
    assert_eq!(&*user(json!({"uid": 42})), "42");
    assert_eq!(&*user(json!({"uid": true})), "true");
    assert_eq!(&*user(json!({"uid": null, "sub": "u"})), "");
    assert_eq!(&*user(json!({"sub": "u"})), "");
    let claims = verifier.subscription(&hs256(&json!({"uid": "w", "channel": "c"})), NOW).unwrap();
    assert_eq!(&*claims.user, "w");
    assert_invalid(verifier.connection(&hs256(&json!({"uid": "w", "sub": 1})), NOW), "header or claims");
}

#[test]
fn skipping_the_signature_skips_nothing_else() {
    // With the insecure option any signature passes, while time and audience are still judged.
    let audience = "x".to_owned();
    let options = TokenOptions { skip_signature: true, audience, ..TokenOptions::default() };
    let verifier = TokenVerifier::new(options).unwrap();
    let outcome = |claims: &str| {
        verifier.connection(&compact(r#"{"alg":"none"}"#, claims, |_| Vec::new()), NOW).map(|_| ())
    };
    assert_eq!(outcome(r#"{"aud":"x"}"#), Ok(()));
    assert_eq!(outcome(r#"{"aud":"x","exp":5}"#), Err(TokenError::Expired));
    assert_invalid(outcome(r#"{"aud":"y"}"#), "another audience");
}

#[test]
fn shapes_that_are_no_tokens() {
    // Wrong part counts, padding, foreign alphabets and excessive length are refused before anything else.
    let valid = hs256(&json!({}));
    let (signed, signature) = valid.rsplit_once('.').unwrap();
    for (token, reason) in [
        (String::new(), "three parts"),
        ("hello".to_owned(), "three parts"),
        ("aaaa.bbbb".to_owned(), "three parts"),
        (signed.to_owned(), "three parts"),
        (format!("{valid}.aaaa"), "three parts"),
        ("..".to_owned(), "not a JSON object"),
        (format!("{valid}="), "base64url"),
        (format!("{valid}\n"), "base64url"),
        (format!(" {valid}"), "base64url"),
        (format!("{signed}.{}", signature.replace(['-', '_'], "+") + "+"), "base64url"),
        (format!("{valid}{}", "a".repeat(TOKEN_BYTES_MAX)), "longer than"),
    ] {
        assert_invalid(verifier().connection(&token, NOW), reason);
        assert_invalid(verifier().subscription(&token, NOW), reason);
    }
    // The longest token allowed is still read.
    let filler = "x".repeat((TOKEN_BYTES_MAX - 200) / 4 * 3);
    let longest = hs256(&json!({"sub": "u", "filler": filler}));
    assert!(longest.len() <= TOKEN_BYTES_MAX && longest.len() > TOKEN_BYTES_MAX - 300);
    assert!(verifier().connection(&longest, NOW).is_ok());
}

#[test]
fn every_tampered_byte_is_noticed() {
    // Each character of a valid token is replaced in turn: none of the results may pass.
    let token = hs256(&json!({"sub": "user", "exp": NOW + 60.0, "info": {"admin": false}}));
    assert!(verifier().connection(&token, NOW).is_ok());
    for at in 0..token.len() {
        for replacement in ['A', 'B', '_', '.', '='] {
            let mut tampered = token.clone();
            tampered.replace_range(at..=at, replacement.encode_utf8(&mut [0; 4]));
            if tampered != token {
                assert!(verifier().connection(&tampered, NOW).is_err(), "{at} {replacement}");
            }
        }
    }
}

#[test]
fn made_tokens_verify() {
    // What the token maker signs, the verifier accepts, with user, channel and expiry.
    let signer = Signer::with_secret(SECRET, None).unwrap();
    let connection = TokenRequest {
        signer: &signer,
        key_id: None,
        issuer: Some("i"),
        audience: Some("a"),
        user: "42",
        user_id_claim: Some("uid"),
        channel: None,
        issued_at: NOW as i64,
        ttl: Some(Duration::from_secs(60)),
    };
    let claims = verifier().connection(&connection.sign().unwrap(), NOW).unwrap();
    assert_eq!((&*claims.user, claims.expire_at), ("42", Some(1_800_000_060)));
    let by_claim = TokenOptions { user_id_claim: "uid".to_owned(), ..options() };
    let by_claim = TokenVerifier::new(by_claim).unwrap();
    assert_eq!(&*by_claim.connection(&connection.sign().unwrap(), NOW).unwrap().user, "42");
    let subscription = TokenRequest { channel: Some("news"), ttl: None, ..connection };
    let claims = verifier().subscription(&subscription.sign().unwrap(), NOW).unwrap();
    assert_eq!((&*claims.user, &*claims.channel, claims.expire_at), ("42", "news", None));
}

/// Spec: RFC 7518 section 3.1; RFC 8037 section 3.1.
#[test]
fn every_algorithm_is_signed_and_verified() {
    // A private key in PEM signs with each of its algorithms; the public key, configured, verifies it and nothing else.
    let private = |der: &[u8]| pem("PRIVATE KEY", der);
    let rcgen_key = |algorithm| {
        let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
        (private(pair.serialized_der()), pair.public_key_pem())
    };
    let rsa = (private(RSA.as_der().unwrap().as_ref()), rsa_pem(&RSA));
    let p256 = rcgen_key(&rcgen::PKCS_ECDSA_P256_SHA256);
    let p384 = rcgen_key(&rcgen::PKCS_ECDSA_P384_SHA384);
    let ed25519 = rcgen_key(&rcgen::PKCS_ED25519);
    let none = TokenOptions::default;
    let with_rsa = TokenOptions { rsa_public_key: rsa.1, ..none() };
    let rows = [
        (Signer::with_secret(SECRET, Some("HS256")), options()),
        (Signer::with_secret(SECRET, Some("HS384")), options()),
        (Signer::with_secret(SECRET, Some("HS512")), options()),
        (Signer::with_private_key(&rsa.0, None), with_rsa.clone()),
        (Signer::with_private_key(&rsa.0, Some("RS384")), with_rsa.clone()),
        (Signer::with_private_key(&rsa.0, Some("RS512")), with_rsa),
        (Signer::with_private_key(&p256.0, None), TokenOptions { ecdsa_public_key: p256.1, ..none() }),
        (Signer::with_private_key(&p384.0, None), TokenOptions { ecdsa_public_key: p384.1, ..none() }),
        (
            Signer::with_private_key(&ed25519.0, None),
            TokenOptions { ed25519_public_key: ed25519.1, ..none() },
        ),
    ];
    let algorithms = ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "EdDSA"];
    let rows = rows.map(|(signer, options)| (signer.unwrap(), TokenVerifier::new(options).unwrap()));
    for (i, (signer, _)) in rows.iter().enumerate() {
        assert_eq!(signer.algorithm(), algorithms[i]);
        let request = TokenRequest {
            signer,
            key_id: None,
            issuer: None,
            audience: None,
            user: "u",
            user_id_claim: None,
            channel: None,
            issued_at: 0,
            ttl: None,
        };
        let token = request.sign().unwrap();
        for (j, (_, verifier)) in rows.iter().enumerate() {
            let is_same_key = i == j || (i < 3 && j < 3) || ((3..6).contains(&i) && (3..6).contains(&j));
            assert_eq!(verifier.connection(&token, NOW).is_ok(), is_same_key, "{i} {j}");
        }
    }
    for (key, algorithm) in [(&p256.0, "ES384"), (&rsa.0, "ES256"), (&ed25519.0, "RS256"), (&rsa.0, "PS256")]
    {
        let refused = Signer::with_private_key(key, Some(algorithm)).err();
        assert_eq!(refused, Some(SignerError::OtherAlgorithm(algorithm.into())));
    }
    assert!(matches!(Signer::with_private_key("no", None), Err(SignerError::Pem(_))));
    assert!(Signer::with_secret(SECRET, Some("RS256")).is_err());
}

#[test]
fn revoked_tokens_are_refused() {
    // A revocation counts for both kinds of tokens, and outlives a reload of the keys.
    let verifiers = || Verifiers { connection: verifier(), subscription: None, track: TrackKeys::default() };
    let authenticator = TokenAuthenticator::new(verifiers());
    let connect = |claims: Value| match authenticator.connection(&hs256(&claims), NOW) {
        Answer::Ready(result) => result.map(|_| ()),
        Answer::Later(_) => panic!("local keys need no waiting"),
    };
    let subscribe = |claims: Value| match authenticator.subscription(&hs256(&claims), NOW) {
        Answer::Ready(result) => result.map(|_| ()),
        Answer::Later(_) => panic!("local keys need no waiting"),
    };
    let revoke = |tokens| {
        authenticator.revoke(Revocation { tokens, expire_at: NOW as i64 + 60 }, NOW as i64).unwrap();
    };
    assert_eq!(connect(json!({"sub": "u", "jti": "t", "iat": 5})), Ok(()));
    revoke(RevokedTokens::Id("t".into()));
    assert_invalid(connect(json!({"sub": "u", "jti": "t", "iat": 5})), "revoked");
    assert_invalid(subscribe(json!({"channel": "c", "jti": "t"})), "revoked");
    assert_eq!(connect(json!({"sub": "u", "jti": "other", "iat": 5})), Ok(()));

    let (user, channel, issued_before) = ("u".into(), "c".into(), 6);
    revoke(RevokedTokens::OfUser { user, channel, issued_before });
    assert_invalid(subscribe(json!({"sub": "u", "channel": "c", "iat": 5})), "revoked");
    assert_eq!(connect(json!({"sub": "u", "iat": 5})), Ok(()));

    authenticator.replace(verifiers());
    let (user, channel, issued_before) = ("u".into(), "".into(), 6);
    revoke(RevokedTokens::OfUser { user, channel, issued_before });
    assert_invalid(connect(json!({"sub": "u", "iat": 5.9})), "revoked");
    assert_invalid(connect(json!({"sub": "u"})), "revoked");
    assert_invalid(connect(json!({"sub": "v", "jti": "t"})), "revoked");
    assert_eq!(connect(json!({"sub": "u", "iat": 6})), Ok(()));
    assert_eq!(connect(json!({"sub": "u", "iat": 5, "exp": 1})), Err(TokenError::Expired));
}

#[test]
fn reload_replaces_keys_as_a_whole() {
    // Subscription tokens go to their own verifier if there is one, and a reload takes effect at once.
    let keyed = |secret: &str| {
        let options = TokenOptions { hmac_secret_key: Secret::new(secret.to_owned()), ..options() };
        TokenVerifier::new(options).unwrap()
    };
    let token = |secret: &str| {
        let claims = r#"{"channel":"c"}"#;
        compact(r#"{"alg":"HS256"}"#, claims, hmac_with(hmac::HMAC_SHA256, secret))
    };
    let verifiers = Verifiers { connection: keyed("one"), subscription: None, track: TrackKeys::default() };
    let authenticator = TokenAuthenticator::new(verifiers);
    let accepts = |secret: &str| match authenticator.subscription(&token(secret), NOW) {
        Answer::Ready(result) => result.is_ok(),
        Answer::Later(_) => panic!("local keys need no waiting"),
    };
    assert_eq!((accepts("one"), accepts("two")), (true, false));
    let track = TrackKeys::default();
    authenticator.replace(Verifiers { connection: keyed("one"), subscription: Some(keyed("two")), track });
    assert_eq!((accepts("one"), accepts("two")), (false, true));
    let connection = compact(r#"{"alg":"HS256"}"#, "{}", hmac_with(hmac::HMAC_SHA256, "one"));
    assert!(matches!(authenticator.connection(&connection, NOW), Answer::Ready(Ok(_))));
}

proptest! {
    /// Any text at all is refused, never a panic.
    #[test]
    fn random_text_is_refused(token in "\\PC*") {
        prop_assert!(verifier().connection(&token, NOW).is_err());
        prop_assert!(verifier().subscription(&token, NOW).is_err());
    }

    /// Any bytes as header and claims of a signed token are refused or verified, never a panic.
    #[test]
    fn random_signed_bytes_do_not_panic(header in any::<Vec<u8>>(), claims in any::<Vec<u8>>()) {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(&header), URL_SAFE_NO_PAD.encode(&claims));
        let mac = hmac_with(hmac::HMAC_SHA256, SECRET)(signed.as_bytes());
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac));
        prop_assert!(verifier().connection(&token, NOW).is_err());
    }

    /// Claims of any JSON type under the known names are refused or verified, never a panic.
    #[test]
    fn random_claims_do_not_panic(
        names in prop::collection::vec(
            prop::sample::select(vec![
                "sub", "exp", "nbf", "iat", "aud", "iss", "expire_at", "info", "b64info", "meta", "channels",
                "subs", "channel", "client", "data", "b64data", "override",
            ]),
            0..6,
        ),
        values in prop::collection::vec(
            prop::sample::select(vec![
                "null", "true", "-1", "1e308", "1e400", "99999999999999999999", "\"\"", "\"1\"", "\"\\ud800\"",
                "[]", "[1]", "[\"a\"]", "{}", "{\"a\":{\"override\":{\"presence\":{\"value\":true}}}}",
                "[[[[[[[[]]]]]]]]", "\"YQ==\"", "{\"value\":1}",
            ]),
            6,
        ),
    ) {
        let members: Vec<String> =
            names.iter().zip(&values).map(|(name, value)| format!("\"{name}\":{value}")).collect();
        let claims = format!("{{{}}}", members.join(","));
        let token = compact(r#"{"alg":"HS256"}"#, &claims, hmac_with(hmac::HMAC_SHA256, SECRET));
        for outcome in [
            verifier().connection(&token, NOW).err(),
            verifier().subscription(&token, NOW).err(),
        ].into_iter().flatten() {
            let is_known = matches!(
                outcome,
                TokenError::Expired | TokenError::Invalid { .. } | TokenError::Undecodable { .. }
            );
            prop_assert!(is_known);
        }
    }
}

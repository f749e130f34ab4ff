//! Keys that are published: what of a document counts, and how often it is asked for.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use aws_lc_rs::signature::Ed25519KeyPair;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::auth::jwk::Jwk;

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa_jwk(kid: &str) -> Value {
    // RSAPublicKey in DER: a sequence of two integers, the first of 257 bytes with a zero before it, the second of 3.
    let der = RSA.public_key().as_ref();
    let (n, e) = (&der[8..8 + 257], &der[8 + 257 + 2..]);
    json!({"kty": "RSA", "use": "sig", "kid": kid, "n": encode(n), "e": encode(e)})
}

fn ecdsa_jwk(pair: &EcdsaKeyPair, curve: &str) -> Value {
    let point = pair.public_key().as_ref();
    let (x, y) = point[1..].split_at((point.len() - 1) / 2);
    json!({"kty": "EC", "use": "sig", "kid": curve, "crv": curve, "x": encode(x), "y": encode(y)})
}

fn with(mut jwk: Value, member: &str, value: impl Into<Value>) -> Value {
    jwk[member] = value.into();
    jwk
}

fn without(mut jwk: Value, member: &str) -> Value {
    jwk.as_object_mut().unwrap().remove(member);
    jwk
}

/// An RS256 token of that issuer which names that key.
fn rs256(kid: &str, issuer: &str) -> String {
    let header = json!({"alg": "RS256", "kid": kid}).to_string();
    let claims = json!({"sub": "42", "iss": issuer}).to_string();
    compact(&header, &claims, rsa_with(&RSA, &signature::RSA_PKCS1_SHA256))
}

/// Every family of keys verifies what it signed, and nothing made with another algorithm.
///
/// Spec: RFC 7518 section 6; RFC 8037 section 2
#[test]
fn keys_of_every_family_verify() {
    let verify = |jwk: Value, algorithm: &str, signature: &[u8]| {
        let jwk: Jwk = serde_json::from_value(jwk).unwrap();
        jwk.prepare().is_some_and(|key| key.verify(algorithm, b"message", signature).is_ok())
    };
    let rsa = rsa_with(&RSA, &signature::RSA_PKCS1_SHA512)(b"message");
    assert!(verify(rsa_jwk("a"), "RS512", &rsa) && verify(with(rsa_jwk("a"), "alg", "RS512"), "RS512", &rsa));
    assert!(!verify(rsa_jwk("a"), "RS256", &rsa), "another algorithm");
    assert!(!verify(with(rsa_jwk("a"), "alg", "RS256"), "RS512", &rsa), "not what the key is for");
    assert!(!verify(rsa_jwk("a"), "HS256", &rsa) && !verify(rsa_jwk("a"), "none", b""));
    let curves: [(&'static EcdsaSigningAlgorithm, _, _); 3] = [
        (&signature::ECDSA_P256_SHA256_FIXED_SIGNING, "P-256", "ES256"),
        (&signature::ECDSA_P384_SHA384_FIXED_SIGNING, "P-384", "ES384"),
        (&signature::ECDSA_P521_SHA512_FIXED_SIGNING, "P-521", "ES512"),
    ];
    for (signing, curve, algorithm) in curves {
        let (pair, _) = ecdsa(signing);
        let signature = pair.sign(&rand::SystemRandom::new(), b"message").unwrap();
        let jwk = ecdsa_jwk(&pair, curve);
        assert!(verify(jwk.clone(), algorithm, signature.as_ref()), "{curve}");
        assert!(!verify(with(jwk.clone(), "x", ""), algorithm, signature.as_ref()), "{curve}");
        assert!(!verify(jwk, "RS256", signature.as_ref()), "{curve}");
    }
    let pair = Ed25519KeyPair::generate().unwrap();
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "x": encode(pair.public_key().as_ref())});
    assert!(verify(jwk, "EdDSA", pair.sign(b"message").as_ref()));
    for unusable in [
        with(rsa_jwk("a"), "use", "enc"),
        without(rsa_jwk("a"), "use"),
        with(rsa_jwk("a"), "n", "AQ"),
        with(rsa_jwk("a"), "kty", "oct"),
        json!({"kty": "oct", "use": "sig", "k": encode(b"secret")}),
    ] {
        assert!(!verify(unusable.clone(), "RS512", &rsa), "{unusable}");
    }
}

/// An endpoint of keys on loopback that counts how often it is asked.
struct Endpoint {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl Endpoint {
    async fn start(response: impl Fn(&str) -> String + Send + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = [0; 1024];
                let read = socket.read(&mut head).await.unwrap_or(0);
                count.fetch_add(1, SeqCst);
                let path = String::from_utf8_lossy(&head[..read]).split(' ').nth(1).unwrap_or("").to_owned();
                // One answer for each connection, so that each request is counted.
                drop(socket.write_all(response(&path).as_bytes()).await);
            }
        });
        Self { url, asked }
    }

    async fn publishing(keys: Value) -> Self {
        let body = json!({"keys": keys}).to_string();
        let length = body.len();
        Self::start(move |_| {
            format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
        })
        .await
    }

    fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }

    fn authenticator(&self, change: impl FnOnce(&mut TokenOptions)) -> TokenAuthenticator {
        // The secret must not count beside published keys.
        let mut options = TokenOptions { jwks_public_endpoint: self.url.clone(), ..options() };
        change(&mut options);
        let connection = TokenVerifier::new(options).unwrap();
        TokenAuthenticator::new(Verifiers { connection, subscription: None, track: TrackKeys::default() })
    }
}

async fn verify(authenticator: &TokenAuthenticator, token: &str) -> Result<ConnectionClaims, TokenError> {
    authenticator.connection(token, NOW).wait().await
}

/// A token's key is fetched once for all who want it at the same time, and then known at once; a key that is not there is
/// not asked for again and again; tokens that name no key, and those signed with the configured secret, never ask.
///
/// Spec: centrifugal.dev, "Client JWT authentication", JWKS
#[tokio::test]
async fn keys_are_fetched_once() {
    let endpoint =
        Endpoint::publishing(json!([7, {"kid": 1}, with(rsa_jwk("enc"), "use", "enc"), rsa_jwk("a")])).await;
    let authenticator = endpoint.authenticator(|_| {});
    assert_invalid(verify(&authenticator, &hs256(&json!({"sub": "42"}))).await, "it names no key");
    assert_eq!(endpoint.asked(), 0);
    let token = rs256("a", "i");
    let all = (0..10).map(|_| verify(&authenticator, &token));
    for claims in futures_util::future::join_all(all).await {
        assert_eq!(&*claims.unwrap().user, "42");
    }
    assert_eq!(endpoint.asked(), 1);
    assert!(matches!(authenticator.connection(&token, NOW), Answer::Ready(Ok(_))), "known at once");
    for kid in ["enc", "nosuch", "nosuch"] {
        assert_invalid(verify(&authenticator, &rs256(kid, "i")).await, "not published");
    }
    let other = hs256_with_kid("a");
    assert_invalid(verify(&authenticator, &other).await, "no key");
    assert_eq!(endpoint.asked(), 1);
}

fn hs256_with_kid(kid: &str) -> String {
    let header = json!({"alg": "HS256", "kid": kid}).to_string();
    compact(&header, r#"{"sub":"42"}"#, hmac_with(hmac::HMAC_SHA256, SECRET))
}

/// An endpoint that fails is tried twice for one token, which then counts as one that cannot be verified.
#[tokio::test]
async fn an_endpoint_that_fails_is_tried_twice() {
    let unavailable = "HTTP/1.1 503 Busy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let endpoint = Endpoint::start(|_| unavailable.to_owned()).await;
    let authenticator = endpoint.authenticator(|_| {});
    let token = rs256("a", "i");
    assert!(matches!(verify(&authenticator, &token).await, Err(TokenError::Unverifiable { .. })));
    assert_eq!(endpoint.asked(), 2);
}

/// Placeholders of the URL are what the patterns find in the claims; nothing else of a token gets into it.
#[tokio::test]
async fn urls_are_filled_from_claims() {
    let body = json!({"keys": [rsa_jwk("a")]}).to_string();
    let endpoint = Endpoint::start(move |path| match path {
        "/one/keys" => {
            let length = body.len();
            format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
        }
        _ => "HTTP/1.1 404 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_owned(),
    })
    .await;
    let authenticator = endpoint.authenticator(|options| {
        options.jwks_public_endpoint += "/{{tenant}}/keys";
        options.issuer_regex = Regex::new("^https://(?P<tenant>.+)$").ok();
    });
    assert!(verify(&authenticator, &rs256("a", "https://one")).await.is_ok());
    let other = verify(&authenticator, &rs256("a", "https://other")).await;
    assert!(matches!(other, Err(TokenError::Unverifiable { .. })), "{other:?}");
    let asked = endpoint.asked();
    for issuer in ["https://one/keys?", "https://..", "https://a/b", "https://a%2fb", "https://a#"] {
        assert_invalid(verify(&authenticator, &rs256("a", issuer)).await, "name no endpoint");
    }
    assert_invalid(verify(&authenticator, &rs256("a", "http://one")).await, "another issuer");
    assert_eq!(endpoint.asked(), asked);
}

//! Checks of a token in their order: form, patterns, signature, audience and issuer, kind, time.
//!
//! Spec: centrifugo `internal/jwtverify/token_verifier_jwt.go`

use gyre_core::ports::{ConnectionClaims, SubscriptionClaims, TokenError};

use super::{
    claims::Claims,
    jwt::Jwt,
    keys::{EcdsaKey, Hash, HmacKey, KeyError, RsaKey},
};
use crate::config::TokenOptions;

/// Verifies tokens of one kind, with keys prepared once.
#[derive(Debug)]
pub struct TokenVerifier {
    options: TokenOptions,
    hmac: Option<HmacKey>,
    previous_hmac: Option<HmacKey>,
    rsa: Option<RsaKey>,
    ecdsa: Option<EcdsaKey>,
}

fn invalid(reason: impl Into<String>) -> TokenError {
    TokenError::Invalid { reason: reason.into() }
}

impl TokenVerifier {
    /// A verifier with these options.
    ///
    /// # Errors
    /// If a public key cannot be used.
    pub fn new(options: TokenOptions) -> Result<Self, KeyError> {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let hmac = |secret: &str| given(secret).map(|secret| HmacKey::new(&secret));
        Ok(Self {
            hmac: hmac(options.hmac_secret_key.expose()),
            previous_hmac: hmac(options.hmac_previous_secret_key.expose()),
            rsa: given(&options.rsa_public_key).map(|pem| RsaKey::new(&pem)).transpose()?,
            ecdsa: given(&options.ecdsa_public_key).map(|pem| EcdsaKey::new(&pem)).transpose()?,
            options,
        })
    }

    /// Verifies a connection token.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn connection(&self, token: &str, now: f64) -> Result<ConnectionClaims, TokenError> {
        let jwt = Jwt::parse(token).map_err(invalid)?;
        let claims = self.check(&jwt, now)?;
        if claims.channel.as_deref().is_some_and(|channel| !channel.is_empty()) {
            return Err(invalid("a subscription token was used to connect"));
        }
        self.check_time(&claims, now)?;
        let user = self.user(&jwt, &claims)?;
        if user.is_empty() && self.options.disallow_anonymous {
            return Err(TokenError::AnonymousNotAllowed);
        }
        Ok(ConnectionClaims {
            user: user.into(),
            expire_at: claims.expiry(),
            info: claims.info()?,
            meta: claims.meta(),
            subs: claims.subscriptions()?,
        })
    }

    /// Verifies a subscription token.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn subscription(&self, token: &str, now: f64) -> Result<SubscriptionClaims, TokenError> {
        let jwt = Jwt::parse(token).map_err(invalid)?;
        let claims = self.check(&jwt, now)?;
        let channel = claims.channel.clone().filter(|channel| !channel.is_empty());
        let channel = channel.ok_or_else(|| invalid("a subscription token names a channel"))?;
        self.check_time(&claims, now)?;
        Ok(SubscriptionClaims {
            user: self.user(&jwt, &claims)?.into(),
            channel: channel.into(),
            client: claims.client.as_deref().unwrap_or("").into(),
            expire_at: claims.expiry(),
            grant: claims.grant()?,
        })
    }

    /// Decodes the claims and checks all but the time and the kind.
    fn check<'j>(&self, jwt: &'j Jwt<'_>, now: f64) -> Result<Claims<'j>, TokenError> {
        let claims: Claims<'j> =
            serde_json::from_slice(&jwt.claims).map_err(|error| invalid(format!("claims: {error}")))?;
        let options = &self.options;
        let issuer = claims.iss.as_deref().unwrap_or("");
        if options.issuer_regex.as_ref().is_some_and(|pattern| !pattern.is_match(issuer)) {
            return Err(invalid("the issuer does not match issuer_regex"));
        }
        if let Some(pattern) = &options.audience_regex
            && !claims.aud.iter().any(|audience| pattern.is_match(audience))
        {
            return Err(invalid("no audience matches audience_regex"));
        }
        if !options.skip_signature {
            self.check_signature(jwt, now)?;
        }
        if !options.audience.is_empty() && !claims.aud.iter().any(|audience| audience == options.audience) {
            return Err(invalid("the token is for another audience"));
        }
        if !options.issuer.is_empty() && issuer != options.issuer {
            return Err(invalid("the token is of another issuer"));
        }
        Ok(claims)
    }

    /// The algorithm decides the kind of key: a key never verifies another kind's signatures.
    fn check_signature(&self, jwt: &Jwt<'_>, now: f64) -> Result<(), TokenError> {
        let (family, hash) = match &*jwt.algorithm {
            "HS256" | "RS256" | "ES256" => (&jwt.algorithm[..2], Hash::Sha256),
            "HS384" | "RS384" | "ES384" => (&jwt.algorithm[..2], Hash::Sha384),
            "HS512" | "RS512" | "ES512" => (&jwt.algorithm[..2], Hash::Sha512),
            other => return Err(invalid(format!("the algorithm {other} is not supported"))),
        };
        let (message, signature) = (jwt.signed.as_bytes(), &*jwt.signature);
        let disabled = || invalid(format!("no key is configured for {}", jwt.algorithm));
        let is_valid = match family {
            "HS" => {
                let hmac = self.hmac.as_ref().ok_or_else(disabled)?;
                let valid_until = self.options.hmac_previous_secret_key_valid_until;
                let previous =
                    self.previous_hmac.as_ref().filter(|_| valid_until == 0 || now <= valid_until as f64);
                hmac.verify(hash, message, signature)
                    || previous.is_some_and(|previous| previous.verify(hash, message, signature))
            }
            "RS" => self.rsa.as_ref().ok_or_else(disabled)?.verify(hash, message, signature),
            _ => self.ecdsa.as_ref().ok_or_else(disabled)?.verify(hash, message, signature),
        };
        if is_valid { Ok(()) } else { Err(invalid("the signature is wrong")) }
    }

    fn check_time(&self, claims: &Claims<'_>, now: f64) -> Result<(), TokenError> {
        let leeway = self.options.leeway.as_secs_f64();
        let is_over = claims.exp.is_some_and(|exp| exp + leeway <= now.floor());
        let is_early = claims.nbf.is_some_and(|nbf| nbf - leeway > now);
        if is_over || is_early { Err(TokenError::Expired) } else { Ok(()) }
    }

    fn user(&self, jwt: &Jwt<'_>, claims: &Claims<'_>) -> Result<String, TokenError> {
        if self.options.user_id_claim.is_empty() {
            return Ok(claims.sub.clone().unwrap_or_default());
        }
        let all: serde_json::Value =
            serde_json::from_slice(&jwt.claims).map_err(|error| invalid(format!("claims: {error}")))?;
        Ok(match all.get(&self.options.user_id_claim) {
            None | Some(serde_json::Value::Null) => String::new(),
            Some(serde_json::Value::String(user)) => user.clone(),
            Some(other) => other.to_string(),
        })
    }
}

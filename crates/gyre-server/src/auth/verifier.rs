//! Verifies tokens: the options, and the one order of checks.

use std::{borrow::Cow, collections::HashMap};

use gyre_core::ports::{ConnectionClaims, SubscriptionClaims, TokenError};
use regex::Regex;
use serde_json::value::RawValue;

use super::{
    claims::{Audience, ConnectionToken, GrantClaims, RegisteredClaims, SubscriptionToken},
    jwt::Jwt,
    keys::{KeyError, KeySet, PreviousSecret, SignatureError},
};

/// How tokens are verified. The default has no key and refuses every token.
///
/// Holds secrets, therefore no `Debug`.
///
/// Spec: configuration `client.token` and `client.subscription_token`.
#[derive(Clone, Default)]
pub struct VerifierOptions {
    /// `hmac_secret_key`: for HS256, HS384 and HS512. An empty one counts as none.
    pub hmac_secret_key: Option<String>,
    /// `hmac_previous_secret_key` and its end: tried after the present one. An empty one counts as none.
    pub hmac_previous_secret_key: Option<PreviousSecret>,
    /// `rsa_public_key`: PEM public key or certificate, for RS256, RS384 and RS512.
    pub rsa_public_key: Option<String>,
    /// `ecdsa_public_key`: PEM public key or certificate, for the one of ES256, ES384 and ES512 that fits its curve.
    pub ecdsa_public_key: Option<String>,
    /// `audience` or `audience_regex`: one element of `aud` must satisfy it.
    pub audience: Option<ClaimRule>,
    /// `issuer` or `issuer_regex`.
    pub issuer: Option<ClaimRule>,
    /// `user_id_claim`: the top-level claim that holds the user instead of `sub`.
    pub user_id_claim: Option<String>,
    /// `client.insecure_skip_token_signature_verify`: believe any signature. All other checks stay.
    pub insecure_skip_signature_verify: bool,
    /// `client.disallow_anonymous_connection_tokens`: refuse connection tokens without a user.
    pub disallow_anonymous_connection_tokens: bool,
    /// Seconds by which clocks may differ when `exp` and `nbf` are judged. Default 0, as the reference has it.
    pub leeway: u32,
}

/// What a text claim must be.
#[derive(Clone, Debug)]
pub enum ClaimRule {
    /// Exactly this.
    Exact(String),
    /// Something this pattern is found in, anywhere unless it is anchored.
    Pattern(Regex),
}

/// Verifies tokens against one set of keys and rules.
pub struct TokenVerifier {
    keys: KeySet,
    audience: Option<ClaimRule>,
    issuer: Option<ClaimRule>,
    user_id_claim: Option<String>,
    skips_signature: bool,
    refuses_anonymous: bool,
    leeway: f64,
}

impl TokenVerifier {
    /// Prepares the keys.
    ///
    /// # Errors
    /// If a configured key cannot be used.
    pub fn new(options: VerifierOptions) -> Result<Self, KeyError> {
        let mut keys = KeySet::default();
        if let Some(secret) = options.hmac_secret_key.filter(|secret| !secret.is_empty()) {
            keys.add_hmac(&secret, None);
        }
        if let Some(previous) = options.hmac_previous_secret_key.filter(|key| !key.secret.is_empty()) {
            keys.add_hmac(&previous.secret, previous.valid_until);
        }
        if let Some(pem) = options.rsa_public_key {
            keys.set_rsa(&pem)?;
        }
        if let Some(pem) = options.ecdsa_public_key {
            keys.set_ecdsa(&pem)?;
        }
        Ok(Self {
            keys,
            audience: options.audience,
            issuer: options.issuer,
            user_id_claim: options.user_id_claim.filter(|claim| !claim.is_empty()),
            skips_signature: options.insecure_skip_signature_verify,
            refuses_anonymous: options.disallow_anonymous_connection_tokens,
            leeway: f64::from(options.leeway),
        })
    }

    /// Verifies a connection token. `now` is Unix time in seconds.
    ///
    /// # Errors
    /// The first check it fails.
    pub fn connection(&self, token: &str, now: f64) -> Result<ConnectionClaims, TokenError> {
        let jwt = Jwt::parse(token)?;
        let registered: RegisteredClaims<'_> = jwt.claims()?;
        let own: ConnectionToken<'_> = jwt.claims()?;
        self.check_origin(&jwt, &registered, now)?;
        if !own.channel.is_empty() {
            return Err(invalid("it is a subscription token"));
        }
        self.check_time(&registered, now)?;
        let exp = registered.exp;
        let user = self.user(&jwt, registered)?;
        if user.is_empty() && self.refuses_anonymous {
            return Err(TokenError::AnonymousNotAllowed);
        }
        own.into_claims(user, exp)
    }

    /// Verifies a subscription token. `now` is Unix time in seconds.
    ///
    /// # Errors
    /// The first check it fails.
    pub fn subscription(&self, token: &str, now: f64) -> Result<SubscriptionClaims, TokenError> {
        let jwt = Jwt::parse(token)?;
        let registered: RegisteredClaims<'_> = jwt.claims()?;
        let own: SubscriptionToken = jwt.claims()?;
        let grant: GrantClaims<'_> = jwt.claims()?;
        self.check_origin(&jwt, &registered, now)?;
        if own.channel.is_empty() {
            return Err(invalid("it names no channel"));
        }
        self.check_time(&registered, now)?;
        let exp = registered.exp;
        own.into_claims(self.user(&jwt, registered)?, exp, grant)
    }

    /// Who made the token, and for whom: patterns, signature, exact values, in this order.
    fn check_origin(
        &self,
        jwt: &Jwt<'_>,
        registered: &RegisteredClaims<'_>,
        now: f64,
    ) -> Result<(), TokenError> {
        let issuer = registered.iss.as_deref().unwrap_or("");
        if let Some(rule @ ClaimRule::Pattern(_)) = &self.issuer {
            rule.check_issuer(issuer)?;
        }
        if let Some(rule @ ClaimRule::Pattern(_)) = &self.audience {
            rule.check_audience(&registered.aud)?;
        }
        let header = jwt.header()?;
        if !self.skips_signature {
            self.keys.verify(&header.alg, jwt.signed(), jwt.signature(), now)?;
        }
        if let Some(rule @ ClaimRule::Exact(_)) = &self.audience {
            rule.check_audience(&registered.aud)?;
        }
        if let Some(rule @ ClaimRule::Exact(_)) = &self.issuer {
            rule.check_issuer(issuer)?;
        }
        Ok(())
    }

    /// Both ends are exclusive: a token that expires now has expired.
    fn check_time(&self, registered: &RegisteredClaims<'_>, now: f64) -> Result<(), TokenError> {
        let is_expired = registered.exp.is_some_and(|exp| exp.0 <= now - self.leeway);
        let is_early = registered.nbf.is_some_and(|nbf| nbf.0 >= now + self.leeway);
        if is_expired || is_early { Err(TokenError::Expired) } else { Ok(()) }
    }

    fn user(&self, jwt: &Jwt<'_>, registered: RegisteredClaims<'_>) -> Result<Box<str>, TokenError> {
        let Some(name) = &self.user_id_claim else { return Ok(registered.sub) };
        let claims: HashMap<Cow<'_, str>, &RawValue> = jwt.claims()?;
        let Some(value) = claims.get(name.as_str()) else { return Ok("".into()) };
        match value.get() {
            "null" => Ok("".into()),
            text if text.starts_with('"') => {
                serde_json::from_str(text).map_err(|error| invalid(&format!("{name}: {error}")))
            }
            // A number or anything else is the user by its text.
            text => Ok(text.into()),
        }
    }
}

impl ClaimRule {
    fn accepts(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => text == value,
            Self::Pattern(pattern) => pattern.is_match(value),
        }
    }

    fn check_issuer(&self, issuer: &str) -> Result<(), TokenError> {
        if self.accepts(issuer) { Ok(()) } else { Err(invalid("it is of another issuer")) }
    }

    fn check_audience(&self, audience: &Audience) -> Result<(), TokenError> {
        if audience.any(|audience| self.accepts(audience)) {
            return Ok(());
        }
        Err(invalid("it is for another audience"))
    }
}

impl From<SignatureError> for TokenError {
    fn from(error: SignatureError) -> Self {
        Self::Invalid { reason: error.to_string() }
    }
}

fn invalid(reason: &str) -> TokenError {
    TokenError::Invalid { reason: reason.to_owned() }
}

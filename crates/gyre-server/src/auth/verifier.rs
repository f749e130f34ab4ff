//! Verifies tokens, in the one order of checks.

use std::{borrow::Cow, collections::HashMap, sync::Arc, time::Instant};

use gyre_core::ports::{ConnectionClaims, SubscriptionClaims, TokenError};
use regex::{Captures, Regex};
use serde_json::value::RawValue;

use super::{
    claims::{Audience, ConnectionToken, GrantClaims, RegisteredClaims, SubscriptionToken},
    jwks::{Jwks, KeyName, Lookup},
    jwt::{Header, Jwt},
    keys::{KeyError, KeySet, SignatureError},
    revocation::{Revocations, TokenIdentity},
};
use crate::config::TokenOptions;

/// What a text claim must be.
enum ClaimRule {
    /// Exactly this.
    Exact(String),
    /// Something this pattern is found in, anywhere unless it is anchored.
    Pattern(Regex),
}

/// Where keys come from. Published ones are used alone: configured ones do not count beside them.
enum Keys {
    Configured(Box<KeySet>),
    Published(Box<Jwks>),
}

/// Verifies tokens against one set of keys and rules.
pub struct TokenVerifier {
    keys: Keys,
    audience: Option<ClaimRule>,
    issuer: Option<ClaimRule>,
    user_id_claim: Option<String>,
    skips_signature: bool,
    refuses_anonymous: bool,
    leeway: f64,
    revocations: Arc<Revocations>,
}

impl TokenVerifier {
    /// Prepares the keys. Without any the verifier refuses every token.
    ///
    /// # Errors
    /// If a configured key cannot be used.
    pub fn new(options: TokenOptions) -> Result<Self, KeyError> {
        Ok(Self {
            keys: match &*options.jwks_public_endpoint {
                "" => Keys::Configured(Box::new(configured(&options)?)),
                endpoint => Keys::Published(Box::new(Jwks::new(endpoint)?)),
            },
            audience: ClaimRule::new(options.audience, options.audience_regex),
            issuer: ClaimRule::new(options.issuer, options.issuer_regex),
            user_id_claim: Some(options.user_id_claim).filter(|claim| !claim.is_empty()),
            skips_signature: options.skip_signature,
            refuses_anonymous: options.disallow_anonymous,
            leeway: options.leeway.as_secs_f64(),
            revocations: Arc::default(),
        })
    }

    /// Refuses what is in there, from now on.
    pub(super) fn set_revocations(&mut self, revocations: Arc<Revocations>) {
        self.revocations = revocations;
    }

    /// True if the token can be verified only after [`Self::prepare`].
    pub fn needs_preparation(&self, token: &str) -> bool {
        self.missing_key(token).is_some()
    }

    /// Fetches the key of a token, where keys are published and it is not there yet. Then the token can be verified.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the keys as they were.
    pub async fn prepare(&self, token: &str) {
        if let Some((jwks, name)) = self.missing_key(token) {
            jwks.fetch(&name).await;
        }
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
        let user = self.user(&jwt, &registered)?;
        self.check_revocations(&registered, &user, "", now)?;
        if user.is_empty() && self.refuses_anonymous {
            return Err(TokenError::AnonymousNotAllowed);
        }
        own.into_claims(user, registered.exp)
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
        let user = self.user(&jwt, &registered)?;
        self.check_revocations(&registered, &user, &own.channel, now)?;
        own.into_claims(user, registered.exp, grant)
    }

    fn check_revocations(
        &self,
        registered: &RegisteredClaims<'_>,
        user: &str,
        channel: &str,
        now: f64,
    ) -> Result<(), TokenError> {
        let id = registered.jti.as_deref().unwrap_or("");
        let issued_at = registered.iat.map(|iat| iat.0);
        match self.revocations.contain(TokenIdentity { id, issued_at, user, channel }, now) {
            true => Err(invalid("it was revoked")),
            false => Ok(()),
        }
    }

    /// Who made the token, and for whom: patterns, signature, exact values, in this order.
    fn check_origin(
        &self,
        jwt: &Jwt<'_>,
        registered: &RegisteredClaims<'_>,
        now: f64,
    ) -> Result<(), TokenError> {
        self.check_patterns(registered)?;
        self.check_signature(jwt, registered, now)?;
        if let Some(rule @ ClaimRule::Exact(_)) = &self.audience {
            rule.check_audience(&registered.aud)?;
        }
        if let Some(rule @ ClaimRule::Exact(_)) = &self.issuer {
            rule.check_issuer(registered.iss.as_deref().unwrap_or(""))?;
        }
        Ok(())
    }

    /// The part of [`Self::check_origin`] that may say where the key is.
    fn check_patterns(&self, registered: &RegisteredClaims<'_>) -> Result<(), TokenError> {
        if let Some(rule @ ClaimRule::Pattern(_)) = &self.issuer {
            rule.check_issuer(registered.iss.as_deref().unwrap_or(""))?;
        }
        if let Some(rule @ ClaimRule::Pattern(_)) = &self.audience {
            rule.check_audience(&registered.aud)?;
        }
        Ok(())
    }

    /// The key that has to be fetched before it can be told whether the token is valid.
    fn missing_key(&self, token: &str) -> Option<(&Jwks, KeyName)> {
        let Keys::Published(jwks) = &self.keys else { return None };
        if self.skips_signature {
            return None;
        }
        let jwt = Jwt::parse(token).ok()?;
        let registered: RegisteredClaims<'_> = jwt.claims().ok()?;
        self.check_patterns(&registered).ok()?;
        let name = self.key_name(jwks, &jwt.header().ok()?, &registered).ok()?;
        jwks.is_missing(&name).then_some((jwks, name))
    }

    /// The key a token names, and where it is published: the URL may depend on what patterns find in the claims.
    fn key_name(
        &self,
        jwks: &Jwks,
        header: &Header<'_>,
        registered: &RegisteredClaims<'_>,
    ) -> Result<KeyName, TokenError> {
        let kid = header.kid.as_deref().filter(|kid| !kid.is_empty());
        let kid = kid.ok_or_else(|| invalid("it names no key (kid)"))?.into();
        let issuer = self.issuer.as_ref().and_then(|rule| rule.captures(registered.iss.as_deref()?));
        let audience = self
            .audience
            .as_ref()
            .and_then(|rule| registered.aud.iter().find_map(|audience| rule.captures(audience)));
        let value = |name: &str| {
            let found = issuer.iter().chain(&audience).find_map(|captures| captures.name(name));
            found.map(|found| found.as_str())
        };
        let url = jwks.url(value).ok_or_else(|| invalid("its claims name no endpoint of keys"))?;
        Ok(KeyName { url, kid })
    }

    fn check_signature(
        &self,
        jwt: &Jwt<'_>,
        registered: &RegisteredClaims<'_>,
        now: f64,
    ) -> Result<(), TokenError> {
        let header = jwt.header()?;
        if self.skips_signature {
            return Ok(());
        }
        let jwks = match &self.keys {
            Keys::Configured(keys) => {
                return Ok(keys.verify(&header.alg, jwt.signed(), jwt.signature(), now)?);
            }
            Keys::Published(jwks) => jwks,
        };
        match jwks.find(&self.key_name(jwks, &header, registered)?, Instant::now()) {
            Lookup::Found(key) => Ok(key.verify(&header.alg, jwt.signed(), jwt.signature())?),
            Lookup::Unknown => Err(invalid("its key is not published")),
            Lookup::Unavailable | Lookup::Missing => {
                Err(TokenError::Unverifiable { reason: "the published keys are not available".into() })
            }
        }
    }

    /// Both ends are exclusive: a token that expires now has expired.
    fn check_time(&self, registered: &RegisteredClaims<'_>, now: f64) -> Result<(), TokenError> {
        let is_expired = registered.exp.is_some_and(|exp| exp.0 <= now - self.leeway);
        let is_early = registered.nbf.is_some_and(|nbf| nbf.0 >= now + self.leeway);
        if is_expired || is_early { Err(TokenError::Expired) } else { Ok(()) }
    }

    fn user(&self, jwt: &Jwt<'_>, registered: &RegisteredClaims<'_>) -> Result<Box<str>, TokenError> {
        let Some(name) = &self.user_id_claim else { return Ok(registered.sub.clone()) };
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

/// The keys of a configuration.
fn configured(options: &TokenOptions) -> Result<KeySet, KeyError> {
    let mut keys = KeySet::default();
    // An empty secret is no secret: anybody could sign with it.
    let valid_until = Some(options.hmac_previous_secret_key_valid_until).filter(|&until| until != 0);
    let secrets = [(&options.hmac_secret_key, None), (&options.hmac_previous_secret_key, valid_until)];
    for (secret, valid_until) in secrets.iter().filter(|(secret, _)| !secret.expose().is_empty()) {
        keys.add_hmac(secret.expose(), *valid_until);
    }
    if !options.rsa_public_key.is_empty() {
        keys.set_rsa(&options.rsa_public_key)?;
    }
    if !options.ecdsa_public_key.is_empty() {
        keys.set_ecdsa(&options.ecdsa_public_key)?;
    }
    if !options.ed25519_public_key.is_empty() {
        keys.set_ed25519(&options.ed25519_public_key)?;
    }
    Ok(keys)
}

impl ClaimRule {
    /// The configuration allows only one of the two.
    fn new(exact: String, pattern: Option<Regex>) -> Option<Self> {
        let exact = Some(exact).filter(|text| !text.is_empty()).map(Self::Exact);
        pattern.map(Self::Pattern).or(exact)
    }

    fn accepts(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => text == value,
            Self::Pattern(pattern) => pattern.is_match(value),
        }
    }

    /// What the groups of a pattern find.
    fn captures<'v>(&self, value: &'v str) -> Option<Captures<'v>> {
        match self {
            Self::Exact(_) => None,
            Self::Pattern(pattern) => pattern.captures(value),
        }
    }

    fn check_issuer(&self, issuer: &str) -> Result<(), TokenError> {
        if self.accepts(issuer) { Ok(()) } else { Err(invalid("it is of another issuer")) }
    }

    fn check_audience(&self, audience: &Audience) -> Result<(), TokenError> {
        if audience.iter().any(|audience| self.accepts(audience)) {
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

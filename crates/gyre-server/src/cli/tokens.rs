//! Making and checking tokens.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Args;

use crate::{
    auth::{Signer, TokenRequest, TokenVerifier},
    config::{Resolved, TokenOptions, duration},
};

/// What `gentoken` and `gensubtoken` have in common.
#[derive(Debug, Args)]
pub(super) struct Subject {
    /// User id; empty for an anonymous user
    #[arg(short, long, default_value = "")]
    user: String,
    /// Seconds until it expires; -1 for never
    #[arg(short, long, default_value_t = 604_800, allow_negative_numbers = true)]
    ttl: i64,
    /// Print the token only
    #[arg(short, long)]
    quiet: bool,
    /// Sign with this private key (PEM) instead of the configured secret
    #[arg(short = 'k', long, value_name = "FILE")]
    private_key: Option<PathBuf>,
    /// HS256, HS384, HS512, RS256, RS384, RS512, ES256, ES384, ES512 or EdDSA; unless given, what fits the key
    #[arg(short, long)]
    algorithm: Option<String>,
    /// Name of the key in the header, as published keys need it
    #[arg(long)]
    kid: Option<String>,
}

/// Makes a token; one for a subscription if it is given a channel. Returns what is printed.
///
/// # Errors
/// If the configuration has no HMAC key, or the arguments make no sense.
pub(super) fn generate(
    resolved: &Resolved,
    subject: &Subject,
    channel: Option<&str>,
) -> Result<String, String> {
    let options = match channel {
        Some("") => return Err("a subscription token needs a channel".into()),
        Some(_) => subscription_options(resolved),
        None => &resolved.connection_token,
    };
    let signer = signer(options, subject)?;
    let ttl = match subject.ttl {
        -1 => None,
        seconds => Some(u64::try_from(seconds).map_err(|_| "a ttl is -1 or a number of seconds")?),
    };
    let request = request(options, &signer, &subject.user, channel, ttl.map(Duration::from_secs));
    let token = TokenRequest { key_id: subject.kid.as_deref(), ..request }.sign();
    let token = token.map_err(|error| error.to_string())?;
    if subject.quiet {
        return Ok(token);
    }
    let user = match &*subject.user {
        "" => "anonymous user".to_owned(),
        user => format!("user \"{user}\""),
    };
    let channel = channel.map(|channel| format!(" and channel \"{channel}\"")).unwrap_or_default();
    let expiry = match ttl {
        None => "without expiration".to_owned(),
        Some(seconds) => format!("with expiration TTL {}", duration::format(Duration::from_secs(seconds))),
    };
    let kind = match signer.algorithm() {
        "HS256" => "HMAC SHA-256",
        algorithm => algorithm,
    };
    Ok(format!("{kind} JWT for {user}{channel} {expiry}:\n{token}\n"))
}

/// What signs: a private key, or the secret of the configuration.
fn signer(options: &TokenOptions, subject: &Subject) -> Result<Signer, String> {
    let algorithm = subject.algorithm.as_deref();
    let signer = match &subject.private_key {
        Some(file) => {
            let pem =
                std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
            Signer::with_private_key(&pem, algorithm)
        }
        None if options.hmac_secret_key.expose().is_empty() => {
            return Err("no hmac_secret_key is configured: name a private key with --private-key".into());
        }
        None => Signer::with_secret(options.hmac_secret_key.expose(), algorithm),
    };
    signer.map_err(|error| error.to_string())
}

/// Makes a token for a user, and a channel if it is for a subscription.
///
/// # Errors
/// If the configuration has no HMAC key.
pub(super) fn sign(
    options: &TokenOptions,
    user: &str,
    channel: Option<&str>,
    ttl: Option<Duration>,
) -> Result<String, String> {
    let secret = options.hmac_secret_key.expose();
    if secret.is_empty() {
        return Err("no hmac_secret_key is configured to sign tokens with".into());
    }
    let signer = Signer::with_secret(secret, None).map_err(|error| error.to_string())?;
    request(options, &signer, user, channel, ttl).sign().map_err(|error| error.to_string())
}

/// A token that passes the rules of the configuration.
fn request<'a>(
    options: &'a TokenOptions,
    signer: &'a Signer,
    user: &'a str,
    channel: Option<&'a str>,
    ttl: Option<Duration>,
) -> TokenRequest<'a> {
    let given = |text: &'a String| Some(&**text).filter(|text| !text.is_empty());
    TokenRequest {
        signer,
        key_id: None,
        issuer: given(&options.issuer),
        audience: given(&options.audience),
        user,
        user_id_claim: given(&options.user_id_claim),
        channel,
        issued_at: now().as_secs().cast_signed(),
        ttl,
    }
}

/// Checks a connection token. Returns what is printed.
///
/// # Errors
/// Why it is not valid.
pub(super) fn check_connection(resolved: &Resolved, token: &str) -> Result<String, String> {
    let verifier = verifier(&resolved.connection_token, token)?;
    let claims = verifier.connection(token, now().as_secs_f64()).map_err(|error| refusal(token, &error))?;
    let user = match &*claims.user {
        "" => "anonymous user".to_owned(),
        user => format!("user {user}"),
    };
    Ok(format!("valid token for {user}\npayload: {}\n", payload(token)))
}

/// Checks a subscription token. Returns what is printed.
///
/// # Errors
/// Why it is not valid.
pub(super) fn check_subscription(resolved: &Resolved, token: &str) -> Result<String, String> {
    let verifier = verifier(subscription_options(resolved), token)?;
    let claims = verifier.subscription(token, now().as_secs_f64()).map_err(|error| refusal(token, &error))?;
    let user = match &*claims.user {
        "" => "anonymous user".to_owned(),
        user => format!("user \"{user}\""),
    };
    let (channel, payload) = (&claims.channel, payload(token));
    Ok(format!("valid subscription token for {user} and channel \"{channel}\"\npayload: {payload}\n"))
}

fn subscription_options(resolved: &Resolved) -> &TokenOptions {
    resolved.subscription_token.as_ref().unwrap_or(&resolved.connection_token)
}

/// A verifier that has fetched the token's key, where keys are published.
fn verifier(options: &TokenOptions, token: &str) -> Result<TokenVerifier, String> {
    let verifier = TokenVerifier::new(options.clone()).map_err(|error| error.to_string())?;
    if verifier.needs_preparation(token) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| error.to_string())?.block_on(verifier.prepare(token));
    }
    Ok(verifier)
}

/// Names what the token says of itself beside the cause: most often it is the wrong one.
fn refusal(token: &str, error: &dyn std::error::Error) -> String {
    let header = token.split('.').next().and_then(decode).unwrap_or_else(|| "unreadable".into());
    format!("invalid token: {error}\nheader: {header}\npayload: {}", payload(token))
}

fn payload(token: &str) -> String {
    token.split('.').nth(1).and_then(decode).unwrap_or_else(|| "unreadable".into())
}

fn decode(part: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{Environment, Sources, load};

    fn resolved(client: serde_json::Value) -> Resolved {
        let sources = Sources {
            environment: Environment::new([]),
            defaults_below: json!({"client": client}),
            ..Sources::default()
        };
        load(&sources).unwrap().resolved
    }

    fn subject(user: &str, ttl: i64) -> Subject {
        Subject { user: user.into(), ttl, quiet: true, private_key: None, algorithm: None, kid: None }
    }

    /// A token made is a token that passes, for what it was made for and nothing else; without a key, or without a channel
    /// where one is needed, none is made.
    #[test]
    fn tokens_made_are_valid() {
        let resolved_with_key = resolved(json!({"token": {"hmac_secret_key": "k", "user_id_claim": "id"}}));
        let token = generate(&resolved_with_key, &subject("42", 60), None).unwrap();
        let printed = check_connection(&resolved_with_key, &token).unwrap();
        assert!(printed.starts_with("valid token for user 42\npayload: {"), "{printed}");
        assert!(printed.contains(r#""id":"42""#) && printed.contains(r#""exp":"#), "{printed}");
        assert!(check_subscription(&resolved_with_key, &token).unwrap_err().contains("payload: {"));

        let token = generate(&resolved_with_key, &subject("", -1), Some("news")).unwrap();
        let printed = check_subscription(&resolved_with_key, &token).unwrap();
        let expected = "valid subscription token for anonymous user and channel \"news\"\n";
        assert!(printed.starts_with(expected) && !printed.contains("exp"), "{printed}");

        let loud = Subject { quiet: false, ..subject("42", 604_800) };
        let printed = generate(&resolved_with_key, &loud, None).unwrap();
        let expected = "HMAC SHA-256 JWT for user \"42\" with expiration TTL 168h0m0s:\n";
        assert!(printed.starts_with(expected), "{printed}");

        assert!(generate(&resolved_with_key, &subject("42", 60), Some("")).is_err());
        assert!(generate(&resolved_with_key, &subject("42", -2), None).is_err());
        assert!(generate(&resolved(json!({})), &subject("42", 60), None).is_err());
    }

    /// Subscription tokens have keys of their own where that is configured.
    #[test]
    fn subscription_tokens_may_have_their_own_key() {
        let own = json!({
            "token": {"hmac_secret_key": "k"},
            "subscription_token": {"enabled": true, "hmac_secret_key": "other"},
        });
        let own = resolved(own);
        let token = generate(&own, &subject("42", 60), Some("news")).unwrap();
        assert!(check_subscription(&own, &token).is_ok());
        let shared = resolved(json!({"token": {"hmac_secret_key": "k"}}));
        assert!(check_subscription(&shared, &token).is_err());
    }
}

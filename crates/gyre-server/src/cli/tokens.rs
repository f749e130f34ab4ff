//! Making and checking tokens.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Args;

use crate::{
    auth::{TokenRequest, TokenVerifier},
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
    let ttl = match subject.ttl {
        -1 => None,
        seconds => Some(u64::try_from(seconds).map_err(|_| "a ttl is -1 or a number of seconds")?),
    };
    let token = sign(options, &subject.user, channel, ttl.map(Duration::from_secs))?;
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
    Ok(format!("HMAC SHA-256 JWT for {user}{channel} {expiry}:\n{token}\n"))
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
        return Err("no hmac_secret_key is configured, and only HMAC tokens can be made here".into());
    }
    let user_id_claim = Some(&*options.user_id_claim);
    let issued_at = now().as_secs().cast_signed();
    Ok(TokenRequest { secret, user, user_id_claim, channel, issued_at, ttl }.sign())
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
        Subject { user: user.into(), ttl, quiet: true }
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

//! Public keys that tokens are verified with: those that are none are told with the other problems, not at the start.

use super::{Resolved, TokenOptions, read::Findings};
use crate::auth::TokenVerifier;

pub(super) fn check(resolved: &Resolved, findings: &mut Findings) {
    let sections = [
        ("client.token", Some(&resolved.connection_token)),
        ("client.subscription_token", resolved.subscription_token.as_ref()),
    ];
    for (path, options) in sections {
        let Some(options) = options else { continue };
        let mut told: Vec<String> = Vec::new();
        let none = String::new;
        // Each key alone, so that a bad one does not hide another.
        let alone = [
            TokenOptions { ecdsa_public_key: none(), ed25519_public_key: none(), ..options.clone() },
            TokenOptions { rsa_public_key: none(), ed25519_public_key: none(), ..options.clone() },
            TokenOptions { rsa_public_key: none(), ecdsa_public_key: none(), ..options.clone() },
        ];
        for options in alone {
            let Err(error) = TokenVerifier::new(options) else { continue };
            let error = error.to_string();
            if told.contains(&error) {
                continue;
            }
            let (key, message) = error.split_once(": ").unwrap_or(("", &error));
            findings.problem(
                &format!("{path}.{key}"),
                message,
                "give the PEM text of a public key or certificate",
            );
            told.push(error);
        }
    }
}

//! Writing configurations: a minimal one with fresh secrets, and whole ones.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::config::Format;

/// Bytes of randomness in keys and in the admin password.
const KEY_BYTES: usize = 64;
const PASSWORD_BYTES: usize = 16;

/// A minimal configuration: nobody gets in without a token, and every secret is new.
///
/// # Errors
/// If the system has no randomness.
pub(super) fn minimal() -> Result<Value, String> {
    Ok(json!({
        "client": {
            "token": {"hmac_secret_key": random_text::<KEY_BYTES>()?},
            "allowed_origins": [],
        },
        "admin": {
            "enabled": false,
            "password": random_text::<PASSWORD_BYTES>()?,
            "secret": random_text::<KEY_BYTES>()?,
        },
        "http_api": {"key": random_text::<KEY_BYTES>()?},
    }))
}

fn random_text<const BYTES: usize>() -> Result<String, String> {
    let mut bytes = [0; BYTES];
    rand::fill(&mut bytes).map_err(|_| "the system gives no random bytes")?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The format of a file by its name.
///
/// # Errors
/// If the extension is none of a configuration.
pub(super) fn format_of(path: &Path) -> Result<Format, String> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
    Format::of_extension(extension)
        .ok_or_else(|| format!("{}: the name must end in .json, .yaml, .yml or .toml", path.display()))
}

/// Writes a new file that only its owner may read.
///
/// # Errors
/// If it exists already, or cannot be written.
pub(super) fn write_new(path: &Path, tree: &Value) -> Result<(), String> {
    let text = format_of(path)?.write(tree)?;
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => format!("{} exists already", path.display()),
        _ => format!("cannot write {}: {error}", path.display()),
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::config::{Environment, Sources, load};

    /// What is written can be loaded, is readable for its owner only, has new secrets every time, and never replaces a
    /// file.
    #[test]
    fn a_minimal_configuration_is_written_once() {
        let folder = std::env::temp_dir().join(format!("gyre-generate-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut secrets = Vec::new();
        for name in ["config.json", "config.yaml", "config.toml"] {
            let path = folder.join(name);
            write_new(&path, &minimal().unwrap()).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            let refused = write_new(&path, &minimal().unwrap()).unwrap_err();
            assert!(refused.contains("exists already"), "{refused}");
            let environment = Environment::new([]);
            let loaded = load(&Sources { file: Some(path), environment, ..Sources::default() }).unwrap();
            secrets.push(loaded.resolved.connection_token.hmac_secret_key.expose().clone());
        }
        secrets.sort();
        secrets.dedup();
        assert_eq!(secrets.len(), 3);
        assert!(format_of(&folder.join("config.txt")).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}

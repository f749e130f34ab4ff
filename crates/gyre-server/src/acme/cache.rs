//! What is kept over restarts: certificates with their keys, and the account with the authority.
//!
//! A certificate is in the file of its name, its key before its chain: what Centrifugo keeps in its cache is taken over.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
};

use instant_acme::AccountCredentials;
use serde::{Deserialize, Serialize};

use super::order::Obtained;
use crate::secret::Secret;

/// Has no name of a host.
const ACCOUNT_FILE: &str = "gyre_account+key";

/// A folder nobody else may read.
#[derive(Debug)]
pub(super) struct Cache(PathBuf);

#[derive(Serialize, Deserialize)]
struct StoredAccount<T> {
    directory: String,
    credentials: T,
}

impl Cache {
    /// Makes the folder if need be, and tries to write there.
    ///
    /// # Errors
    /// If that is not possible.
    pub(super) fn open(folder: &str) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let cache = Self(folder.into());
        let probe = cache.0.join(".gyre-probe");
        cache.write(&probe, b"")?;
        fs::remove_file(probe)?;
        Ok(cache)
    }

    /// What is kept for a name; nothing if there is none, or none that can be read.
    pub(super) fn load(&self, name: &str) -> Option<Obtained> {
        let text = fs::read_to_string(self.0.join(name)).ok()?;
        let begin = text.find("-----BEGIN CERTIFICATE")?;
        let (key, chain) = text.split_at(begin);
        Some(Obtained { chain: chain.into(), key: Secret::new(key.into()) })
    }

    /// Keeps a certificate.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn save(&self, name: &str, obtained: &Obtained) -> io::Result<()> {
        self.replace(name, format!("{}{}", obtained.key.expose(), obtained.chain).as_bytes())
    }

    /// The account with that authority.
    pub(super) fn load_account(&self, directory: &str) -> Option<AccountCredentials> {
        let text = fs::read(self.0.join(ACCOUNT_FILE)).ok()?;
        let stored: StoredAccount<AccountCredentials> = serde_json::from_slice(&text).ok()?;
        (stored.directory == directory).then_some(stored.credentials)
    }

    /// Keeps the account.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn save_account(&self, directory: &str, credentials: &AccountCredentials) -> io::Result<()> {
        let stored = StoredAccount { directory: directory.to_owned(), credentials };
        self.replace(ACCOUNT_FILE, &serde_json::to_vec(&stored)?)
    }

    /// Whole or not at all.
    fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let (target, draft) = (self.0.join(name), self.0.join(format!(".{name}.new")));
        self.write(&draft, content)?;
        fs::rename(draft, target)
    }

    fn write(&self, path: &PathBuf, content: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(content)?;
        file.sync_all()
    }
}

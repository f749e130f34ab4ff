//! The state folder of development mode: what a restart must find again.
//!
//! Nothing in it is precious. A file that cannot be read is replaced, a folder that cannot be written is stood in for
//! by a temporary one; both are said in a [`StateWarning`] and neither keeps the server from starting.

use std::{
    env, fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Longest state file that is read, in bytes; a longer one counts as damaged.
const FILE_BYTES_MAX: u64 = 64 * 1024;

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Where the state folder may be. The environment comes in here and nowhere else.
#[derive(Clone, Debug)]
pub struct StateLocations {
    /// `$XDG_STATE_HOME`; counts only if absolute.
    pub state_home: Option<PathBuf>,
    /// `$HOME`; counts only if absolute.
    pub home: Option<PathBuf>,
    /// Folder for temporary files.
    pub temporary: PathBuf,
}

/// A folder that only this user can look into.
#[derive(Clone, Debug)]
pub struct StateFolder {
    path: PathBuf,
}

/// Something the user should know; the server goes on.
#[derive(Debug, thiserror::Error)]
pub enum StateWarning {
    /// The state folder cannot be used.
    #[error("the state folder cannot be used ({reason}); certificate and secrets are in {} and end with it", folder.display())]
    Temporary {
        /// Why.
        reason: io::Error,
        /// The temporary folder used instead.
        folder: PathBuf,
    },
    /// A file was damaged and is replaced; what it held is gone.
    #[error("{} was not usable and is replaced: {reason}", file.display())]
    Replaced {
        /// The file.
        file: PathBuf,
        /// What was wrong with it.
        reason: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file cannot be written; what it should hold ends with the process.
    #[error("{} cannot be written: {reason}", file.display())]
    NotSaved {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: io::Error,
    },
}

/// Secrets made once and kept. Holds them in the clear, therefore no `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// Key of the HTTP API.
    #[serde(default = "random_secret")]
    pub api_key: String,
    /// HMAC secret of tokens.
    #[serde(default = "random_secret")]
    pub token_secret: String,
}

impl StateLocations {
    /// The locations that the environment of this process names.
    pub fn of_process() -> Self {
        let path = |name| env::var_os(name).map(PathBuf::from);
        Self { state_home: path("XDG_STATE_HOME"), home: path("HOME"), temporary: env::temp_dir() }
    }

    /// Spec: XDG Base Directory Specification, `$XDG_STATE_HOME`.
    fn folder(&self) -> Option<PathBuf> {
        let absolute = |path: &Option<PathBuf>| path.clone().filter(|path| path.is_absolute());
        let home = absolute(&self.home).map(|home| home.join(".local/state"));
        absolute(&self.state_home).or(home).map(|state| state.join("gyre"))
    }
}

impl StateFolder {
    /// Opens the state folder, or a temporary one with a warning if that one cannot be used.
    ///
    /// # Errors
    /// If not even a temporary folder can be made.
    pub fn open(locations: &StateLocations, warnings: &mut Vec<StateWarning>) -> io::Result<Self> {
        let path = locations.folder().ok_or_else(|| io::Error::other("no home folder is known"));
        match path.and_then(Self::make_private) {
            Ok(folder) => Ok(folder),
            Err(reason) => {
                let path = locations.temporary.join(format!("gyre-{}", random_secret()));
                fs::DirBuilder::new().mode(FOLDER_MODE).create(&path)?;
                warnings.push(StateWarning::Temporary { reason, folder: path.clone() });
                Ok(Self { path })
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn make_private(path: PathBuf) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&path)?;
        if fs::metadata(&path)?.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(&path, fs::Permissions::from_mode(FOLDER_MODE))?;
        }
        let folder = Self { path };
        // The only reliable question whether it can be written is to write.
        let probe = folder.write_temporary(b"")?;
        fs::remove_file(probe)?;
        Ok(folder)
    }

    /// The content of a file; `None`, with a warning if there is one that cannot be used.
    pub(super) fn load<T: DeserializeOwned>(
        &self,
        name: &str,
        warnings: &mut Vec<StateWarning>,
    ) -> Option<T> {
        let file = self.path.join(name);
        let reason: Box<dyn std::error::Error + Send + Sync> = match read_limited(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => error.into(),
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(value) => return Some(value),
                Err(error) => error.into(),
            },
        };
        warnings.push(StateWarning::Replaced { file, reason });
        None
    }

    /// Writes a file, as a whole or not at all; a failure is a warning.
    pub(super) fn save<T: Serialize>(&self, name: &str, value: &T, warnings: &mut Vec<StateWarning>) {
        let file = self.path.join(name);
        let saved = serde_json::to_vec_pretty(value).map_err(io::Error::from).and_then(|bytes| {
            let temporary = self.write_temporary(&bytes)?;
            fs::rename(&temporary, &file).inspect_err(|_| {
                // The rename's error is the one to report; a leftover is harmless.
                drop(fs::remove_file(&temporary));
            })
        });
        if let Err(reason) = saved {
            warnings.push(StateWarning::NotSaved { file, reason });
        }
    }

    /// Writes a new file that only this user can read, under a name that is not taken.
    fn write_temporary(&self, bytes: &[u8]) -> io::Result<PathBuf> {
        let path = self.path.join(format!(".{}", random_secret()));
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        written.map(|()| path.clone()).inspect_err(|_| {
            // The write's error is the one to report; a leftover is harmless.
            drop(fs::remove_file(&path));
        })
    }
}

impl Secrets {
    const FILE: &'static str = "secrets.json";

    /// The secrets of earlier starts; new ones where there are none.
    pub fn load_or_create(folder: &StateFolder, warnings: &mut Vec<StateWarning>) -> Self {
        // An empty object stands for a missing file: each secret that is absent makes itself.
        let stored: serde_json::Map<_, _> = folder.load(Self::FILE, warnings).unwrap_or_default();
        let secrets = serde_json::from_value(stored.clone().into()).ok().filter(Self::are_usable);
        let secrets = secrets.unwrap_or_else(|| {
            if !stored.is_empty() {
                let file = folder.path.join(Self::FILE);
                warnings.push(StateWarning::Replaced { file, reason: "it holds no usable secrets".into() });
            }
            Self { api_key: random_secret(), token_secret: random_secret() }
        });
        if serde_json::to_value(&secrets).ok() != Some(stored.into()) {
            folder.save(Self::FILE, &secrets, warnings);
        }
        secrets
    }

    /// An empty secret would let everybody in.
    fn are_usable(&self) -> bool {
        !self.api_key.is_empty() && !self.token_secret.is_empty()
    }
}

/// 128 random bits as text.
fn random_secret() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn read_limited(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too long"));
    }
    Ok(bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use std::ops::Deref;

    use super::*;

    /// A state folder of its own for each test, removed at the end.
    pub(in super::super) struct TestFolder {
        root: PathBuf,
        folder: StateFolder,
    }

    impl TestFolder {
        pub(in super::super) fn new() -> Self {
            let root = env::temp_dir().join(format!("gyre-test-{}", random_secret()));
            let folder = StateFolder::make_private(root.join("deep/state/gyre")).unwrap();
            Self { root, folder }
        }

        fn locations(&self) -> StateLocations {
            let temporary = self.root.clone();
            StateLocations { state_home: None, home: Some(self.root.join("home")), temporary }
        }
    }

    impl Deref for TestFolder {
        type Target = StateFolder;

        fn deref(&self) -> &StateFolder {
            &self.folder
        }
    }

    impl Drop for TestFolder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.root).unwrap();
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn folder_of_the_environment() {
        // Each environment names a folder, or none; relative values do not count.
        let folder = |state_home: Option<&str>, home: Option<&str>| {
            let path = |text: Option<&str>| text.map(PathBuf::from);
            let locations =
                StateLocations { state_home: path(state_home), home: path(home), temporary: PathBuf::new() };
            locations.folder()
        };
        assert_eq!(folder(Some("/s"), Some("/h")), Some("/s/gyre".into()));
        assert_eq!(folder(None, Some("/h")), Some("/h/.local/state/gyre".into()));
        assert_eq!(folder(Some("relative"), Some("/h")), Some("/h/.local/state/gyre".into()));
        assert_eq!(folder(Some(""), Some("")), None);
    }

    #[test]
    fn folder_is_private() {
        // A fresh folder and one left open to others both end up closed to others, and reopening finds the same.
        let test = TestFolder::new();
        let mut warnings = Vec::new();
        let folder = StateFolder::open(&test.locations(), &mut warnings).unwrap();
        assert_eq!(folder.path(), test.root.join("home/.local/state/gyre"));
        assert_eq!(mode(folder.path()), 0o700);
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let again = StateFolder::open(&test.locations(), &mut warnings).unwrap();
        assert_eq!(again.path(), folder.path());
        assert_eq!(mode(folder.path()), 0o700);
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn temporary_folder_instead() {
        // Where the state folder cannot be (a file is in its place, or no home is known) a temporary one is made.
        let test = TestFolder::new();
        fs::create_dir_all(test.root.join("home/.local/state")).unwrap();
        fs::write(test.root.join("home/.local/state/gyre"), "").unwrap();
        let homeless = StateLocations { home: None, ..test.locations() };
        for locations in [test.locations(), homeless] {
            let mut warnings = Vec::new();
            let folder = StateFolder::open(&locations, &mut warnings).unwrap();
            assert!(folder.path().starts_with(&test.root), "{folder:?}");
            assert_eq!(mode(folder.path()), 0o700);
            assert!(matches!(&warnings[..], [StateWarning::Temporary { .. }]), "{warnings:?}");
            let secrets = Secrets::load_or_create(&folder, &mut warnings);
            assert!(secrets == Secrets::load_or_create(&folder, &mut warnings));
        }
        let nowhere = StateLocations { home: None, ..test.locations() };
        let nowhere = StateLocations { temporary: test.root.join("absent"), ..nowhere };
        assert!(StateFolder::open(&nowhere, &mut Vec::new()).is_err());
    }

    #[test]
    fn secrets_are_kept() {
        // The second start must find what the first one made, in a file nobody else can read.
        let test = TestFolder::new();
        let mut warnings = Vec::new();
        let first = Secrets::load_or_create(&test, &mut warnings);
        let second = Secrets::load_or_create(&test, &mut warnings);
        assert!(first == second && first.api_key != first.token_secret && first.api_key.len() == 32);
        assert_eq!(mode(&test.path().join(Secrets::FILE)), 0o600);
        assert_eq!(fs::read_dir(test.path()).unwrap().count(), 1, "no temporary file may stay");
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn missing_secrets_are_added() {
        // A file of an older version keeps its secret and gets the other one, for good.
        let test = TestFolder::new();
        fs::write(test.path().join(Secrets::FILE), r#"{"api_key":"kept"}"#).unwrap();
        let mut warnings = Vec::new();
        let first = Secrets::load_or_create(&test, &mut warnings);
        assert_eq!(first.api_key, "kept");
        assert!(first == Secrets::load_or_create(&test, &mut warnings));
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn damaged_secrets_are_replaced() {
        // Whatever the file holds, the start goes on with a warning, and the next one finds the new secrets.
        let long = vec![b' '; FILE_BYTES_MAX as usize + 1];
        let contents: [&[u8]; 7] =
            [b"", b"{", b"\xff", b"[]", br#"{"api_key":1}"#, br#"{"api_key":"","token_secret":"x"}"#, &long];
        for content in contents {
            let test = TestFolder::new();
            fs::write(test.path().join(Secrets::FILE), content).unwrap();
            let mut warnings = Vec::new();
            let first = Secrets::load_or_create(&test, &mut warnings);
            assert!(matches!(&warnings[..], [StateWarning::Replaced { .. }]), "{warnings:?}");
            assert!(!first.api_key.is_empty());
            assert!(first == Secrets::load_or_create(&test, &mut warnings));
            assert_eq!(warnings.len(), 1);
        }
    }

    #[test]
    fn unwritable_files_are_a_warning() {
        // A folder in the place of the file can be neither read nor replaced: the secrets last for this start.
        let test = TestFolder::new();
        fs::create_dir_all(test.path().join(Secrets::FILE).join("x")).unwrap();
        let mut warnings = Vec::new();
        let secrets = Secrets::load_or_create(&test, &mut warnings);
        assert!(!secrets.token_secret.is_empty());
        assert!(
            matches!(&warnings[..], [StateWarning::Replaced { .. }, StateWarning::NotSaved { .. }]),
            "{warnings:?}"
        );
        assert_eq!(fs::read_dir(test.path()).unwrap().count(), 1, "no temporary file may stay");
    }
}

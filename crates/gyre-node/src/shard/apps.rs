//! What clients call themselves, kept once for all connections of a shard that say the same.

use std::sync::Arc;

/// Different ones that are shared at a time. One more takes the place of the oldest, whose connections keep it.
const APPS_MAX: usize = 32;
/// Bytes of a name or version that are kept.
const TEXT_BYTES_MAX: usize = 128;

/// Name and version of a client, as its connect said them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct App {
    pub(crate) name: Box<str>,
    pub(crate) version: Box<str>,
}

/// The ones that are shared.
#[derive(Debug, Default)]
pub(crate) struct Apps {
    known: Vec<Arc<App>>,
    oldest: usize,
}

impl Apps {
    /// The one that says this; `None` for nothing. Long texts are cut.
    pub(crate) fn share(&mut self, name: &str, version: &str) -> Option<Arc<App>> {
        if name.is_empty() && version.is_empty() {
            return None;
        }
        let (name, version) = (cut(name), cut(version));
        if let Some(app) = self.known.iter().find(|app| *app.name == *name && *app.version == *version) {
            return Some(app.clone());
        }
        let app = Arc::new(App { name: name.into(), version: version.into() });
        if self.known.len() < APPS_MAX {
            self.known.push(app.clone());
        } else {
            self.known[self.oldest] = app.clone();
            self.oldest = (self.oldest + 1) % APPS_MAX;
        }
        Some(app)
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Equal ones are one, the table is bounded whatever clients say, and long texts are cut between characters.
    #[test]
    fn equal_apps_are_shared() {
        let mut apps = Apps::default();
        assert_eq!(apps.share("", ""), None);
        let first = apps.share("js", "1").unwrap();
        assert!(Arc::ptr_eq(&first, &apps.share("js", "1").unwrap()));
        for i in 0..100 {
            assert_eq!(*apps.share("js", &i.to_string()).unwrap().version, *i.to_string());
        }
        assert_eq!(apps.known.len(), APPS_MAX);
        assert_eq!(apps.share(&"\u{e4}".repeat(100), "").unwrap().name.len(), TEXT_BYTES_MAX);
        assert_eq!(
            apps.share(&format!("a{}", "\u{e4}".repeat(100)), "").unwrap().name.len(),
            TEXT_BYTES_MAX - 1
        );
    }
}

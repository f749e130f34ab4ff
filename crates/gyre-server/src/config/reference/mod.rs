//! The reference of all keys, made from the table: for a terminal, as Markdown (`docs/configuration.md`), as a page, and
//! as a JSON schema for editors.

mod html;
mod json_schema;
mod markdown;
mod terminal;

use super::{
    difference::needs_restart,
    env::PREFIXES,
    schema::{Key, Kind, ROOT, SHAPES, Shape},
};

pub use html::page;
pub use json_schema::json_schema;
pub use markdown::markdown;
pub use terminal::terminal;

/// One object of keys.
struct Block {
    /// Dotted path; `[]` behind a list. The title of a shape that several objects have.
    path: String,
    /// How deep it is: 0 at the top.
    depth: usize,
    about: &'static str,
    rows: Vec<Row>,
    /// The shape whose keys it has besides its own.
    shape: Option<&'static Shape>,
    /// Start of the names of environment variables; `None` for a shape.
    prefix: Option<String>,
}

/// One key that is no object.
struct Row {
    path: String,
    key: &'static Key,
}

/// All blocks whose path begins with `section`; of what several objects have alike, the keys are told once.
fn blocks(section: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let top = Block {
        path: String::new(),
        depth: 0,
        about: "Keys at the top of the file.",
        rows: rows(ROOT, "", section),
        shape: None,
        prefix: Some(PREFIXES[1].into()),
    };
    blocks.extend((!top.rows.is_empty()).then_some(top));
    let is_whole = section.is_empty();
    add_objects(ROOT, &Place { path: "", depth: 0, section, prefix: PREFIXES[1], is_whole }, &mut blocks);
    if is_whole {
        for shape in SHAPES {
            blocks.push(Block {
                path: shape.title.into(),
                depth: 0,
                about: shape.about,
                rows: rows(shape.keys, "", ""),
                shape: None,
                prefix: None,
            });
            let place = Place { path: shape.title, depth: 0, section: "", prefix: "", is_whole };
            let first = blocks.len();
            add_objects(shape.keys, &place, &mut blocks);
            blocks[first..].iter_mut().for_each(|block| block.prefix = None);
        }
    }
    blocks
}

/// Where the objects of a table are.
struct Place<'a> {
    path: &'a str,
    depth: usize,
    section: &'a str,
    prefix: &'a str,
    /// Everything is told, so that shapes are told once.
    is_whole: bool,
}

fn add_objects(keys: &'static [Key], place: &Place<'_>, blocks: &mut Vec<Block>) {
    for key in keys.iter().filter(|key| !key.keys().is_empty()) {
        let path = join(place.path, key.name);
        let shape = SHAPES.iter().filter(|_| place.is_whole).find(|shape| shape.is_in(key.keys()));
        let own = |key: &Key| shape.is_none_or(|shape| !shape.has(key));
        let mut rows = rows(key.keys(), &path, place.section);
        rows.retain(|row| own(row.key));
        let (shown, prefix) = match key.kind {
            Kind::Objects(keys) if keys.iter().any(|key| key.name == "name") => {
                (format!("{path}[]"), format!("{}{}_<NAME>_", place.prefix, key.name.to_uppercase()))
            }
            Kind::Objects(_) => (format!("{path}[]"), String::new()),
            _ => (path.clone(), format!("{}{}_", place.prefix, key.name.to_uppercase())),
        };
        if is_in_section(&path, place.section) || !rows.is_empty() {
            blocks.push(Block {
                path: shown,
                depth: place.depth,
                about: key.about,
                rows,
                shape,
                prefix: Some(prefix.clone()),
            });
        }
        let inner = Place { path: &path, depth: place.depth + 1, prefix: &prefix, ..*place };
        let first = blocks.len();
        add_objects(key.keys(), &inner, blocks);
        if let Some(shape) = shape {
            let is_of_shape = |block: &Block| {
                let name =
                    block.path.strip_prefix(&*path).and_then(|rest| rest.strip_prefix('.')).unwrap_or("");
                let name = name.split(['.', '[']).next().unwrap_or("");
                shape.keys.iter().any(|key| key.name == name)
            };
            let own: Vec<_> = blocks.drain(first..).filter(|block| !is_of_shape(block)).collect();
            blocks.extend(own);
        }
    }
}

/// The keys of a table that are no objects and belong to the section.
fn rows(keys: &'static [Key], path: &str, section: &str) -> Vec<Row> {
    let rows = keys.iter().filter(|key| key.keys().is_empty());
    let rows = rows.map(|key| Row { path: join(path, key.name), key });
    rows.filter(|row| is_in_section(&row.path, section)).collect()
}

fn is_in_section(path: &str, section: &str) -> bool {
    let rest = path.strip_prefix(section.trim_end_matches('.'));
    section.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}

impl Row {
    fn kind(&self) -> &'static str {
        match self.key.kind {
            Kind::Bool => "bool",
            Kind::Int => "int",
            Kind::Text => "text",
            Kind::Duration => "duration",
            Kind::List => "list",
            Kind::Map => "map",
            Kind::Pem => "PEM",
            Kind::Object(_) | Kind::Objects(_) => "object",
        }
    }

    /// The default as a file would have it; empty if it is nothing.
    fn default(&self) -> String {
        match (self.key.kind, self.key.default) {
            (Kind::Bool, "") => "false".into(),
            (Kind::Int, "") => "0".into(),
            (Kind::Duration, "") => "0s".into(),
            (Kind::List, "") | (Kind::Map, _) => String::new(),
            (Kind::List, items) => {
                let items: Vec<_> = items.split_whitespace().map(|item| format!("\"{item}\"")).collect();
                format!("[{}]", items.join(", "))
            }
            (Kind::Text | Kind::Pem, "") => String::new(),
            (Kind::Text | Kind::Pem | Kind::Duration, text) => format!("\"{text}\""),
            (_, plain) => plain.into(),
        }
    }

    /// What there is to say of the key, in Markdown.
    fn about(&self) -> String {
        let mut about = self.key.about.to_owned();
        let choices: Vec<_> = self.key.choices.iter().filter(|choice| !choice.is_empty()).collect();
        if !choices.is_empty() && choices.iter().any(|choice| !about.contains(&format!("`{choice}`"))) {
            let choices: Vec<_> = choices.iter().map(|choice| format!("`{choice}`")).collect();
            about += &format!(" One of {}.", choices.join(", "));
        }
        if self.key.is_secret {
            about += &format!(" *Secret: `{}_file` reads it from a file.*", self.key.name);
        }
        about
    }
}

impl Block {
    /// What a reload does with its keys, in Markdown; nothing for a shape.
    fn reload(&self) -> Option<String> {
        self.prefix.as_ref()?;
        let (late, early): (Vec<_>, Vec<_>) = self.rows.iter().partition(|row| needs_restart(&row.path));
        let names = |rows: &[&Row]| {
            rows.iter().map(|row| format!("`{}`", row.key.name)).collect::<Vec<_>>().join(", ")
        };
        Some(match (&*late, &*early) {
            ([], []) if self.shape.is_some() && !needs_restart(&self.path) => {
                "A reload takes them over.".into()
            }
            ([], []) if self.shape.is_some() => "They count from the next start on.".into(),
            ([], []) => return None,
            (_, []) => "Changes count from the next start on.".into(),
            ([], _) => "A reload takes changes over.".into(),
            (late, early) if late.len() <= early.len() => {
                format!(
                    "A reload takes changes over, but those of {} count from the next start on.",
                    names(late)
                )
            }
            (_, early) => {
                format!(
                    "Changes count from the next start on, but a reload takes over those of {}.",
                    names(early)
                )
            }
        })
    }

    /// The environment variables of its keys, in Markdown.
    fn variables(&self) -> Option<String> {
        match self.prefix.as_deref()? {
            "" => Some("In the environment only as part of its list, as JSON.".into()),
            _ if self.rows.is_empty() && self.shape.is_none() => None,
            prefix => Some(format!("Environment: `{prefix}` and the key in capitals.")),
        }
    }
}

#[cfg(test)]
mod tests;

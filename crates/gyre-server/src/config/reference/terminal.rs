//! The reference as plain text: each key by its whole path.

use super::{Block, PREFIXES, Place, ROOT, Row, add_objects, rows};

/// Columns of a terminal that text is wrapped at.
const WIDTH: usize = 100;

/// The keys whose path begins with `section`, all of them if it is empty.
pub fn terminal(section: &str) -> String {
    let mut blocks: Vec<Block> = Vec::new();
    let place = Place { path: "", depth: 0, section, prefix: PREFIXES[1], is_whole: false };
    add_objects(ROOT, &place, &mut blocks);
    let mut text = String::new();
    for row in rows(ROOT, "", section) {
        write(&row, PREFIXES[1], &mut text);
    }
    for block in blocks {
        for row in &block.rows {
            write(row, block.prefix.as_deref().unwrap_or(""), &mut text);
        }
    }
    text
}

fn write(row: &Row, prefix: &str, text: &mut String) {
    let default = match row.default() {
        default if default.is_empty() => String::new(),
        default => format!(", default {default}"),
    };
    text.push_str(&format!("{}  ({}{default})\n", row.path, row.kind()));
    let about = row.about().replace(['`', '*'], "");
    let mut line = String::from("   ");
    for word in about.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = String::from("   ");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
    if !prefix.is_empty() {
        text.push_str(&format!("    {prefix}{}\n", row.key.name.to_uppercase()));
    }
    text.push('\n');
}

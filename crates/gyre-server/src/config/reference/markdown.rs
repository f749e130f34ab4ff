//! The reference as Markdown: a heading for each object, a table of its keys.

use super::{Block, blocks};

/// The keys whose path begins with `section`, all of them if it is empty; headings begin at `level`, 1 to 6.
pub fn markdown(section: &str, level: usize) -> String {
    let mut text = String::new();
    for block in blocks(section) {
        write(&block, level, &mut text);
    }
    text
}

fn write(block: &Block, level: usize, text: &mut String) {
    let marks = "#".repeat((level + block.depth).clamp(1, 6));
    let title = match (&*block.path, &block.prefix) {
        ("", _) => "At the top".to_owned(),
        (path, _) => format!("`{path}`"),
    };
    let mut paragraph = |line: &str| {
        text.push_str(line);
        text.push_str("\n\n");
    };
    paragraph(&format!("{marks} {title}"));
    paragraph(block.about);
    let notes: Vec<_> = [block.variables(), block.reload()].into_iter().flatten().collect();
    if let Some(shape) = block.shape {
        let and = if block.rows.is_empty() { "The keys" } else { "The keys below, and those" };
        paragraph(&format!("{and} of [{}](#{}).", shape.title, anchor(shape.title)));
    }
    if !notes.is_empty() {
        paragraph(&notes.join(" "));
    }
    if block.rows.is_empty() {
        return;
    }
    text.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
    for row in &block.rows {
        let default = match row.default() {
            default if default.is_empty() => String::new(),
            default => format!("`{default}`"),
        };
        let (about, kind) = (row.about().replace('|', "\\|"), row.kind());
        text.push_str(&format!("| `{}` | {kind} | {default} | {about} |\n", row.key.name));
    }
    text.push('\n');
}

/// Where a heading is found.
fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '_' | '-'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

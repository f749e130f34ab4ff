//! The reference as one page that needs nothing else.

use super::{Block, blocks};

const HEAD: &str = include_str!("page.html");

/// The page of the keys whose path begins with `section`, all of them if it is empty.
pub fn page(section: &str) -> String {
    let blocks = blocks(section);
    let contents: String = blocks.iter().filter(|block| block.depth == 0).map(link).collect();
    let body: String = blocks.iter().map(block).collect();
    HEAD.replace("<!--contents-->", &contents).replace("<!--keys-->", &body)
}

fn link(block: &Block) -> String {
    let title = escaped(title(block));
    format!("<a href=\"#{title}\">{title}</a>\n")
}

fn title(block: &Block) -> &str {
    if block.path.is_empty() { "top" } else { &block.path }
}

fn block(block: &Block) -> String {
    let (title, level) = (escaped(title(block)), (block.depth + 2).min(6));
    let mut html =
        format!("<section>\n<h{level} id=\"{title}\">{title}</h{level}>\n<p>{}</p>\n", inline(block.about));
    if let Some(shape) = block.shape {
        let shape = escaped(shape.title);
        html += &format!("<p>Has the keys of <a href=\"#{shape}\">{shape}</a>.</p>\n");
    }
    for note in [block.variables(), block.reload()].into_iter().flatten() {
        html += &format!("<p class=\"note\">{}</p>\n", inline(&note));
    }
    if !block.rows.is_empty() {
        html += "<table><tr><th>key<th>type<th>default<th>meaning</tr>\n";
        for row in &block.rows {
            let (path, name) = (escaped(&row.path), escaped(row.key.name));
            let (kind, default) = (row.kind(), escaped(&row.default()));
            html += &format!(
                "<tr data-key=\"{path}\"><td><code>{name}</code><td>{kind}<td><code>{default}</code><td>{}</tr>\n",
                inline(&row.about())
            );
        }
        html += "</table>\n";
    }
    html + "</section>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Code and emphasis of Markdown within a line.
fn inline(text: &str) -> String {
    let parts = text.split('`').enumerate().map(|(i, part)| match i % 2 {
        1 => format!("<code>{}</code>", escaped(part)),
        _ => escaped(part),
    });
    let html: String = parts.collect();
    let parts = html.split("*Secret").collect::<Vec<_>>();
    match &*parts {
        [before, after] => format!("{before}<em>Secret{}</em>", after.trim_end_matches('*')),
        _ => html,
    }
}

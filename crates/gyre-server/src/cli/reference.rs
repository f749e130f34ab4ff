//! `configdoc`: the reference of all keys, printed or as a page in the browser.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    time::Duration,
};

use clap::{Args, ValueEnum};

use crate::config::reference;

/// Bytes of a request that are looked at; what it asks for does not matter.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// Time a browser has to send its request, and to take the page.
const BROWSER_TIMEOUT: Duration = Duration::from_secs(5);

/// What is to be told of which keys, and how.
#[derive(Debug, Args)]
pub(super) struct Reference {
    /// Print in this form instead of serving a page
    #[arg(short, long, value_enum)]
    format: Option<Form>,
    /// The same as --format markdown
    #[arg(short, long, conflicts_with = "format")]
    markdown: bool,
    /// Keys that begin with this path only, such as client.token
    #[arg(short, long, default_value = "", value_name = "PATH")]
    section: String,
    /// Port of the page on localhost
    #[arg(short, long, default_value_t = 6060)]
    port: u16,
    /// Level of the first headings of Markdown
    #[arg(short = 'l', long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=6))]
    base_level: u8,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// Plain text
    Terminal,
    /// Markdown
    Markdown,
    /// A page
    Html,
    /// A JSON schema for editors, of all keys
    JsonSchema,
}

/// Prints or serves the reference.
///
/// # Errors
/// If there are no such keys, or the page cannot be served.
pub(super) fn tell(asked: &Reference) -> Result<String, String> {
    let section = &*asked.section;
    let form = if asked.markdown { Some(Form::Markdown) } else { asked.format };
    if reference::terminal(section).is_empty() {
        return Err(format!("there is no key whose path begins with {section}"));
    }
    match form {
        Some(Form::Terminal) => Ok(reference::terminal(section)),
        Some(Form::Markdown) => Ok(reference::markdown(section, asked.base_level.into())),
        Some(Form::Html) => Ok(reference::page(section)),
        Some(Form::JsonSchema) => serde_json::to_string_pretty(&reference::json_schema())
            .map(|schema| schema + "\n")
            .map_err(|error| error.to_string()),
        None => serve(asked.port, &reference::page(section)),
    }
}

/// Serves the page until the process is ended.
fn serve(port: u16, page: &str) -> Result<String, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .map_err(|error| format!("cannot listen on port {port}: {error}"))?;
    println!("The reference is at http://localhost:{port} (Ctrl+C ends this)");
    for browser in listener.incoming() {
        // Who does not wait for the answer needs none.
        drop(browser.and_then(|browser| answer(browser, page)));
    }
    Ok(String::new())
}

fn answer(mut browser: TcpStream, page: &str) -> io::Result<()> {
    browser.set_read_timeout(Some(BROWSER_TIMEOUT))?;
    browser.set_write_timeout(Some(BROWSER_TIMEOUT))?;
    let (mut request, mut read) = ([0; REQUEST_BYTES_MAX], 0);
    while !request[..read].windows(4).any(|end| end == b"\r\n\r\n") {
        match browser.read(&mut request[read..])? {
            0 => return Ok(()),
            count => read += count,
        }
    }
    let length = page.len();
    write!(
        browser,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    browser.write_all(page.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A browser that sends its request in two pieces gets the whole page.
    #[test]
    fn the_page_is_served() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || answer(listener.accept().unwrap().0, "<p>page"));
        let mut browser = TcpStream::connect(address).unwrap();
        browser.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").unwrap();
        browser.write_all(b"\r\n").unwrap();
        let mut response = String::new();
        browser.read_to_string(&mut response).unwrap();
        assert!(
            response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with("\r\n\r\n<p>page"),
            "{response}"
        );
        server.join().unwrap().unwrap();
    }

    /// A path that begins no key is an error, not an empty page.
    #[test]
    fn unknown_sections_are_refused() {
        let asked = |section: &str| Reference {
            format: Some(Form::Terminal),
            markdown: false,
            section: section.into(),
            port: 0,
            base_level: 2,
        };
        assert!(tell(&asked("client.tokens")).is_err());
        let text = tell(&asked("client.token.hmac_secret_key")).unwrap();
        assert!(text.contains("GYRE_CLIENT_TOKEN_HMAC_SECRET_KEY\n") && !text.contains("previous"), "{text}");
    }
}

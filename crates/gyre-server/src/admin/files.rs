//! What is at the prefix itself and below it: the way to our web interface or, instead, the files of another one.

use std::{path::PathBuf, time::Duration};

use ::http::{HeaderValue, Method, StatusCode, header};
use bytes::Bytes;
use gyre_transport::http::{Request, Response, full, status};
use percent_encoding::percent_decode_str;

use super::AdminOptions;
use crate::hooks::{CallError, HttpClient, system_client};

/// Bytes of a file at most.
const FILE_BYTES_MAX: u64 = 32 << 20;
/// How long another web interface may take for an answer.
const PROXY_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the files come from.
pub(super) enum Files {
    /// Ours, at `/admin/`.
    Own,
    /// `admin.web_path`.
    Folder(PathBuf),
    /// `admin.web_proxy_address`.
    Proxy {
        /// Without a slash at the end.
        address: Box<str>,
        client: Box<HttpClient>,
    },
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Own => "Own",
            Self::Folder(_) => "Folder",
            Self::Proxy { .. } => "Proxy",
        })
    }
}

impl Files {
    pub(super) fn new(options: &AdminOptions) -> Self {
        let address = options.web_proxy_address.trim_end_matches('/');
        if !address.is_empty() {
            match system_client() {
                Ok(client) => return Self::Proxy { address: address.into(), client: client.into() },
                Err(error) => tracing::error!(%error, "admin.web_proxy_address cannot be used"),
            }
        }
        match &*options.web_path {
            "" => Self::Own,
            folder => Self::Folder(folder.into()),
        }
    }

    /// Answers a request for a path below the prefix; `None` if it names nothing.
    pub(super) async fn answer(&self, path: &str, request: &Request) -> Option<Response> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        match self {
            Self::Own => show_the_way(path, request.uri().path()),
            Self::Folder(folder) => {
                let file = file_in(folder, path)?;
                // Files of the operator's own, looked at rarely: the control runtime's threads for waiting do it.
                let read = tokio::task::spawn_blocking(move || read(file)).await;
                Some(file_response(path, read.ok()??))
            }
            Self::Proxy { address, client } => {
                let query = request.uri().query().map_or(String::new(), |query| format!("?{query}"));
                let path = if path.is_empty() { "/" } else { path };
                let url = format!("{address}{path}{query}").parse().ok()?;
                match client.get(url, PROXY_TIMEOUT, FILE_BYTES_MAX as usize).await {
                    Ok(body) => Some(file_response(path, body)),
                    Err(CallError::Status(code)) => Some(status(code, "")),
                    Err(error) => {
                        tracing::warn!(%error, "admin.web_proxy_address did not answer");
                        Some(status(StatusCode::BAD_GATEWAY, "the web interface did not answer\n"))
                    }
                }
            }
        }
    }
}

/// To `admin/`, by a relative reference, so that it works behind a proxy that changes paths as well.
///
/// Spec: RFC 9110 section 10.2.2
fn show_the_way(path: &str, whole_path: &str) -> Option<Response> {
    let last = whole_path.rsplit('/').next().unwrap_or("");
    let location = match path {
        "/" => "admin/".to_owned(),
        "" | "/admin" => match path {
            "/admin" => "admin/".to_owned(),
            _ => format!("{last}/admin/"),
        },
        _ => return None,
    };
    let mut response = status(StatusCode::TEMPORARY_REDIRECT, "");
    response.headers_mut().insert(header::LOCATION, HeaderValue::try_from(location).ok()?);
    Some(response)
}

/// The file a path names; never one outside of the folder.
fn file_in(folder: &std::path::Path, path: &str) -> Option<PathBuf> {
    let path = percent_decode_str(path).decode_utf8().ok()?;
    let mut file = folder.to_owned();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        let is_plain = !name.starts_with('.') && !name.contains(['\\', '\0', ':']);
        file.push(is_plain.then_some(name)?);
    }
    Some(file)
}

fn read(file: PathBuf) -> Option<Bytes> {
    let file = if file.is_dir() { file.join("index.html") } else { file };
    let length = file.metadata().ok().filter(|metadata| metadata.is_file())?.len();
    if length > FILE_BYTES_MAX {
        tracing::warn!(length, "a file below admin.web_path is too long");
        return None;
    }
    std::fs::read(file).ok().map(Bytes::from)
}

fn file_response(path: &str, body: Bytes) -> Response {
    let mut response = Response::new(full(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(path)));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// By the end of the name; one without is a page.
fn content_type(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or("");
    match name.rsplit_once('.').map(|(_, end)| end) {
        None | Some("html" | "htm") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("woff") => "font/woff",
        Some("txt") => "text/plain; charset=utf-8",
        Some("wasm") => "application/wasm",
        Some(_) => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No path leads out of the folder, however it is written.
    #[test]
    fn files_stay_in_their_folder() {
        let folder = std::path::Path::new("/srv/web");
        assert_eq!(file_in(folder, "/"), Some("/srv/web".into()));
        assert_eq!(file_in(folder, "/a/b.js"), Some("/srv/web/a/b.js".into()));
        let outside =
            ["/../x", "/%2e%2e/x", "/a/..%2fx", "/.git/config", "/a\\..\\x", "/%00", "/c:/x", "/%2e%2e%2fx"];
        for path in outside {
            assert_eq!(file_in(folder, path), None, "{path}");
        }
    }

    /// The way leads to the interface from the prefix with and without a slash, and from nowhere else.
    #[test]
    fn the_way_is_shown_from_the_prefix() {
        let way = |path, whole| {
            let response = show_the_way(path, whole)?;
            Some(response.headers()[header::LOCATION].to_str().unwrap().to_owned())
        };
        assert_eq!(way("/", "/").as_deref(), Some("admin/"));
        assert_eq!(way("/", "/ops/").as_deref(), Some("admin/"));
        assert_eq!(way("", "/ops").as_deref(), Some("ops/admin/"));
        assert_eq!(way("/admin", "/ops/admin").as_deref(), Some("admin/"));
        assert_eq!(way("/other", "/ops/other"), None);
    }
}

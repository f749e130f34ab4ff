//! The web interface: documents, scripts and style sheet of our own, part of the program. It asks nobody but this server,
//! and nothing in it needs a build.

use std::sync::LazyLock;

use ::http::{HeaderValue, Method, StatusCode, header};
use bytes::Bytes;
use gyre_transport::http::{Request, Response, full, status};

/// A file of the web interface.
#[derive(Debug, PartialEq, Eq)]
pub struct Asset {
    /// Its name below `/admin/`; that of the page itself is empty.
    name: &'static str,
    content_type: &'static str,
    body: &'static str,
}

/// Nothing from elsewhere, no script or style in the document, no frame around it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! script {
    ($name:literal) => {
        Asset { name: $name, content_type: SCRIPT, body: include_str!($name) }
    };
}

static ASSETS: [Asset; 14] = [
    Asset { name: "", content_type: "text/html; charset=utf-8", body: include_str!("index.html") },
    Asset { name: "style.css", content_type: "text/css; charset=utf-8", body: include_str!("style.css") },
    script!("theme.js"),
    script!("app.js"),
    script!("server.js"),
    script!("dom.js"),
    script!("chart.js"),
    script!("feed.js"),
    script!("overview.js"),
    script!("channels.js"),
    script!("connections.js"),
    script!("actions.js"),
    script!("transports.js"),
    script!("configuration.js"),
];

/// Changes with any of the files.
static VERSION: LazyLock<HeaderValue> = LazyLock::new(|| {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    ASSETS.iter().for_each(|asset| context.update(asset.body.as_bytes()));
    let digest = context.finish();
    let tag: String = digest.as_ref().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::try_from(format!("\"{tag}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
});

/// The file of that name.
pub(super) fn asset(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

/// A file, or that a cache has it already.
pub(super) fn answer(asset: &Asset, request: &Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return status(StatusCode::METHOD_NOT_ALLOWED, "");
    }
    let is_known = request.headers().get(header::IF_NONE_MATCH).is_some_and(|tag| *tag == *VERSION);
    let mut response = Response::new(full(Bytes::from_static(asset.body.as_bytes())));
    if is_known {
        *response.body_mut() = full("");
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    headers.insert(header::ETAG, VERSION.clone());
    // Kept, but asked about each time: files of two versions must not meet.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let policy = HeaderValue::from_static(CONTENT_SECURITY_POLICY);
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever a file imports or the page refers to is a file of the interface, by a relative name, so that it works below
    /// any prefix; and nothing names another host.
    #[test]
    fn is_complete_and_self_contained() {
        for asset in &ASSETS {
            assert!(!asset.body.is_empty(), "{}", asset.name);
            for quoted in asset.body.split(['"', '\'']) {
                let is_file = [".js", ".css"].iter().any(|end| quoted.ends_with(end));
                if is_file && !quoted.contains([' ', '\n']) {
                    let name = quoted.strip_prefix("./").unwrap_or(quoted);
                    assert!(super::asset(name).is_some(), "{}: {quoted}", asset.name);
                }
            }
            for address in asset.body.split("://").skip(1) {
                assert!(address.starts_with("www.w3.org/2000/svg"), "{}: {:.40}", asset.name, address);
            }
        }
    }

    /// A file comes with its type and policy, and not again to whoever has it.
    #[test]
    fn caches_ask_and_are_told() {
        let ask = |tag: Option<HeaderValue>| {
            let mut request = Request::new(full(""));
            if let Some(tag) = tag {
                request.headers_mut().insert(header::IF_NONE_MATCH, tag);
            }
            answer(asset("app.js").unwrap(), &request)
        };
        let first = ask(None);
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.headers()[header::CONTENT_TYPE], SCRIPT);
        assert_eq!(first.headers()[header::CONTENT_SECURITY_POLICY], CONTENT_SECURITY_POLICY);
        let again = ask(Some(first.headers()[header::ETAG].clone()));
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(ask(Some(HeaderValue::from_static("\"other\""))).status(), StatusCode::OK);
    }
}

//! The demo page: a client of the JSON protocol in one document, one script and one style sheet of our own.
//!
//! It needs nothing but this server, learns no secret, and publishes as any client does.

/// A file of the demo page.
#[derive(Debug, PartialEq, Eq)]
pub struct Asset {
    /// Path it is served at.
    pub path: &'static str,
    /// Value of `Content-Type`.
    pub content_type: &'static str,
    /// Content.
    pub body: &'static str,
}

/// Value of `Content-Security-Policy` for the page: nothing from elsewhere, and connections only to servers (the page
/// connects to the host it was opened at, over schemes that `'self'` does not cover in every browser).
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
     connect-src 'self' http: https: ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The JavaScript that pins the server's certificate for the unmodified `centrifuge` package. Written for
/// [`SNIPPET_AUTHORITY`], which is to be replaced.
pub const SNIPPET: &str = include_str!("snippet.js");

/// Host and port that [`SNIPPET`] names.
pub const SNIPPET_AUTHORITY: &str = "localhost:8000";

/// All files of the page.
pub const ASSETS: [Asset; 4] = [
    Asset { path: "/", content_type: "text/html; charset=utf-8", body: include_str!("index.html") },
    Asset {
        path: "/demo/page.js",
        content_type: "text/javascript; charset=utf-8",
        body: include_str!("page.js"),
    },
    Asset { path: "/demo/page.css", content_type: "text/css; charset=utf-8", body: include_str!("page.css") },
    Asset { path: "/demo/snippet.js", content_type: "text/javascript; charset=utf-8", body: SNIPPET },
];

/// The file served at a path.
pub fn asset(path: &str) -> Option<&'static Asset> {
    static FILES: [Asset; 4] = ASSETS;
    FILES.iter().find(|asset| asset.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_is_complete_and_self_contained() {
        // Whatever document and script ask for by path must be a file of the page or an endpoint of the server.
        for asset in &ASSETS {
            assert_eq!(super::asset(asset.path), Some(asset));
            assert!(!asset.body.is_empty());
        }
        assert_eq!(super::asset("/demo/"), None);
        let endpoints = ["/connection/webtransport/hashes"];
        for asset in &ASSETS[..2] {
            for quoted in asset.body.split(['"', '`']).filter(|text| text.starts_with('/')) {
                let path = quoted.split([' ', '?']).next().unwrap_or(quoted);
                let is_comment = path.starts_with("//");
                let is_known = super::asset(path).is_some() || endpoints.contains(&path);
                assert!(is_known || is_comment || !path[1..].contains('/'), "{path}");
            }
        }
    }

    #[test]
    fn page_loads_nothing_from_elsewhere() {
        // The only addresses with a host are those of this server, built from where the page was opened.
        for asset in &ASSETS {
            for rest in asset.body.split("://").skip(1) {
                let is_own = ["localhost", "${location."].iter().any(|host| rest.starts_with(host));
                assert!(is_own, "{}: ://{}", asset.path, &rest[..rest.len().min(40)]);
            }
        }
        assert!(SNIPPET.contains(SNIPPET_AUTHORITY));
    }
}

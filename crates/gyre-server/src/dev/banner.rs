//! What development mode says at its start.

use std::fmt;

use super::{
    certificate::CertificateHash,
    page::{SNIPPET, SNIPPET_AUTHORITY},
};

/// The facts of the start banner; its text comes by `to_string`. Shows the API key, which development mode is meant to.
pub struct Banner<'a> {
    /// Host name by which browsers on this machine reach the server.
    pub host: &'a str,
    /// Port of the client endpoints, TCP and UDP.
    pub port: u16,
    /// Certificate hashes, the one being served first.
    pub hashes: &'a [CertificateHash],
    /// Key of the HTTP API.
    pub api_key: &'a str,
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, api_key, .. } = self;
        writeln!(f, "{WARNING}")?;
        writeln!(f, "Demo page        http://{host}:{port}/")?;
        writeln!(f, "Admin            http://{host}:{port}/admin/  (password: the API key below)")?;
        writeln!(f, "Certificate      http://{host}:{port}/connection/webtransport/hashes")?;
        for (number, hash) in self.hashes.iter().enumerate() {
            let role = if number == 0 { "served" } else { "next" };
            writeln!(f, "  {role:<6} SHA-256 {}  until {}", hash.value, hash.not_after)?;
            writeln!(f, "         SPKI    {}", hash.spki)?;
        }
        self.chromium(f)?;
        writeln!(f, "\nPublish a message:\n")?;
        writeln!(f, "  curl -X POST http://{host}:{port}/api/publish \\")?;
        writeln!(f, "    -H 'X-API-Key: {api_key}' \\")?;
        writeln!(f, r#"    -d '{{"channel": "demo:news", "data": {{"text": "hello"}}}}'"#)?;
        writeln!(f, "\nIn a page of your own:\n")?;
        let snippet = SNIPPET.replace(SNIPPET_AUTHORITY, &format!("{host}:{port}"));
        snippet.lines().try_for_each(|line| writeln!(f, "{}", format!("  {line}").trim_end()))
    }
}

impl Banner<'_> {
    /// Flags for a Chromium that is to trust the certificate without any script. All keys at once, so that the
    /// browser survives the change.
    fn chromium(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.hashes.iter().map(|hash| hash.spki.as_str()).collect();
        if keys.is_empty() {
            return Ok(());
        }
        writeln!(f, "Chromium flags   --origin-to-force-quic-on={}:{} \\", self.host, self.port)?;
        writeln!(f, "                 --ignore-certificate-errors-spki-list={}", keys.join(","))
    }
}

const WARNING: &str = "\
########################################################################
#  DEVELOPMENT MODE. Everybody who reaches this port may connect,      #
#  subscribe and publish. Never run it where strangers can reach it.   #
########################################################################
";

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(value: &str, spki: &str) -> CertificateHash {
        let not_after = "2026-01-13T23:00:00Z".to_owned();
        CertificateHash { algorithm: "sha-256", value: value.to_owned(), spki: spki.to_owned(), not_after }
    }

    #[test]
    fn banner_says_everything() {
        // Each thing a developer needs is looked for in the text, ready to be copied.
        let hashes = [hash("Y2VydA==", "a2V5"), hash("bmV4dA==", "a2V5Mg==")];
        let banner = Banner { host: "dev.example", port: 9000, hashes: &hashes, api_key: "k3y" };
        let text = banner.to_string();
        for part in [
            "DEVELOPMENT MODE",
            "http://dev.example:9000/\n",
            "http://dev.example:9000/admin/ ",
            "served SHA-256 Y2VydA==  until 2026-01-13T23:00:00Z\n         SPKI    a2V5\n",
            "next   SHA-256 bmV4dA==",
            "--origin-to-force-quic-on=dev.example:9000 ",
            "--ignore-certificate-errors-spki-list=a2V5,a2V5Mg==\n",
            "curl -X POST http://dev.example:9000/api/publish \\\n    -H 'X-API-Key: k3y' \\\n    -d '{\"channel\": \"demo:news\"",
            "https://dev.example:9000/connection/webtransport\"",
            "serverCertificateHashes",
        ] {
            assert!(text.contains(part), "{part:?} is missing in:\n{text}");
        }
        assert!(!text.contains(SNIPPET_AUTHORITY), "{text}");
        assert!(text.lines().all(|line| line == line.trim_end()));
    }

    #[test]
    fn banner_without_certificate() {
        // A server with a certificate of an authority has no hashes, and needs no flags.
        let text = Banner { host: "localhost", port: 8000, hashes: &[], api_key: "k" }.to_string();
        assert!(!text.contains("Chromium"));
    }
}

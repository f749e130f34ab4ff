//! `http_server`: listeners and their TLS; PEM values wherever they are.

use std::{
    fmt,
    os::unix::net::SocketAddr,
    path::{Path, PathBuf},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use gyre_transport::{
    http::{Network, Networks, Policy, ProxyProtocol},
    tls::{Identity, ServerTls, TlsError},
};
use http::HeaderValue;

use super::{
    Section,
    read::Findings,
    resolve::{non_empty, read_pem},
};
use crate::{acme, secret::Secret};

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host, which may be none for all addresses, and a port.
    Host(String, u16),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl Address {
    /// The host is `unix:/path` for a socket, which has no port.
    fn new(host: &str, port: u16) -> Self {
        unix_path(host).map_or_else(|| Self::Host(host.into(), port), |path| Self::Unix(path.into()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Listeners and TLS.
#[derive(Clone, Debug)]
pub struct HttpServer {
    /// Port to listen on.
    pub port: u16,
    /// Where clients connect: that of `address` and `port`, then those of `addresses`.
    pub addresses: Vec<Address>,
    /// Where API, metrics and health are, if they are apart.
    pub internal_addresses: Vec<Address>,
    /// Permissions of unix sockets.
    pub unix_socket_mode: u32,
    /// What connections of the external port begin with.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// What is done to every request and its answer.
    pub policy: Policy,
    /// TLS of the external port.
    pub tls: Option<TlsOptions>,
    /// TLS of the internal port.
    pub internal_tls: InternalTls,
    /// Certificates of the external port that are obtained.
    pub autocert: Option<acme::Options>,
    /// HTTP/3 on the UDP port of the same number.
    pub http3: bool,
    /// HTTP/2 without TLS.
    pub h2c: bool,
}

impl HttpServer {
    /// True if the external port has TLS.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some() || self.autocert.is_some()
    }

    /// True if the internal port has TLS.
    pub fn has_internal_tls(&self) -> bool {
        match self.internal_tls {
            InternalTls::Plain => false,
            InternalTls::External => self.has_tls(),
            InternalTls::Own(_) => true,
        }
    }
}

/// TLS of the internal port.
#[derive(Clone, Debug)]
pub enum InternalTls {
    /// None.
    Plain,
    /// That of the external port, whatever it is.
    External,
    /// `http_server.internal_tls`.
    Own(TlsOptions),
}

/// What a TLS server shows and asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// Certificate chain and private key, as PEM.
    pub certificate: Option<(Vec<u8>, Secret<Vec<u8>>)>,
    /// Authorities of client certificates, as PEM.
    pub client_authorities: Option<Vec<u8>>,
    /// Where it comes from.
    pub source: TlsSource,
}

/// What is configured of a TLS server: PEM, or names of files with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSource {
    /// Path of the object.
    pub path: String,
    certificate: Option<(String, Secret<String>)>,
    client_authorities: Option<String>,
}

impl TlsOptions {
    /// The same as the transport takes it.
    pub fn identity(&self) -> Identity<'_> {
        Identity {
            certificate: self.certificate.as_ref().map(|(chain, key)| (&**chain, &**key.expose())),
            client_authorities: self.client_authorities.as_deref(),
        }
    }
}

/// Why a TLS object cannot be used now.
#[derive(Debug)]
pub struct UnreadablePem {
    key: &'static str,
    message: String,
}

impl fmt::Display for UnreadablePem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

impl TlsSource {
    /// Reads it all, again if need be.
    ///
    /// # Errors
    /// If a file cannot be read or holds no PEM.
    pub fn read(&self) -> Result<TlsOptions, UnreadablePem> {
        let read = |key, given: &str| pem(given).map_err(|message| UnreadablePem { key, message });
        let certificate = match &self.certificate {
            None => None,
            Some((chain, key)) => {
                Some((read("cert_pem", chain)?, Secret::new(read("key_pem", key.expose())?)))
            }
        };
        let client_authorities =
            self.client_authorities.as_ref().map(|given| read("client_ca_pem", given)).transpose()?;
        Ok(TlsOptions { certificate, client_authorities, source: self.clone() })
    }

    /// The files it is in.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let pair = self.certificate.as_ref().map(|(chain, key)| [chain.as_str(), key.expose().as_str()]);
        let given = pair.into_iter().flatten().chain(self.client_authorities.as_deref());
        given.filter(|given| inline_pem(given).is_none()).map(Path::new)
    }
}

/// Resolves the section.
pub(super) fn resolve(raw: &Section, findings: &mut Findings) -> HttpServer {
    const PATH: &str = "http_server";
    let server = raw.object(PATH);
    let port = u16::try_from(server.int("port")).unwrap_or(8000);
    let address_text = server.text("address").to_owned();
    let internal_port = server.text("internal_port").parse().ok().filter(|&internal| internal != port);
    let internal_address = non_empty(server.text("internal_address"));
    let internal = match (internal_address, internal_port) {
        (Some(given), port) if port.is_some() || unix_path(given).is_some() => {
            Some(address(server, PATH, "internal_address", port.unwrap_or_default(), findings))
        }
        (_, port) => port.map(|port| Address::new(&address_text, port)),
    };
    if internal_port.is_some() && internal_address.is_none() && unix_path(&address_text).is_some() {
        let fix = "set it to a host, or leave http_server.internal_port out";
        findings.problem("http_server.internal_address", "is needed where `address` is a unix socket", fix);
    }
    let external = address(server, PATH, "address", port, findings);
    let external = std::iter::once(external).chain(addresses(server, "addresses", findings)).collect();
    let internal = internal.into_iter().chain(addresses(server, "internal_addresses", findings)).collect();
    let autocert = autocert(server.object("tls_autocert"), findings);
    let tls = match &autocert {
        None => tls(server.object("tls"), "http_server.tls", findings),
        Some(_) => tls_beside_autocert(server.object("tls"), findings),
    };
    let own_internal_tls = server.object("internal_tls");
    let internal_tls = match own_internal_tls.bool("enabled") {
        true => self::tls(own_internal_tls, "http_server.internal_tls", findings)
            .map_or(InternalTls::Plain, InternalTls::Own),
        false if server.bool("tls_external") => InternalTls::Plain,
        false => InternalTls::External,
    };
    HttpServer {
        http3: server.object("http3").bool("enabled") && (tls.is_some() || autocert.is_some()),
        autocert,
        port,
        addresses: external,
        internal_addresses: internal,
        unix_socket_mode: unix_socket_mode(server, findings),
        proxy_protocol: proxy_protocol(
            server.object("proxy_protocol"),
            "http_server.proxy_protocol",
            findings,
        ),
        policy: Policy {
            trusted_forwarders: networks(server, "http_server", "trusted_forwarders", findings),
            transport_security: transport_security(server.object("hsts"), findings),
        },
        tls,
        internal_tls,
        h2c: server.bool("h2c_external"),
    }
}

/// TLS of a server, if it is enabled.
pub(super) fn tls(section: &Section, path: &str, findings: &mut Findings) -> Option<TlsOptions> {
    if !section.bool("enabled") {
        return None;
    }
    let (certificate, key) = (section.text("cert_pem"), section.text("key_pem"));
    // The reference starts without: a certificate that comes later is served after a reload.
    let has_certificate = !certificate.is_empty() && !key.is_empty();
    if !has_certificate {
        let message =
            format!("{path} has no cert_pem and key_pem: every TLS handshake fails until both are set");
        findings.warnings.push(super::Warning::new(message));
    }
    let source = TlsSource {
        path: path.into(),
        certificate: has_certificate.then(|| (certificate.into(), Secret::new(key.into()))),
        client_authorities: non_empty(section.text("client_ca_pem")).map(Into::into),
    };
    let mut read = |name: &str| read_pem(section, path, name, findings);
    let certificate = match has_certificate {
        true => Some((read("cert_pem"), read("key_pem").map(Secret::new))),
        false => None,
    };
    let client_authorities = match source.client_authorities {
        None => None,
        Some(_) => Some(read("client_ca_pem")?),
    };
    let certificate = match certificate {
        None => None,
        Some((chain, key)) => Some((chain?, key?)),
    };
    let options = TlsOptions { certificate, client_authorities, source };
    match ServerTls::new(options.identity(), None) {
        Ok(_) => Some(options),
        Err(error) => {
            let (key, fix) = match error {
                TlsError::ClientAuthorities(_) => {
                    (".client_ca_pem", "name a file with certificates of authorities")
                }
                _ => ("", "check that certificate and key belong together"),
            };
            findings.problem(&format!("{path}{key}"), error.to_string(), fix);
            None
        }
    }
}

/// An address that is a key of its own.
pub(super) fn address(
    section: &Section,
    path: &str,
    key: &str,
    port: u16,
    findings: &mut Findings,
) -> Address {
    let text = section.text(key);
    if text.starts_with("unix:") && unix_path(text).is_none() {
        let fix = "write unix:/path with at most 107 bytes of path";
        findings.problem(&format!("{path}.{key}"), format!("\"{text}\" names no socket"), fix);
    }
    Address::new(text, port)
}

fn addresses(server: &Section, key: &str, findings: &mut Findings) -> Vec<Address> {
    let mut addresses = Vec::new();
    for text in server.list(key) {
        let socket = unix_path(text).map(|path| Address::Unix(path.into()));
        match socket.or_else(|| host_and_port(text).map(|(host, port)| Address::Host(host, port))) {
            Some(address) => addresses.push(address),
            None => {
                let fix =
                    "write host:port, [address]:port, :port for all addresses, or unix:/path of a socket";
                findings.problem(&format!("http_server.{key}"), format!("\"{text}\" is not an address"), fix);
            }
        }
    }
    addresses
}

/// The path in `unix:/path` or `unix:///path`, if the system can have a socket there.
pub(super) fn unix_path(address: &str) -> Option<&Path> {
    let path = address.strip_prefix("unix://").or_else(|| address.strip_prefix("unix:"))?;
    let is_usable = !path.is_empty() && SocketAddr::from_pathname(path).is_ok();
    is_usable.then(|| Path::new(path))
}

/// Permissions as they are written in octal.
fn unix_socket_mode(server: &Section, findings: &mut Findings) -> u32 {
    let text = server.text("unix_socket_mode");
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => mode,
        _ => {
            let message = format!("\"{text}\" are no permissions");
            findings.problem("http_server.unix_socket_mode", message, "write octal digits, such as 0660");
            0
        }
    }
}

pub(super) fn proxy_protocol(
    section: &Section,
    path: &str,
    findings: &mut Findings,
) -> Option<ProxyProtocol> {
    let senders = networks(section, path, "networks", findings);
    if section.bool("enabled") && section.duration("timeout").is_zero() {
        findings.problem(&format!("{path}.timeout"), "cannot be 0", "leave it out for 5s");
    }
    section.bool("enabled").then(|| ProxyProtocol { senders, timeout: section.duration("timeout") })
}

/// The networks of a list; `None` if it is empty.
fn networks(section: &Section, path: &str, key: &str, findings: &mut Findings) -> Option<Networks> {
    let mut networks = Vec::new();
    for text in section.list(key) {
        match text.parse::<Network>() {
            Ok(network) => networks.push(network),
            Err(error) => {
                let fix = "write an address, a network such as 10.0.0.0/8, or unix for unix sockets";
                findings.problem(&format!("{path}.{key}"), format!("\"{text}\" is {error}"), fix);
            }
        }
    }
    (!networks.is_empty()).then_some(Networks(networks))
}

/// Preloading asks for a year and all subdomains, and cannot be taken back soon.
///
/// Spec: RFC 6797 section 6.1; hstspreload.org
fn transport_security(section: &Section, findings: &mut Findings) -> Option<HeaderValue> {
    const YEAR: u64 = 365 * 24 * 3600;
    if !section.bool("enabled") {
        return None;
    }
    let (seconds, has_subdomains) =
        (section.duration("max_age").as_secs(), section.bool("include_subdomains"));
    let mut value = format!("max-age={seconds}");
    if has_subdomains {
        value += "; includeSubDomains";
    }
    if section.bool("preload") {
        if seconds < YEAR || !has_subdomains {
            let fix = "set include_subdomains, and max_age to 8760h at least";
            findings.problem("http_server.hsts.preload", "needs subdomains and a year", fix);
        }
        value += "; preload";
    }
    HeaderValue::try_from(value).ok()
}

/// With certificates that are obtained none is needed; one that is given is shown where there is no other.
fn tls_beside_autocert(section: &Section, findings: &mut Findings) -> Option<TlsOptions> {
    const PATH: &str = "http_server.tls";
    if !section.text("cert_pem").is_empty() {
        return tls(section, PATH, findings);
    }
    let given = non_empty(section.text("client_ca_pem")).filter(|_| section.bool("enabled"))?;
    let source = TlsSource { path: PATH.into(), certificate: None, client_authorities: Some(given.into()) };
    let client_authorities = Some(read_pem(section, PATH, "client_ca_pem", findings)?);
    let options = TlsOptions { certificate: None, client_authorities, source };
    if let Err(error) = ServerTls::new(options.identity(), None) {
        let fix = "name a file with certificates of authorities";
        findings.problem("http_server.tls.client_ca_pem", error.to_string(), fix);
    }
    Some(options)
}

fn autocert(section: &Section, findings: &mut Findings) -> Option<acme::Options> {
    const PATH: &str = "http_server.tls_autocert";
    if !section.bool("enabled") {
        return None;
    }
    let at = |key: &str| format!("{PATH}.{key}");
    let text = |key: &str| non_empty(section.text(key)).map(str::to_owned);
    let names = section.list("host_whitelist").to_vec();
    for name in names.iter().chain(&text("server_name")).filter(|name| !acme::is_host_name(name)) {
        let fix =
            "write whole names such as example.com; wildcards and addresses get no certificate this way";
        findings.problem(&at("host_whitelist"), format!("\"{name}\" is not a name of a host"), fix);
    }
    if names.is_empty() {
        let message = "http_server.tls_autocert.host_whitelist is empty: certificates are obtained for whatever \
                       name clients ask for";
        findings.warnings.push(super::Warning::new(message));
    }
    if text("cache_dir").is_none() {
        let message = "http_server.tls_autocert.cache_dir is not set: every start obtains new certificates, which \
                       authorities limit";
        findings.warnings.push(super::Warning::new(message));
    }
    let http = section.bool("http").then(|| host_and_port(section.text("http_addr")));
    if http == Some(None) {
        let message = format!("\"{}\" is not an address", section.text("http_addr"));
        findings.problem(&at("http_addr"), message, "write host:port, or :port for all addresses");
    }
    let directory_url = section.text("directory_url").to_owned();
    if !directory_url.starts_with("https://") {
        findings.problem(&at("directory_url"), "is not a URL of HTTPS", "write https://…");
    }
    if text("email").is_some_and(|email| !email.contains('@') || email.contains(char::is_whitespace)) {
        findings.problem(&at("email"), "is not an address", "write name@example.com, or nothing");
    }
    let directory_authorities = match text("directory_ca_pem") {
        None => None,
        Some(_) => read_pem(section, PATH, "directory_ca_pem", findings),
    };
    Some(acme::Options {
        names,
        cache_folder: text("cache_dir"),
        email: text("email"),
        server_name: text("server_name"),
        http: http.flatten(),
        directory_url,
        directory_authorities,
        external_account: external_account(section, PATH, findings),
    })
}

fn external_account(
    section: &Section,
    path: &str,
    findings: &mut Findings,
) -> Option<(String, Secret<Vec<u8>>)> {
    let (id, key) = (section.text("eab_key_id"), section.text("eab_hmac_key"));
    if id.is_empty() && key.is_empty() {
        return None;
    }
    match URL_SAFE_NO_PAD.decode(key.trim_end_matches('=')) {
        Ok(key) if !id.is_empty() && !key.is_empty() => Some((id.into(), Secret::new(key))),
        _ => {
            let fix =
                "set eab_key_id and eab_hmac_key (base64url) as the authority gave them, or none of them";
            findings.problem(&format!("{path}.eab_hmac_key"), "does not go with eab_key_id", fix);
            None
        }
    }
}

/// `host:port`, `[address]:port` or `:port`.
pub(super) fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (is_bracketed || !host.contains(':')).then(|| (host.to_owned(), port))
}

const MARK: &str = "-----BEGIN";

/// PEM as text, as base64 of text, or in a file.
pub(super) fn pem(given: &str) -> Result<Vec<u8>, String> {
    if let Some(pem) = inline_pem(given) {
        return Ok(pem);
    }
    match std::fs::read(given) {
        Ok(content) if String::from_utf8_lossy(&content).contains(MARK) => Ok(content),
        Ok(_) => Err(format!("the file {given} holds no PEM")),
        Err(error) => Err(format!("neither PEM nor a readable file: {error}")),
    }
}

fn inline_pem(given: &str) -> Option<Vec<u8>> {
    if given.contains(MARK) {
        return Some(given.into());
    }
    let joined: String = given.split_whitespace().collect();
    STANDARD.decode(joined).ok().filter(|decoded| String::from_utf8_lossy(decoded).contains(MARK))
}

//! File, environment, secrets in files, and the flat layout in both.

use super::*;

/// A folder with a file that holds a secret; ends with the value.
struct SecretFile(PathBuf);

impl SecretFile {
    fn new(content: &str) -> Self {
        static FILES: AtomicU32 = AtomicU32::new(0);
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("gyre-secret-{}-{number}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn api_key(loaded: Result<Loaded, Vec<Problem>>) -> String {
    loaded.unwrap().resolved.api.key.unwrap().expose().clone()
}

/// A secret may be in a file, without the line end behind it; a variable with the secret wins over a file named in the
/// configuration, and the other way round; both in one place are a problem, as is a file that cannot be read.
#[test]
fn secrets_may_be_in_files() {
    let file = SecretFile::new("from file\r\n\n");
    let tree = |key: Value| json!({"http_api": key});
    let named = || tree(json!({"key_file": file.path()}));
    // As a file, because defaults lie below the environment.
    let load = |tree: Value, environment: &[(&str, &str)]| {
        let written = SecretFile::new(&tree.to_string());
        let path = written.0.with_extension("json");
        std::fs::rename(&written.0, &path).unwrap();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment = Environment::new(environment);
        let loaded = load(&Sources { file: Some(path.clone()), environment, ..Sources::default() });
        std::fs::remove_file(path).unwrap();
        loaded
    };
    assert_eq!(api_key(load(named(), &[])), "from file");
    assert_eq!(api_key(load(named(), &[("CENTRIFUGO_HTTP_API_KEY", "variable")])), "variable");
    let variable = ("CENTRIFUGO_HTTP_API_KEY_FILE", file.path());
    assert_eq!(api_key(load(tree(json!({"key": "given"})), &[variable])), "from file");
    assert_eq!(api_key(load(json!({}), &[variable, ("GYRE_HTTP_API_KEY", "ours")])), "ours");
    let ours = ("GYRE_HTTP_API_KEY_FILE", file.path());
    assert_eq!(api_key(load(json!({}), &[ours, ("CENTRIFUGO_HTTP_API_KEY", "theirs")])), "from file");

    assert_eq!(paths(load(json!({}), &[variable, ("CENTRIFUGO_HTTP_API_KEY", "x")])), ["http_api.key_file"]);
    let both = tree(json!({"key": "given", "key_file": file.path()}));
    assert_eq!(paths(load(both, &[])), ["http_api.key_file"]);
    let missing = load(tree(json!({"key_file": "/nonexistent/secret"})), &[]).unwrap_err();
    assert!(missing[0].message.contains("/nonexistent/secret"));
    let large = SecretFile::new(&"x".repeat(70_000));
    assert_eq!(paths(load(tree(json!({"key_file": large.path()})), &[])), ["http_api.key_file"]);
    let unknown = load(tree(json!({"insecure_file": "x"})), &[]).unwrap().warnings;
    assert!(unknown[0].is_unknown_key, "only secrets may be in files");
}

/// Editors find the schema of a file by a key that means nothing to the server.
#[test]
fn the_schema_may_be_named() {
    let warnings = load_tree(json!({"$schema": "config.schema.json"})).unwrap().warnings;
    assert!(warnings.is_empty(), "{warnings:?}");
}

/// Loads a tree as a file, which may have the flat layout.
fn load_flat(tree: Value) -> Result<Loaded, Vec<Problem>> {
    load_text("json", &tree.to_string())
}

/// TLS of gRPC and of Redis in the flat layout; a port for gRPC had the TLS of the main port unless it was told not to.
///
/// Spec: centrifugal.dev, "Migrating to v6"
#[test]
fn tls_of_the_flat_layout_is_found() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let flat = |more: Value| {
        let mut flat =
            json!({"tls": true, "tls_cert": cert, "tls_key": key, "grpc_api": true, "uni_grpc": true});
        flat.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        load_flat(flat).unwrap()
    };
    let shared = flat(json!({"uni_grpc_tls_disable": true}));
    let resolved = &shared.resolved;
    assert!(resolved.grpc_api.as_ref().unwrap().tls.is_some(), "the main port's");
    assert!(resolved.uni_grpc.as_ref().unwrap().tls.is_none(), "disabled");
    assert!(shared.warnings.iter().all(|warning| !warning.is_unknown_key), "{:?}", shared.warnings);
    let own = flat(json!({"grpc_api_tls": true, "grpc_api_tls_cert_pem": cert, "grpc_api_tls_key_pem": key}));
    assert!(own.resolved.grpc_api.unwrap().tls.is_some_and(|tls| tls.certificate.is_some()));
    let redis = load_flat(json!({"redis_tls": true, "redis_sentinel_tls_server_name": "s"})).unwrap().raw;
    assert!(redis.at("engine.redis.tls").bool("enabled"));
    assert_eq!(redis.at("engine.redis.sentinel_tls").text("server_name"), "s");
}

/// Consumers were enabled unless disabled, and their PEM had other names; a consumer of the nested layout stays off.
#[test]
fn consumers_of_the_flat_layout_are_found() {
    let consumer = |more: Value| {
        let mut consumer = json!({"name": "ab", "type": "kafka"});
        consumer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        consumer
    };
    let off = load_flat(json!({"consumers": [consumer(json!({"disabled": true}))]})).unwrap();
    assert!(off.warnings.is_empty() && !off.raw.objects("consumers")[0].bool("enabled"));
    assert!(load_flat(json!({"consumers": [consumer(json!({}))]})).is_ok(), "nested: off");
    let old = load_flat(json!({"api_key": "k", "consumers": [consumer(json!({}))]}));
    assert!(paths(old).contains(&"consumers[0].enabled".to_owned()), "flat: on, which is not available");
    let pem = consumer(json!({"disabled": true, "kafka": {"tls": {"cert_pem_b64": "abc"}}}));
    let pem = load_flat(json!({"consumers": [pem]})).unwrap();
    assert_eq!(pem.raw.objects("consumers")[0].at("kafka.tls").text("cert_pem"), "abc");
    assert!(pem.warnings.is_empty(), "{:?}", pem.warnings);
}

/// Options that all hooks shared may be in the environment, as may everything else of the flat layout.
#[test]
fn the_flat_layout_may_be_in_the_environment() {
    let loaded = load_with(
        json!({}),
        &[
            ("CENTRIFUGO_PROXY_CONNECT_ENDPOINT", "http://connect"),
            ("CENTRIFUGO_PROXY_HTTP_HEADERS", "Cookie X-A"),
            ("CENTRIFUGO_PROXY_STATIC_HTTP_HEADERS", r#"{"x-s": "1"}"#),
            ("CENTRIFUGO_PROXY_BINARY_ENCODING", "true"),
            ("CENTRIFUGO_REDIS_ADDRESS", r#"["a:1", "b:1"]"#),
            ("CENTRIFUGO_REDIS_TLS", "true"),
            ("CENTRIFUGO_PROXY_PUBLISH", "false"),
        ],
    )
    .unwrap();
    let connect = &loaded.resolved.hooks["default/connect"];
    assert_eq!(connect.http_headers, ["cookie", "x-a"]);
    assert!(connect.is_binary && connect.static_headers.contains_key("x-s"));
    assert_eq!(loaded.raw.at("engine.redis").list("address"), ["a:1", "b:1"]);
    assert!(loaded.raw.at("engine.redis.tls").bool("enabled"));
    let unknown = loaded.warnings.iter().any(|warning| warning.message.contains("unknown"));
    assert!(!unknown, "{:?}", loaded.warnings);
}

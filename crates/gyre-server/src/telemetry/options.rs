//! The standard environment variables of OpenTelemetry, as far as they concern traces.
//!
//! Spec: opentelemetry.io, "Environment Variable Specification" and "OTLP Exporter Configuration"

use std::{fmt::Display, str::FromStr, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;

/// How spans are exported.
#[derive(Clone, Debug)]
pub struct TelemetryOptions {
    /// Requests of the server API are traced: `opentelemetry.api`.
    pub api: bool,
    /// Where they are sent to.
    pub endpoint: Uri,
    /// How.
    pub protocol: Protocol,
    /// Sent with every request.
    pub headers: HeaderMap,
    /// Bodies are compressed.
    pub is_gzip: bool,
    /// A collector that takes longer has failed.
    pub timeout: Duration,
    /// Authorities of the collector, as PEM, instead of the system's.
    pub authorities: Option<String>,
    /// What describes this server: `service.name` and whatever else is set.
    pub resource: Vec<(String, String)>,
    /// Which traces are recorded.
    pub sampler: Sampler,
    /// Spans that wait for their export at most; further ones are dropped.
    pub queue_max: usize,
    /// Spans in one request at most.
    pub batch_max: usize,
    /// How long a span waits at most.
    pub delay: Duration,
}

/// How spans are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `http/protobuf`.
    Http,
    /// `grpc`.
    Grpc,
}

/// Which traces are recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Whoever began the trace decides.
    pub follows_parent: bool,
    /// Of those that begin here (or of all), this part.
    pub ratio: f64,
}

impl Sampler {
    /// Decides for a trace. Everybody who asks about the same one with the same ratio gets the same answer.
    pub fn samples(&self, trace_id: &[u8; 16], parent: Option<bool>) -> bool {
        match parent {
            Some(is_sampled) if self.follows_parent => is_sampled,
            _ => {
                let low = trace_id[8..].iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
                // The lower 63 bits, as the SDKs have it.
                self.ratio >= 1.0 || ((low >> 1) as f64) < self.ratio * (1u64 << 63) as f64
            }
        }
    }
}

impl TelemetryOptions {
    /// Reads the variables. `None` if they say that nothing is to be exported.
    ///
    /// # Errors
    /// The variable that cannot be used, and why.
    pub fn from_environment(
        api: bool,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let exporter = variable("OTEL_TRACES_EXPORTER").unwrap_or_else(|| "otlp".into());
        let is_disabled =
            variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        match exporter.as_str() {
            _ if is_disabled => return Ok(None),
            "none" => return Ok(None),
            "otlp" => {}
            other => {
                return Err(format!(
                    "OTEL_TRACES_EXPORTER: there is no exporter \"{other}\", use otlp or none"
                ));
            }
        }
        // What is said of traces wins over what is said of all signals.
        let otlp = |name: &str| {
            variable(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"))
                .or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{name}")))
        };
        let protocol = match otlp("PROTOCOL").as_deref() {
            None | Some("http/protobuf") => Protocol::Http,
            Some("grpc") => Protocol::Grpc,
            Some(other) => {
                return Err(format!("OTEL_EXPORTER_OTLP_PROTOCOL: \"{other}\", use http/protobuf or grpc"));
            }
        };
        let is_gzip = match otlp("COMPRESSION").as_deref() {
            None | Some("none") => false,
            Some("gzip") => true,
            Some(other) => {
                return Err(format!("OTEL_EXPORTER_OTLP_COMPRESSION: \"{other}\", use gzip or none"));
            }
        };
        let authorities = otlp("CERTIFICATE").map(|path| {
            std::fs::read_to_string(&path)
                .map_err(|error| format!("OTEL_EXPORTER_OTLP_CERTIFICATE: {path}: {error}"))
        });
        let milliseconds = |name: &str, value: Option<String>, default: u64| {
            Ok::<_, String>(Duration::from_millis(number(name, value, default)?))
        };
        Ok(Some(Self {
            api,
            endpoint: endpoint(protocol, &variable)?,
            protocol,
            headers: headers(&otlp("HEADERS").unwrap_or_default())?,
            is_gzip,
            timeout: milliseconds("OTEL_EXPORTER_OTLP_TIMEOUT", otlp("TIMEOUT"), 10_000)?,
            authorities: authorities.transpose()?,
            resource: resource(&variable),
            sampler: sampler(&variable)?,
            queue_max: number("OTEL_BSP_MAX_QUEUE_SIZE", variable("OTEL_BSP_MAX_QUEUE_SIZE"), 2048)?.max(1),
            batch_max: number(
                "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
                variable("OTEL_BSP_MAX_EXPORT_BATCH_SIZE"),
                512,
            )?
            .max(1),
            delay: milliseconds("OTEL_BSP_SCHEDULE_DELAY", variable("OTEL_BSP_SCHEDULE_DELAY"), 5_000)?,
        }))
    }
}

fn number<T: FromStr<Err: Display>>(name: &str, value: Option<String>, default: T) -> Result<T, String> {
    value.map_or(Ok(default), |value| value.trim().parse().map_err(|error| format!("{name}: {error}")))
}

/// The address of traces as it is, or the common one with the path of traces appended.
fn endpoint(protocol: Protocol, variable: &impl Fn(&str) -> Option<String>) -> Result<Uri, String> {
    let (name, address) = match variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
        Some(address) => ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", address),
        None => {
            let default = match protocol {
                Protocol::Http => "http://localhost:4318",
                Protocol::Grpc => "http://localhost:4317",
            };
            let address = variable("OTEL_EXPORTER_OTLP_ENDPOINT").unwrap_or_else(|| default.into());
            let address = match protocol {
                Protocol::Http => format!("{}/v1/traces", address.trim_end_matches('/')),
                Protocol::Grpc => address,
            };
            ("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        }
    };
    // Some write the address of gRPC without a scheme.
    let address = if address.contains("://") { address } else { format!("http://{address}") };
    let is_usable = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    address
        .parse()
        .ok()
        .filter(is_usable)
        .ok_or_else(|| format!("{name}: \"{address}\" is no URL of http or https"))
}

/// `key=value,key=value`, values with percent escapes.
fn pairs(text: &str) -> impl Iterator<Item = (String, String)> {
    text.split(',').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8_lossy().into_owned();
        Some((name.trim().to_owned(), value)).filter(|(name, _)| !name.is_empty())
    })
}

fn headers(text: &str) -> Result<HeaderMap, String> {
    let header = |(name, value): (String, String)| {
        let unusable = || format!("OTEL_EXPORTER_OTLP_HEADERS: \"{name}\" cannot be a header");
        let parsed = HeaderName::try_from(&name).map_err(|_| unusable())?;
        Ok((parsed, HeaderValue::try_from(value).map_err(|_| unusable())?))
    };
    pairs(text).map(header).collect()
}

fn resource(variable: &impl Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    let mut resource: Vec<_> = pairs(&variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default()).collect();
    if let Some(name) = variable("OTEL_SERVICE_NAME") {
        resource.retain(|(known, _)| known != "service.name");
        resource.push(("service.name".into(), name));
    }
    if !resource.iter().any(|(known, _)| known == "service.name") {
        resource.push(("service.name".into(), "centrifugo".into()));
    }
    resource
}

fn sampler(variable: &impl Fn(&str) -> Option<String>) -> Result<Sampler, String> {
    let name = variable("OTEL_TRACES_SAMPLER").unwrap_or_else(|| "parentbased_always_on".into());
    let (follows_parent, kind) = match name.strip_prefix("parentbased_") {
        Some(kind) => (true, kind),
        None => (false, name.as_str()),
    };
    let ratio = match kind {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => number("OTEL_TRACES_SAMPLER_ARG", variable("OTEL_TRACES_SAMPLER_ARG"), 1.0)?,
        _ => return Err(format!("OTEL_TRACES_SAMPLER: there is no sampler \"{name}\"")),
    };
    Ok(Sampler { follows_parent, ratio })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<TelemetryOptions>, String> {
        TelemetryOptions::from_environment(true, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    /// Defaults, and each variable against the specification: what is said of traces wins.
    ///
    /// Spec: opentelemetry.io, "OTLP Exporter Configuration"
    #[test]
    fn variables_are_read() {
        let defaults = read(&[]).unwrap().unwrap();
        assert_eq!(defaults.endpoint, "http://localhost:4318/v1/traces");
        assert_eq!((defaults.queue_max, defaults.batch_max, defaults.is_gzip), (2048, 512, false));
        assert_eq!(defaults.resource, [("service.name".to_owned(), "centrifugo".to_owned())]);
        assert_eq!(defaults.sampler, Sampler { follows_parent: true, ratio: 1.0 });
        let set = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c.example/base/"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, x=1"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "7"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "9"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=no,zone=z"),
            ("OTEL_SERVICE_NAME", "chat"),
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ]);
        let set = set.unwrap().unwrap();
        assert_eq!(set.endpoint, "https://c.example/base/v1/traces");
        assert_eq!(
            (&set.headers["api-key"], &set.headers["x"]),
            (&"a b".parse().unwrap(), &"1".parse().unwrap())
        );
        assert_eq!((set.timeout, set.is_gzip), (Duration::from_millis(9), true));
        let named = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(set.resource, [named("zone", "z"), named("service.name", "chat")]);
        assert_eq!(set.sampler, Sampler { follows_parent: false, ratio: 0.25 });
        let grpc = [("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "c:1")];
        assert_eq!(read(&grpc).unwrap().unwrap().endpoint, "http://c:1");
        let as_is = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c/x")];
        assert_eq!(read(&as_is).unwrap().unwrap().endpoint, "http://c/x");
    }

    /// Nothing is exported where that is asked for; what cannot be used is named.
    #[test]
    fn unusable_variables_are_named() {
        assert!(read(&[("OTEL_SDK_DISABLED", "TRUE")]).unwrap().is_none());
        assert!(read(&[("OTEL_TRACES_EXPORTER", "none")]).unwrap().is_none());
        for (name, value) in [
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "br"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://c"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=c"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent/ca.pem"),
            ("OTEL_TRACES_SAMPLER", "some"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ] {
            let problem = read(&[(name, value)]).unwrap_err();
            assert!(problem.starts_with(name), "{name}: {problem}");
        }
    }

    /// A parent decides where the sampler follows it; else the trace's number does, about as often as the ratio says.
    #[test]
    fn samplers_decide() {
        let half = Sampler { follows_parent: true, ratio: 0.5 };
        assert!(half.samples(&[0xff; 16], Some(true)) && !half.samples(&[0; 16], Some(false)));
        let deaf = Sampler { follows_parent: false, ..half };
        assert!(!deaf.samples(&[0xff; 16], Some(true)));
        let sampled = (0..=255u8).filter(|byte| {
            let mut id = [1; 16];
            id[8] = *byte;
            half.samples(&id, None)
        });
        assert_eq!(sampled.count(), 128);
        assert!(Sampler { follows_parent: true, ratio: 1.0 }.samples(&[0xff; 16], None));
        assert!(!Sampler { follows_parent: true, ratio: 0.0 }.samples(&[0; 16], None));
    }
}

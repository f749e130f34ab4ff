//! Whether this server lives, and whether it should be sent clients.
//!
//! `/health` says nothing but that somebody answers, as Centrifugo's does. `/health/live` says that the process turns: a
//! shard that has not turned for long will not by itself, and a restart helps. `/health/ready` says whether a client that
//! comes now is served: listeners, shards, certificates and the application's hooks, each with what is known of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use gyre_node::Node;
use gyre_transport::tls::CertificateResolver;
use serde::Serialize;
use x509_parser::parse_x509_certificate;

use crate::{
    hooks::{HookState, Hooks},
    metrics::{Exposition, Kind},
};

/// A shard that has not turned for so long gets no new clients.
const SHARD_STALLED: Duration = Duration::from_secs(5);
/// A shard that has not turned for so long is stuck for good.
const SHARD_STUCK: Duration = Duration::from_secs(60);
/// A hook whose last calls all failed, so many of them, is taken for dead …
const HOOK_FAILURES: u32 = 3;
/// … until nobody has called it for so long: then nothing is known of it any more.
const HOOK_MEMORY: Duration = Duration::from_secs(30);

/// What is watched.
#[derive(Debug, Default)]
pub struct Health {
    /// Shards that listen.
    listening: AtomicUsize,
    is_draining: AtomicBool,
    certificates: Vec<(String, Arc<CertificateResolver>)>,
}

/// What is known at one moment.
#[derive(Debug, Default)]
struct Facts {
    shards: usize,
    listening: usize,
    is_draining: bool,
    heartbeat_ages: Vec<Duration>,
    /// Unix time of the end of each.
    certificates: Vec<(String, Option<i64>)>,
    hooks: Vec<(String, HookState)>,
    unix_seconds: i64,
}

/// An answer of `/health/live` or `/health/ready`.
#[derive(Debug, PartialEq, Serialize)]
pub struct Report {
    /// `ok`, or `failed`.
    pub status: &'static str,
    /// What is wrong, for people.
    pub causes: Vec<String>,
    /// Everything that was looked at.
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// Nothing is wrong with it.
    pub ok: bool,
    /// Seconds since it last worked, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success_age_seconds: Option<f64>,
    /// Calls that have failed since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
    /// When it ends, in Unix time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
}

impl Report {
    fn new(checks: Vec<(Check, Option<String>)>) -> Self {
        let (checks, causes): (Vec<_>, Vec<_>) = checks.into_iter().unzip();
        let causes: Vec<String> = causes.into_iter().flatten().collect();
        Self { status: if causes.is_empty() { "ok" } else { "failed" }, causes, checks }
    }

    /// Nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.causes.is_empty()
    }
}

impl Health {
    /// Watches the certificates of these listeners; they are named as in the configuration.
    pub fn new(certificates: Vec<(String, Arc<CertificateResolver>)>) -> Self {
        Self { certificates, ..Self::default() }
    }

    /// A shard has all its listeners.
    pub fn shard_listens(&self) {
        self.listening.fetch_add(1, Ordering::Relaxed);
    }

    /// The server is about to stop.
    pub fn begin_draining(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Whether the process turns.
    pub fn live(&self, node: &Node) -> Report {
        Report::new(shards(&self.heartbeat_ages(node), SHARD_STUCK))
    }

    /// Whether a client that comes now is served.
    pub fn ready(&self, node: &Node, hooks: &Hooks) -> Report {
        Facts {
            shards: node.shard_count(),
            listening: self.listening.load(Ordering::Relaxed),
            is_draining: self.is_draining.load(Ordering::Relaxed),
            heartbeat_ages: self.heartbeat_ages(node),
            certificates: self.expiries(),
            hooks: hooks.states(),
            unix_seconds: unix_seconds(),
        }
        .judge()
    }

    fn heartbeat_ages(&self, node: &Node) -> Vec<Duration> {
        (0..node.shard_count()).map(|shard| node.heartbeat_age(shard)).collect()
    }

    fn expiries(&self) -> Vec<(String, Option<i64>)> {
        self.certificates.iter().map(|(name, resolver)| (name.clone(), expiry(resolver))).collect()
    }

    /// Adds what metrics tell of it.
    pub(crate) fn add(&self, exposition: &mut Exposition) {
        let is_draining = self.is_draining.load(Ordering::Relaxed);
        exposition.gauge("gyre_draining", "1 while the server stops.", f64::from(u8::from(is_draining)));
        for (name, expires_at) in self.expiries() {
            if let Some(at) = expires_at {
                let labels = vec![("listener", name.into())];
                let help = "End of a certificate, in Unix time.";
                let name = "gyre_certificate_expires_at_seconds";
                exposition.sample(name, help, Kind::Gauge, labels, at as f64);
            }
        }
    }
}

impl Facts {
    fn judge(&self) -> Report {
        let is_listening = self.listening >= self.shards;
        let listeners = Check { name: "listeners".into(), ok: is_listening, ..Check::default() };
        let draining = Check { name: "draining".into(), ok: !self.is_draining, ..Check::default() };
        let mut checks = vec![
            (listeners, (!is_listening).then(|| "not all listeners are up".to_owned())),
            (draining, self.is_draining.then(|| "the server is stopping".to_owned())),
        ];
        checks.extend(shards(&self.heartbeat_ages, SHARD_STALLED));
        checks.extend(self.certificates.iter().map(|(name, expires_at)| self.certificate(name, *expires_at)));
        checks.extend(self.hooks.iter().map(|(name, state)| hook(name, state)));
        Report::new(checks)
    }

    fn certificate(&self, name: &str, expires_at: Option<i64>) -> (Check, Option<String>) {
        let ok = expires_at.is_none_or(|at| at > self.unix_seconds);
        let cause = (!ok).then(|| format!("the certificate of {name} has expired"));
        (Check { name: format!("certificate {name}"), ok, expires_at, ..Check::default() }, cause)
    }
}

fn shards(ages: &[Duration], limit: Duration) -> Vec<(Check, Option<String>)> {
    let check = |(i, age): (usize, &Duration)| {
        let (ok, seconds) = (*age < limit, age.as_secs_f64());
        let cause = (!ok).then(|| format!("shard {i} has not turned for {seconds:.0} s"));
        let last_success_age_seconds = Some(seconds);
        (Check { name: format!("shard {i}"), ok, last_success_age_seconds, ..Check::default() }, cause)
    };
    ages.iter().enumerate().map(check).collect()
}

fn hook(name: &str, state: &HookState) -> (Check, Option<String>) {
    let is_dead = state.failures >= HOOK_FAILURES && state.last_call_age.is_some_and(|age| age < HOOK_MEMORY);
    let cause = is_dead.then(|| format!("the last {} calls of the hook {name} have failed", state.failures));
    let check = Check {
        name: format!("hook {name}"),
        ok: !is_dead,
        last_success_age_seconds: state.last_success_age.map(|age| age.as_secs_f64()),
        failures: Some(state.failures),
        expires_at: None,
    };
    (check, cause)
}

/// Unix time of the end of the certificate that is served.
fn expiry(resolver: &CertificateResolver) -> Option<i64> {
    let leaf = resolver.leaf()?;
    let (_, certificate) = parse_x509_certificate(&leaf).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

fn unix_seconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Facts {
        let seconds = Duration::from_secs;
        Facts {
            shards: 2,
            listening: 2,
            heartbeat_ages: vec![seconds(0), seconds(1)],
            certificates: vec![("http_server.tls".into(), Some(2_000))],
            hooks: vec![("connect".into(), HookState::default())],
            unix_seconds: 1_000,
            ..Facts::default()
        }
    }

    fn failing(failures: u32, age_seconds: u64) -> HookState {
        let last_call_age = Some(Duration::from_secs(age_seconds));
        HookState { failures, last_call_age, last_success_age: None }
    }

    /// Each thing that can be wrong makes the server not ready, alone and with a cause that names it; without any it is
    /// ready.
    #[test]
    fn each_failure_has_its_cause() {
        assert!(well().judge().is_ok(), "{:?}", well().judge());
        type Spoil = fn(&mut Facts);
        let wrong: [(Spoil, &str); 5] = [
            (|facts| facts.listening = 1, "not all listeners are up"),
            (|facts| facts.is_draining = true, "the server is stopping"),
            (|facts| facts.heartbeat_ages[1] = Duration::from_secs(6), "shard 1 has not turned for 6 s"),
            (|facts| facts.unix_seconds = 2_000, "the certificate of http_server.tls has expired"),
            (|facts| facts.hooks[0].1 = failing(3, 1), "the last 3 calls of the hook connect have failed"),
        ];
        for (spoil, cause) in wrong {
            let mut facts = well();
            spoil(&mut facts);
            let report = facts.judge();
            assert_eq!((report.status, report.causes), ("failed", vec![cause.to_owned()]));
            assert_eq!(report.checks.iter().filter(|check| !check.ok).count(), 1);
        }
        // Two failures may be chance; of what nobody has called lately nothing is known.
        for state in [failing(2, 1), failing(9, 31)] {
            let mut facts = well();
            facts.hooks[0].1 = state;
            assert!(facts.judge().is_ok());
        }
    }

    /// What is only slow lives.
    #[test]
    fn liveness_is_patient() {
        let seconds = Duration::from_secs;
        assert!(Report::new(shards(&[seconds(59)], SHARD_STUCK)).is_ok());
        assert!(!Report::new(shards(&[seconds(61)], SHARD_STUCK)).is_ok());
    }

    /// The end of a certificate is read from what is served: one made for the test.
    #[test]
    fn reads_the_end_of_certificates() {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.not_after = time::OffsetDateTime::from_unix_timestamp(1_900_000_000).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let resolver = CertificateResolver::from_pem(pem.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        assert_eq!(expiry(&resolver), Some(1_900_000_000));
    }
}

//! Keys whose feature this version does not have yet: said at the start.

use super::{Section, Warning, read::Findings};

/// Switches of what is not there: the object that has each, and the key.
const SWITCHES: [(&str, &str); 4] =
    [("debug", "enabled"), ("opentelemetry", "enabled"), ("graphite", "enabled"), ("controller", "enabled")];

/// Values of what is not there: the object that has each, and the key. Other values than the default do nothing.
const VALUES: [(&str, &str); 5] = [
    ("shutdown", "drain_window"),
    ("client", "write_delay"),
    ("prometheus", "instrument_http_handlers"),
    ("prometheus", "recovered_publications_histogram"),
    ("prometheus", "native_histograms"),
];

pub(super) fn check(raw: &Section, findings: &mut Findings) {
    let mut warn = |path: &str| {
        let message = format!("{path} is accepted, but this version does nothing with it");
        findings.warnings.push(Warning::new(message));
    };
    for (object, key) in SWITCHES.iter().filter(|(object, key)| raw.at(object).bool(key)) {
        warn(&format!("{object}.{key}"));
    }
    for (object, key) in VALUES.iter().filter(|(object, key)| raw.at(object).is_set(key)) {
        warn(&format!("{object}.{key}"));
    }
    for (i, _) in raw.objects("consumers").iter().enumerate().filter(|(_, c)| c.bool("enabled")) {
        warn(&format!("consumers[{i}]"));
    }
}

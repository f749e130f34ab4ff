use std::{fs, sync::Arc};

use rustls::{
    CertificateError as TlsCertificateError, Error as TlsError, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    pki_types::{ServerName, UnixTime},
};

use super::*;
use crate::dev::state::tests::TestFolder;

/// 2026-01-01T00:00:00Z.
const START: i64 = 1_767_225_600;

fn at(unix: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(unix.unsigned_abs())
}

fn load(folder: &StateFolder, names: &[String], unix: i64) -> (Certificates, Vec<StateWarning>) {
    let mut warnings = Vec::new();
    let certificates = Certificates::load_or_create(folder.clone(), names, at(unix), &mut warnings).unwrap();
    (certificates, warnings)
}

/// What a TLS client that trusts just this certificate says about it.
fn verify(certificate: &PinnedCertificate, name: &str, unix: i64) -> Result<(), TlsError> {
    let der = CertificateDer::from_pem_slice(certificate.certificate_pem().as_bytes()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let name = ServerName::try_from(name).unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(unix.unsigned_abs()));
    verifier.verify_server_cert(&der, &[], &name, &[], now).map(|_| ())
}

/// Spec: W3C WebTransport, custom certificate requirements.
#[test]
fn certificate_is_what_browsers_demand() {
    // An independent verifier judges names and both ends of the validity; TLS accepts the key.
    let folder = TestFolder::new();
    let names = ["dev.example".to_owned(), "192.0.2.7".to_owned()];
    let (certificates, warnings) = load(&folder, &names, START);
    let certificate = certificates.current();
    for name in ["localhost", "127.0.0.1", "::1", "dev.example", "192.0.2.7"] {
        assert_eq!(verify(certificate, name, START), Ok(()), "{name}");
    }
    assert!(verify(certificate, "other.example", START).is_err());
    let end = START - HOUR + VALIDITY;
    assert_eq!(verify(certificate, "localhost", START - HOUR), Ok(()));
    assert_eq!(verify(certificate, "localhost", end), Ok(()));
    assert!(matches!(
        verify(certificate, "localhost", START - HOUR - 1),
        Err(TlsError::InvalidCertificate(TlsCertificateError::NotValidYetContext { .. }))
    ));
    assert!(matches!(
        verify(certificate, "localhost", end + 1),
        Err(TlsError::InvalidCertificate(TlsCertificateError::ExpiredContext { .. }))
    ));
    const { assert!(VALIDITY <= 14 * DAY) };
    let (pem, key) = (certificate.certificate_pem(), certificate.private_key_pem());
    gyre_transport::tls::CertificateResolver::from_pem(pem.as_bytes(), key.as_bytes()).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn hashes_name_certificate_and_key() {
    // The announced values are recomputed from the PEM; the key's from the known form of a P-256 key.
    let folder = TestFolder::new();
    let (certificates, _) = load(&folder, &[], START);
    let [hash] = &certificates.hashes()[..] else { panic!("one certificate, one hash") };
    let der = CertificateDer::from_pem_slice(certificates.current().certificate_pem().as_bytes()).unwrap();
    assert_eq!(hash.value, STANDARD.encode(digest(&SHA256, &der)));
    // SubjectPublicKeyInfo of P-256: 26 fixed bytes, then 65 of the point, which also stands in the certificate.
    let key = KeyPair::from_pem(certificates.current().private_key_pem()).unwrap();
    let spki = key.subject_public_key_info();
    assert_eq!(spki.len(), 91);
    assert!(spki.ends_with(key.public_key_raw()) && der.windows(91).any(|window| window == spki));
    assert_eq!(hash.spki, STANDARD.encode(digest(&SHA256, &spki)));
    assert_eq!(hash.not_after, "2026-01-13T23:00:00Z");
    let document = format!(
        r#"{{"hashes":[{{"algorithm":"sha-256","value":"{}","spki":"{}","not_after":"2026-01-13T23:00:00Z"}}]}}"#,
        hash.value, hash.spki
    );
    assert_eq!(hashes_document(&certificates.hashes()), document);
}

#[test]
fn restart_keeps_the_certificate() {
    // A second start finds the first one's certificate, also with fewer names, but not with other names.
    let folder = TestFolder::new();
    let names = ["a.example".to_owned(), "b.example".to_owned()];
    let (first, _) = load(&folder, &names, START);
    for (names, is_kept) in
        [(&names[..], true), (&names[1..], true), (&[], true), (&["c.example".to_owned()][..], false)]
    {
        let (second, warnings) = load(&folder, names, START + DAY);
        assert_eq!(second.hashes() == first.hashes(), is_kept, "{names:?}");
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}

#[test]
fn rotation_announces_before_it_serves() {
    // A year of changes, each at its time: every certificate but the first was announced two days before it is
    // served, none is served in its last 23 hours, and a restart at any step changes nothing.
    let folder = TestFolder::new();
    let (mut certificates, _) = load(&folder, &[], START);
    let (mut now, mut announced_at, mut changes) = (START, START, 0);
    while now < START + 365 * DAY {
        let due = unix_seconds(certificates.next_change());
        assert!(due > now, "a change must not be due again at once");
        let before = certificates.hashes();
        assert_eq!(certificates.advance(at(due - 1), &mut Vec::new()).unwrap(), Change::Nothing);
        let change = certificates.advance(at(due), &mut Vec::new()).unwrap();
        now = due;
        match (change, &before[..], &certificates.hashes()[..]) {
            (Change::Announced, [old], [same, _next]) => {
                assert_eq!(old, same);
                announced_at = now;
            }
            (Change::Served, [_old, next], [current]) => {
                assert_eq!(next, current);
                assert!(now - announced_at >= 2 * DAY);
                changes += 1;
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(verify(certificates.current(), "localhost", now + 23 * HOUR), Ok(()));
        let (restarted, warnings) = load(&folder, &[], now);
        assert_eq!(restarted.hashes(), certificates.hashes());
        assert!(warnings.is_empty(), "{warnings:?}");
    }
    assert_eq!(changes, 36);
}

#[test]
fn start_after_a_long_pause() {
    // Each pause ends with a valid certificate; the announced one takes over while it is good.
    for (days, takes_over) in [(5, false), (11, false), (14, true), (19, true), (60, false)] {
        let folder = TestFolder::new();
        let (mut certificates, _) = load(&folder, &[], START);
        let due = certificates.next_change();
        assert_eq!(certificates.advance(due, &mut Vec::new()).unwrap(), Change::Announced);
        let announced = certificates.hashes()[1].clone();
        let now = START + days * DAY;
        let (restarted, _) = load(&folder, &[], now);
        assert_eq!(restarted.hashes()[0] == announced, takes_over, "after {days} days");
        assert_eq!(verify(restarted.current(), "localhost", now + 23 * HOUR), Ok(()), "after {days} days");
        assert!(restarted.next_change() > at(now), "after {days} days");
    }
}

#[test]
fn clock_set_back() {
    // A certificate from the future is not valid yet, so another one is made.
    let folder = TestFolder::new();
    let (first, _) = load(&folder, &[], START);
    let (second, _) = load(&folder, &[], START - 2 * HOUR);
    assert_ne!(first.hashes(), second.hashes());
    assert_eq!(verify(second.current(), "localhost", START - 2 * HOUR), Ok(()));
}

#[test]
fn damaged_files_are_replaced() {
    // Whatever the file holds, the start goes on with a new certificate and a warning, and that one stays.
    let folder = TestFolder::new();
    let file = folder.path().join(FILE);
    load(&folder, &[], START);
    let good = fs::read_to_string(&file).unwrap();
    let other = TestFolder::new();
    load(&other, &[], START);
    let other: Stored = serde_json::from_slice(&fs::read(other.path().join(FILE)).unwrap()).unwrap();
    let change = |change: &dyn Fn(&mut Stored)| {
        let mut stored: Stored = serde_json::from_str(&good).unwrap();
        change(&mut stored);
        serde_json::to_string(&stored).unwrap()
    };
    let contents = [
        String::new(),
        "{}".to_owned(),
        good[..good.len() / 2].to_owned(),
        change(&|stored| stored.current.certificate.clear()),
        change(&|stored| stored.current.certificate = stored.current.certificate.replace("MII", "MIJ")),
        change(&|stored| stored.current.private_key = "x".to_owned()),
        change(&|stored| stored.current.private_key = other.current.private_key.clone()),
        change(&|stored| stored.current.not_after += 2 * DAY),
        change(&|stored| stored.current.not_before = i64::MIN),
        change(&|stored| {
            stored.next = Some(StoredCertificate {
                names: Vec::new(),
                not_before: 0,
                not_after: 0,
                ..stored.current.clone()
            })
        }),
    ];
    for content in contents {
        fs::write(&file, &content).unwrap();
        let (replaced, warnings) = load(&folder, &[], START);
        assert!(matches!(&warnings[..], [StateWarning::Replaced { .. }]), "{content}: {warnings:?}");
        assert_eq!(verify(replaced.current(), "localhost", START), Ok(()));
        let (again, warnings) = load(&folder, &[], START);
        assert_eq!(again.hashes(), replaced.hashes());
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}

#[test]
fn impossible_requests_are_errors() {
    // A name outside the alphabet of DNS and a clock beyond all dates are reported, not panicked over.
    let folder = TestFolder::new();
    let made = |names: &[String], now| {
        Certificates::load_or_create(folder.clone(), names, now, &mut Vec::new()).map(|_| ())
    };
    assert!(matches!(made(&["bücher.example".to_owned()], at(START)), Err(CertificateError::Make(_))));
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(i64::MAX as u64);
    assert!(matches!(made(&[], far), Err(CertificateError::Clock(_))));
    // Before 1970 counts as 1970.
    assert!(made(&[], SystemTime::UNIX_EPOCH - Duration::from_secs(5)).is_ok());
}

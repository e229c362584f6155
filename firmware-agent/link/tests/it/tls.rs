//! TLS and mutual TLS against a real Mosquitto, with certificates made here: what must be accepted, what must be
//! refused and in which words, and that nothing that waited is lost over a refusal.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use agent_link::{Broker, ClientKey, Link, LinkConfig, LinkError, ListenConfig, Listener, Tls, TlsError};
use agent_wire::{Message, Severity};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rcgen::{KeyUsagePurpose, PublicKeyData, date_time_ymd};

use crate::support::*;

/// An authority that signs; its name matters to nobody but OpenSSL, which wants them different.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
pub(crate) struct Signed {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Valid from the start of one year to the start of another.
    fn sign(&self, names: &[&str], purpose: ExtendedKeyUsagePurpose, years: (i32, i32)) -> Signed {
        let key = KeyPair::generate().unwrap();
        Signed { certificate: self.certify(names, purpose, years, &key), key: key.serialize_pem() }
    }

    fn certify(
        &self,
        names: &[&str],
        purpose: ExtendedKeyUsagePurpose,
        years: (i32, i32),
        key: &impl PublicKeyData,
    ) -> String {
        let mut params = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(DnType::CommonName, names[0]);
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        params.extended_key_usages = vec![purpose];
        params.signed_by(key, &self.issuer).unwrap().pem()
    }

    /// The certificate of a unit whose key is elsewhere.
    pub(crate) fn unit_with(&self, key: &impl PublicKeyData) -> String {
        self.certify(&["unit-7"], ExtendedKeyUsagePurpose::ClientAuth, LONG, key)
    }

    pub(crate) fn broker(&self) -> Signed {
        self.sign(&["localhost", "127.0.0.1", "::1"], ExtendedKeyUsagePurpose::ServerAuth, LONG)
    }

    fn unit(&self) -> Signed {
        self.sign(&["unit-7"], ExtendedKeyUsagePurpose::ClientAuth, LONG)
    }
}

const LONG: (i32, i32) = (2020, 2090);

/// Mosquitto with this certificate, asking for one of `clients` if given.
pub(crate) fn mosquitto(port: u16, address: &str, own: &Signed, clients: Option<&Authority>) -> Option<Mosquitto> {
    let mut files = vec![("broker.pem", own.certificate.clone()), ("broker.key", own.key.clone())];
    let mut lines = "certfile FOLDER/broker.pem\nkeyfile FOLDER/broker.key\n".to_owned();
    if let Some(clients) = clients {
        files.push(("clients.pem", clients.pem.clone()));
        lines += "cafile FOLDER/clients.pem\nrequire_certificate true\n";
    }
    Mosquitto::start_with(port, address, &files, &lines)
}

pub(crate) fn tls(authority: &Authority, unit: Option<&Signed>) -> Tls {
    Tls {
        ca_pem: authority.pem.clone().into_bytes(),
        client: unit.map(|u| (u.certificate.clone().into_bytes(), ClientKey::Pem(u.key.clone().into_bytes()))),
    }
}

pub(crate) fn secure(port: u16, host: &str, tls: Tls) -> LinkConfig {
    let mut config = config(port);
    config.broker = Broker::parse(&format!("mqtts://{host}:{port}")).unwrap();
    config.tls = Some(tls);
    config
}

/// Enqueues these alerts and waits until the link has ended this many times with a reason that holds `words`.
fn refused(config: LinkConfig, folder: &Path, events: std::ops::RangeInclusive<u32>, words: &str) {
    let link = start(config, folder);
    let count = events.clone().count();
    for seq in events {
        link.enqueue(&alert(seq, Severity::Critical)).unwrap();
    }
    let said = |s: &agent_link::LinkStats| s.last_end.as_ref().is_some_and(|why| why.contains(words));
    assert!(link.wait_for(DEADLINE, |s| s.disconnects >= 3 && said(s)), "wanted {words:?}: {:?}", link.stats());
    let stats = link.stop(Duration::ZERO);
    println!("{}", stats.last_end.as_deref().unwrap_or_default());
    assert_eq!((stats.connects, stats.acked_alerts), (0, 0), "{stats:?}");
    assert!(stats.waiting >= count && stats.not_durable == 0, "{stats:?}");
}

/// The link with the right certificates brings all of these, and the listener at the same broker sees them.
pub(crate) fn arrives(config: LinkConfig, folder: &Path, events: &BTreeSet<u32>) {
    let mut listen = ListenConfig::new(config.broker.clone(), "fleet-side");
    listen.tls = config.tls.clone();
    let listener = Listener::start(listen).unwrap();
    assert!(listener.wait_subscribed(DEADLINE), "{:?}", listener.stats());
    let link = start(config, folder);
    assert!(link.drain(DEADLINE), "{:?}", link.stats());
    let (mut came, end) = (BTreeSet::new(), Instant::now() + DEADLINE);
    while came != *events && Instant::now() < end {
        if let Some(Ok(Message::Alert(alert))) = listener.recv(Duration::from_millis(100)).map(|r| r.message) {
            came.insert(alert.event.seq);
        }
    }
    assert_eq!(came, *events);
    let stats = link.stop(DEADLINE);
    assert_eq!((stats.waiting, stats.last_end.is_none() || stats.connects == 1), (0, true), "{stats:?}");
}

#[test]
fn each_wrong_certificate_is_refused_in_words_and_nothing_is_lost() {
    let (ours, strangers) = (Authority::new("ours"), Authority::new("strangers"));
    let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
    let server = |names: &[&str], years| ours.sign(names, ExtendedKeyUsagePurpose::ServerAuth, years);
    let right = tls(&ours, None);
    let cases = [
        (server(&["localhost"], (2001, 2002)), "has expired"),
        (server(&["localhost"], (2080, 2090)), "not valid yet"),
        (server(&["broker.example"], LONG), "another host name"),
        (strangers.broker(), "not signed by an authority"),
        (ours.sign(&["localhost"], ExtendedKeyUsagePurpose::ClientAuth, LONG), "does not verify"),
    ];
    let mut next = 1;
    for (certificate, words) in cases {
        let Some(_broker) = mosquitto(port, "127.0.0.1", &certificate, None) else { return };
        refused(secure(port, "localhost", right.clone()), folder.path(), next..=next + 4, words);
        next += 5;
    }
    // The same outbox once the broker has the certificate that it should have.
    let Some(_broker) = mosquitto(port, "127.0.0.1", &ours.broker(), None) else { return };
    arrives(secure(port, "localhost", right), folder.path(), &(1..next).collect());
}

#[test]
fn mutual_tls_takes_the_unit_and_refuses_strangers() {
    let (ours, strangers) = (Authority::new("ours"), Authority::new("strangers"));
    let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
    let Some(_broker) = mosquitto(port, "127.0.0.1", &ours.broker(), Some(&ours)) else { return };
    let unit = ours.unit();
    let with = |client: Option<&Signed>| secure(port, "127.0.0.1", tls(&ours, client));
    refused(with(None), folder.path(), 1..=5, "asks for a client certificate");
    refused(with(Some(&strangers.unit())), folder.path(), 6..=10, "does not trust the authority");
    let old = ours.sign(&["unit-7"], ExtendedKeyUsagePurpose::ClientAuth, (2001, 2002));
    refused(with(Some(&old)), folder.path(), 11..=15, "unit's certificate has expired");
    arrives(with(Some(&unit)), folder.path(), &(1..=15).collect());
}

#[test]
fn a_broker_that_restarts_under_mutual_tls_gets_everything() {
    let ours = Authority::new("ours");
    let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
    let (certificate, unit) = (ours.broker(), ours.unit());
    let Some(first) = mosquitto(port, "127.0.0.1", &certificate, Some(&ours)) else { return };
    let link = start(secure(port, "localhost", tls(&ours, Some(&unit))), folder.path());
    for seq in 1..=30 {
        link.enqueue(&alert(seq, Severity::Critical)).unwrap();
    }
    assert!(link.drain(DEADLINE));
    drop(first);
    assert!(link.wait_for(DEADLINE, |s| !s.connected));
    for seq in 31..=60 {
        link.enqueue(&report(seq)).unwrap();
    }
    let Some(_second) = mosquitto(port, "127.0.0.1", &certificate, Some(&ours)) else { return };
    assert!(link.drain(DEADLINE), "{:?}", link.stats());
    let stats = link.stop(DEADLINE);
    assert_eq!((stats.acked_alerts, stats.acked_reports, stats.connects), (30, 30, 2), "{stats:?}");
}

#[test]
fn tls_and_plain_on_the_wrong_port_are_said() {
    let ours = Authority::new("ours");
    let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
    {
        let Some(_plain) = Mosquitto::start(port) else { return };
        // Mosquitto closes at what is no MQTT packet, and says nothing.
        refused(secure(port, "localhost", tls(&ours, None)), folder.path(), 1..=2, "TLS: ");
    }
    let Some(_secure) = mosquitto(port, "127.0.0.1", &ours.broker(), None) else { return };
    refused(config(port), folder.path(), 3..=4, "");
    arrives(secure(port, "localhost", tls(&ours, None)), folder.path(), &(1..=4).collect());
}

#[test]
fn an_ipv6_address_is_held_against_the_certificate() {
    if TcpListener::bind("[::1]:0").is_err() {
        println!("SKIPPED: no IPv6 on this machine");
        return;
    }
    let ours = Authority::new("ours");
    let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
    let Some(_broker) = mosquitto(port, "::1", &ours.broker(), None) else { return };
    arrives(secure(port, "[::1]", tls(&ours, None)), folder.path(), &BTreeSet::new());
}

#[test]
fn certificates_that_cannot_work_are_refused_at_the_start() {
    let ours = Authority::new("ours");
    let (one, other, folder) = (ours.unit(), ours.unit(), tempfile::tempdir().unwrap());
    let why = |tls: Tls| {
        let (store, opened) = agent_link::Store::open(&folder.path().join("outbox.redb")).unwrap();
        match Link::start(secure(1, "localhost", tls), store, opened) {
            Err(LinkError::Tls(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    let mixed = Signed { certificate: one.certificate.clone(), key: other.key };
    assert!(matches!(why(tls(&ours, Some(&mixed))), TlsError::Client(_)));
    let swapped = Signed { certificate: one.key.clone(), key: one.certificate.clone() };
    assert!(matches!(why(tls(&ours, Some(&swapped))), TlsError::Missing(..)));
    let no_key = Signed { certificate: one.certificate.clone(), key: one.certificate };
    let error = why(tls(&ours, Some(&no_key)));
    assert!(error.to_string().contains("the client key's PEM holds no private key"), "{error}");
}

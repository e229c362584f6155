//! `[link]`: brokers, certificates and the outbox. Nothing here opens a connection or a file.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use agent_link::TokenUri;
use agent_link::token::SCHEME;
use serde::{Serialize, Serializer};

use super::limits;
use super::reader::{At, Section, refuse, text};
use super::tree::Files;
use super::types::{BrokerUrl, path_or_none, path_text};

/// What a broker is in an error.
const URL: &str = "a URL such as \"mqtt://host:1883\"";

/// `[link]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct LinkConfig {
    /// The MQTT broker, where there is one alone.
    pub(crate) broker: BrokerUrl,
    /// Several in the order in which they are preferred; if any, in place of `broker`.
    pub(crate) brokers: Vec<BrokerUrl>,
    /// After failing for so long a broker gives way to the next, s.
    pub(crate) fall_over_s: u32,
    /// While a lesser one is in use those before it are tried so often, s.
    pub(crate) return_s: u32,
    /// MQTT keep-alive, s.
    pub(crate) keep_alive_s: u32,
    /// Most messages published and not yet acknowledged.
    pub(crate) in_flight: u32,
    /// Health message every so often, s.
    pub(crate) health_interval_s: u32,
    /// `[link.tls]`
    pub(crate) tls: TlsConfig,
    /// `[link.outbox]`
    pub(crate) outbox: OutboxConfig,
}

/// `[link.tls]`: certificates for a broker `mqtts://`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct TlsConfig {
    /// PEM of the authorities to trust; without one the system's.
    #[serde(serialize_with = "path_or_none")]
    pub(crate) ca: Option<PathBuf>,
    /// PEM of the unit's certificate.
    #[serde(serialize_with = "path_or_none")]
    pub(crate) certificate: Option<PathBuf>,
    /// Its key.
    #[serde(serialize_with = "key_or_none")]
    pub(crate) key: Option<TlsKey>,
}

/// Where the key of the unit's certificate is. Neither form holds a secret.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TlsKey {
    /// In a PEM file.
    File(PathBuf),
    /// In a PKCS#11 token.
    Token(TokenUri),
}

impl FromStr for TlsKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("empty".to_owned()),
            _ if text.starts_with(SCHEME) => text.parse().map(Self::Token).map_err(|e| format!("{e}")),
            _ => Ok(Self::File(text.into())),
        }
    }
}

impl fmt::Display for TlsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Token(uri) => write!(f, "{uri}"),
        }
    }
}

fn key_or_none<S: Serializer>(key: &Option<TlsKey>, serializer: S) -> Result<S::Ok, S::Error> {
    match key {
        Some(key) => serializer.collect_str(key),
        None => serializer.serialize_str("none"),
    }
}

/// `[link.outbox]`: what waits on disk for the broker. Crashes never expire; these limits bind lesser messages first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct OutboxConfig {
    /// Database file.
    #[serde(serialize_with = "path_text")]
    pub(crate) store: PathBuf,
    /// Most messages.
    pub(crate) max_messages: u32,
    /// Most bytes, MB.
    pub(crate) max_mb: u32,
    /// Messages of lesser severity than a collision are given up after this long, hours.
    pub(crate) lesser_max_age_h: u32,
}

impl LinkConfig {
    /// All brokers in the order in which they are preferred, at least one.
    pub(crate) fn all_brokers(&self) -> &[BrokerUrl] {
        if self.brokers.is_empty() { std::slice::from_ref(&self.broker) } else { &self.brokers }
    }
}

pub(super) fn link(files: &mut Files, top: &mut Section<'_>) -> Option<LinkConfig> {
    let mut s = top.section(files, "link");
    let broker = s.checked(files, "broker", URL, BrokerUrl::parse);
    let brokers = brokers(files, &mut s);
    let fall_over_s = s.whole(files, "fall_over_s", 5, 3600).value;
    let return_s = s.whole(files, "return_s", 10, 86_400).value;
    // rumqttc refuses a keep-alive below 5 s; MQTT holds it in 16 bits.
    let keep_alive_s = s.whole(files, "keep_alive_s", 5, u32::from(u16::MAX)).value;
    let in_flight = s.whole(files, "in_flight", 1, limits::MAX_IN_FLIGHT).value;
    let health_interval_s = s.whole(files, "health_interval_s", 5, 86_400).value;
    let tls = tls(files, &mut s);
    let mut o = s.section(files, "outbox");
    let outbox = OutboxConfig {
        store: o.path(files, "store"),
        max_messages: o.whole(files, "max_messages", 100, limits::MAX_OUTBOX_MESSAGES).value,
        max_mb: o.whole(files, "max_mb", 1, limits::MAX_OUTBOX_MB).value,
        lesser_max_age_h: o.whole(files, "lesser_max_age_h", 1, 8760).value,
    };
    o.finish(files);
    s.finish(files);
    let broker = broker?.value;
    Some(LinkConfig { broker, brokers, fall_over_s, return_s, keep_alive_s, in_flight, health_interval_s, tls, outbox })
}

/// Brokers by preference. The same one twice would only be failed over to itself.
fn brokers(files: &mut Files, link: &mut Section<'_>) -> Vec<BrokerUrl> {
    let mut out: Vec<BrokerUrl> = Vec::new();
    for (i, node) in link.list(files, "brokers", limits::MAX_BROKERS).value.iter().enumerate() {
        let key = link.key(&format!("brokers[{i}]"));
        let At { value, spot: Some(spot) } = text(files, &key, node, URL) else { continue };
        match BrokerUrl::parse(&value) {
            Ok(url) if out.contains(&url) => refuse(files, spot, key, "there already".to_owned()),
            Ok(url) => out.push(url),
            Err(reason) => refuse(files, spot, key, reason),
        }
    }
    out
}

/// A certificate without its key, or a key without its certificate, proves nothing.
fn tls(files: &mut Files, link: &mut Section<'_>) -> TlsConfig {
    let mut s = link.section(files, "tls");
    let ca = s.path_or_none(files, "ca").value;
    let certificate = s.path_or_none(files, "certificate");
    let key = |text: &str| if text == "none" { Ok(None) } else { text.parse().map(Some) };
    let key = s.checked(files, "key", "a path, a URI \"pkcs11:...\" or \"none\"", key);
    let key = key.unwrap_or(At { value: None, spot: None });
    let lone = match (&certificate.value, &key.value) {
        // A key that was refused has no place, and one word is enough.
        (Some(_), None) if key.spot.is_some() => {
            certificate.spot.map(|spot| (spot, "certificate", "but link.tls.key is none"))
        }
        (None, Some(_)) => key.spot.map(|spot| (spot, "key", "but link.tls.certificate is none")),
        _ => None,
    };
    if let Some((spot, name, reason)) = lone {
        refuse(files, spot, s.key(name), reason.to_owned());
    }
    s.finish(files);
    TlsConfig { ca, certificate: certificate.value, key: key.value }
}

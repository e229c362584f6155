//! The address of the broker. Nothing here connects.

use core::fmt;

use serde::{Serialize, Serializer};

/// An MQTT broker: `mqtt://host:port`, or `mqtts://` with TLS. No user and password: a configuration is printed and hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BrokerUrl {
    /// With TLS.
    pub(crate) secure: bool,
    /// Host name or address, without the brackets of IPv6.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
}

impl BrokerUrl {
    /// Checks and takes a URL; without a port it is 1883, with TLS 8883.
    ///
    /// # Errors
    /// Why it was refused, as the end of the sentence `link.broker is ..., `.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let (secure, rest) = match (url.strip_prefix("mqtt://"), url.strip_prefix("mqtts://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err("not of the form mqtt://host:port or mqtts://host:port".to_owned()),
        };
        if rest.contains('@') {
            return Err("with a user: credentials have no place in a configuration that is printed".to_owned());
        }
        let (host, port) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, port.strip_prefix(':').or(Some(""))),
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let bracketed = rest.starts_with('[');
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || (bracketed && c == ':');
        if host.is_empty() {
            return Err("without a host".to_owned());
        }
        if let Some(c) = host.chars().find(|c| !fits(*c)) {
            return Err(format!("with {c:?} in the host; the form is mqtt://host:port"));
        }
        let port = match port {
            None if secure => 8883,
            None => 1883,
            Some(port) => match port.parse::<u16>() {
                Ok(port) if port > 0 => port,
                _ => return Err(format!("with {port:?} for a port, which is a number from 1 to 65535")),
            },
        };
        Ok(Self { secure, host: host.to_owned(), port })
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "mqtts" } else { "mqtt" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

impl Serialize for BrokerUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

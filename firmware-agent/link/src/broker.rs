//! Where the broker is: `mqtt://[user[:password]@]host[:port]`, or `mqtts://` for TLS.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::tokio_rustls::rustls::ClientConfig;
use rumqttc::{MqttOptions, TlsConfiguration, Transport};

use crate::limits::CLIENT_ID_BYTES;
use crate::tls::{Tls, TlsError};

/// A checked broker address. `Display` never shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Broker {
    host: String,
    port: u16,
    login: Option<(String, String)>,
    secure: bool,
}

/// Why text is no broker address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// Not `mqtt://` or `mqtts://`.
    #[error("{0:?} does not begin with mqtt:// or mqtts://")]
    Scheme(String),
    /// No host.
    #[error("{0:?} names no host")]
    NoHost(String),
    /// A character that no host name has.
    #[error("host {0:?} has a character that is not allowed in a host name")]
    Host(String),
    /// Not a port.
    #[error("port {0:?} is not a number from 1 to 65535")]
    Port(String),
    /// Something follows the port.
    #[error("{0:?} follows the port: a broker address has no path")]
    Path(String),
    /// MQTT needs a client id.
    #[error("the client id has {0} bytes, 1 to {CLIENT_ID_BYTES} are allowed")]
    ClientId(usize),
}

impl Broker {
    /// Checks an address. The port is 1883 or, for `mqtts`, 8883 unless given.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub fn parse(url: &str) -> Result<Self, BrokerError> {
        let (secure, rest) = match (url.strip_prefix("mqtt://"), url.strip_prefix("mqtts://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err(BrokerError::Scheme(url.chars().take(12).collect())),
        };
        let (login, rest) = match rest.rsplit_once('@') {
            Some((login, rest)) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                (Some((user.to_owned(), password.to_owned())), rest)
            }
            None => (None, rest),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if let Some(at) = rest.find(['/', '?', '#']) {
            return Err(BrokerError::Path(rest[at..].to_owned()));
        }
        // An IPv6 address stands in brackets, whose colons are not the port's.
        let (host, port) = match rest.rfind(':').filter(|at| rest.rfind(']').is_none_or(|b| b < *at)) {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        if host.is_empty() {
            return Err(BrokerError::NoHost(rest.to_owned()));
        }
        if host.chars().any(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']' | '%'))) {
            return Err(BrokerError::Host(host.to_owned()));
        }
        let port = match port {
            Some(text) => text.parse().ok().filter(|p| *p != 0).ok_or_else(|| BrokerError::Port(text.to_owned()))?,
            None if secure => 8883,
            None => 1883,
        };
        Ok(Self { host: host.to_owned(), port, login, secure })
    }

    /// Whether connections to it are by TLS.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.secure
    }

    /// The TLS configuration of all connections to this broker, `None` for plain `mqtt://`.
    pub(crate) fn secure(&self, tls: Option<&Tls>) -> Result<Option<Arc<ClientConfig>>, TlsError> {
        if self.secure { tls.unwrap_or(&Tls::default()).client_config().map(Some) } else { Ok(None) }
    }

    /// rumqttc's options for one connection. Keep-alive is brought into the range that rumqttc and MQTT accept.
    /// `secure` is what [`Self::secure`] made.
    pub(crate) fn options(
        &self,
        client_id: &str,
        keep_alive: Duration,
        secure: Option<&Arc<ClientConfig>>,
    ) -> Result<MqttOptions, BrokerError> {
        if client_id.is_empty() || client_id.len() > CLIENT_ID_BYTES {
            return Err(BrokerError::ClientId(client_id.len()));
        }
        // rumqttc holds the certificate against the same text that it connects to, and an address stands in a
        // certificate without brackets.
        let bare = self.host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).filter(|_| self.secure);
        let mut options = MqttOptions::new(client_id, bare.unwrap_or(&self.host), self.port);
        options.set_keep_alive(keep_alive.clamp(Duration::from_secs(1), Duration::from_secs(u64::from(u16::MAX))));
        if let Some((user, password)) = &self.login {
            options.set_credentials(user, password);
        }
        if let Some(config) = secure {
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(config))));
        }
        Ok(options)
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", if self.secure { "mqtts" } else { "mqtt" }, self.host, self.port)
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_the_password_is_not_shown() {
        let shown = |url: &str| Broker::parse(url).map(|b| b.to_string());
        assert_eq!(shown("mqtt://localhost").unwrap(), "mqtt://localhost:1883");
        assert_eq!(shown("mqtts://b.example/").unwrap(), "mqtts://b.example:8883");
        assert_eq!(shown("mqtt://u:p@ss@[::1]:99").unwrap(), "mqtt://[::1]:99");
        assert_eq!(shown("mqtt://[fe80::1]").unwrap(), "mqtt://[fe80::1]:1883");
        assert_eq!(Broker::parse("mqtt://u:p@h").unwrap().login, Some(("u".into(), "p".into())));
        assert!(!format!("{:?}", Broker::parse("mqtt://u:secret@h")).contains("secret"));
    }

    #[test]
    fn broken_addresses_name_what_is_wrong() {
        let error = |url: &str| Broker::parse(url).unwrap_err();
        assert!(matches!(error("http://h"), BrokerError::Scheme(_)));
        assert!(matches!(error("mqtt://"), BrokerError::NoHost(_)));
        assert!(matches!(error("mqtt://:1883"), BrokerError::NoHost(_)));
        assert!(matches!(error("mqtt://h:0"), BrokerError::Port(_)));
        assert!(matches!(error("mqtt://h:99999"), BrokerError::Port(_)));
        assert!(matches!(error("mqtt://h/x"), BrokerError::Path(_)));
        assert!(matches!(error("mqtt://a b"), BrokerError::Host(_)));
        let broker = Broker::parse("mqtt://h").unwrap();
        assert!(matches!(broker.options("", Duration::ZERO, None), Err(BrokerError::ClientId(0))));
    }
}

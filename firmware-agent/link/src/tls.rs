//! TLS towards the broker: certificates are read and checked once, before the first connection.
//!
//! Terms: the *authority* (CA) signs the broker's certificate; with a *client certificate* the unit proves itself to
//! the broker (mutual TLS). Its key is in a file or in a [token](crate::token). Cryptography is ring's, chosen here by name and not by what else is linked.
//!
//! What it never does: accept a certificate that does not verify, or one for another host name; there is no switch
//! for that. It reads no files: the caller hands over what it read. It checks dates against the system's clock, so that
//! a unit whose clock is not set yet is refused until it is: nothing is lost meanwhile.

use std::fmt;
use std::sync::Arc;

use rumqttc::tokio_rustls::rustls::crypto::ring;
use rumqttc::tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use rumqttc::tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rumqttc::tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use rumqttc::tokio_rustls::rustls::{self, AlertDescription, CertificateError, ClientConfig, RootCertStore};
use rumqttc::{ConnectionError, StateError, TlsError as RumqttcTls, mqttbytes};

use crate::limits::{CHAIN, PEM_BYTES};
use crate::token::{Token, TokenError, TokenKey, TokenUri};

/// Certificates for `mqtts://`. Without one the system's root certificates are used, and no client certificate.
#[derive(Clone, Default)]
pub struct Tls {
    /// PEM of the certificate authorities to trust. Empty: those of the system.
    pub ca_pem: Vec<u8>,
    /// PEM of the unit's certificate, with any intermediate ones after it, and its key.
    pub client: Option<(Vec<u8>, ClientKey)>,
}

/// The key of the unit's certificate.
#[derive(Clone)]
pub enum ClientKey {
    /// Its PEM (PKCS#8, PKCS#1 or SEC1).
    Pem(Vec<u8>),
    /// In a PKCS#11 token, which signs.
    Token(Arc<Token>),
}

impl ClientKey {
    /// The key at `uri` to the certificate in `certificate_pem`. The token is not touched yet: see [`Token::check`].
    ///
    /// # Errors
    /// The certificate cannot be read or its key is of a kind that no token is asked for, or the system gives no thread.
    pub fn in_token(uri: TokenUri, certificate_pem: &[u8]) -> Result<Self, TlsError> {
        let chain = certificates(PemOf::Certificate, certificate_pem)?;
        let first = chain.first().ok_or(TlsError::Missing(PemOf::Certificate, "certificate"))?;
        let token = Token::start(uri, first).ok_or(TlsError::KeyKind)?;
        token.map(|token| Self::Token(Arc::new(token))).map_err(|e| TlsError::Thread(e.to_string()))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("ca_pem", &self.ca_pem.len()).field("client", &self.client.is_some()).finish()
    }
}

/// Which PEM an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PemOf {
    /// The certificate authority.
    Authority,
    /// The unit's certificate.
    Certificate,
    /// The unit's key.
    Key,
}

impl fmt::Display for PemOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authority => "the certificate authority's PEM",
            Self::Certificate => "the client certificate's PEM",
            Self::Key => "the client key's PEM",
        })
    }
}

/// Why certificates cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// Longer than any real one.
    #[error("{0} has {1} bytes, at most {PEM_BYTES} are read")]
    TooLong(PemOf, usize),
    /// More certificates than any real one.
    #[error("{0} holds more than {CHAIN} certificates")]
    TooMany(PemOf),
    /// Not PEM.
    #[error("{0} cannot be read: {1}")]
    Pem(PemOf, String),
    /// PEM without what is needed.
    #[error("{0} holds no {1}")]
    Missing(PemOf, &'static str),
    /// A certificate of the authority that is none.
    #[error("certificate {number} of the authority's PEM is not usable: {why}")]
    Authority {
        /// Counted from 1.
        number: usize,
        /// Why.
        why: String,
    },
    /// Key and certificate are not of one pair, or of a kind that is not known.
    #[error("the client certificate and its key cannot be used: {0}")]
    Client(String),
    /// The certificate's key is of a kind that no token is asked for.
    #[error(
        "the client certificate cannot be read, or its key is not of a kind that a token signs with here: P-256, P-384, RSA, Ed25519"
    )]
    KeyKind,
    /// The token is given no thread.
    #[error("the system gives no thread for the token: {0}")]
    Thread(String),
    /// The system has no root certificates.
    #[error("no certificate authority was given and the system has no root certificates{0}")]
    NoSystemRoots(String),
    /// The cryptography offers no protocol version.
    #[error("no TLS version can be used: {0}")]
    Versions(String),
}

impl Tls {
    /// Reads and checks the certificates: everything that can be known without the broker.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn check(&self) -> Result<(), TlsError> {
        self.client_config().map(|_| ())
    }

    /// The token with the unit's key, if it is in one.
    #[must_use]
    pub fn token(&self) -> Option<&Arc<Token>> {
        match &self.client {
            Some((_, ClientKey::Token(token))) => Some(token),
            _ => None,
        }
    }

    /// The configuration that all connections share.
    pub(crate) fn client_config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let roots = if self.ca_pem.is_empty() { system_roots()? } else { given_roots(&self.ca_pem)? };
        // Without PSS a key cannot sign in TLS 1.3, and a broker that speaks both would choose that.
        let new = self.token().is_none_or(|token| token.signs_pss());
        let versions: &[_] = if new { rustls::DEFAULT_VERSIONS } else { &[&rustls::version::TLS12] };
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .map_err(|e| TlsError::Versions(e.to_string()))?
            .with_root_certificates(roots);
        let Some((certificate, key)) = &self.client else { return Ok(Arc::new(config.with_no_client_auth())) };
        let chain = certificates(PemOf::Certificate, certificate)?;
        let config = match key {
            // rustls refuses a key that is not the certificate's.
            ClientKey::Pem(key) => {
                config.with_client_auth_cert(chain, key_of(key)?).map_err(|e| TlsError::Client(e.to_string()))?
            }
            ClientKey::Token(token) => {
                let certified = CertifiedKey::new(chain, Arc::new(TokenKey(Arc::clone(token))));
                config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
        };
        Ok(Arc::new(config))
    }
}

fn certificates(of: PemOf, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    if text.len() > PEM_BYTES {
        return Err(TlsError::TooLong(of, text.len()));
    }
    let mut out = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(text) {
        if out.len() == CHAIN {
            return Err(TlsError::TooMany(of));
        }
        out.push(certificate.map_err(|e| TlsError::Pem(of, e.to_string()))?);
    }
    if out.is_empty() { Err(TlsError::Missing(of, "certificate")) } else { Ok(out) }
}

fn key_of(text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    if text.len() > PEM_BYTES {
        return Err(TlsError::TooLong(PemOf::Key, text.len()));
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|e| match e {
        pem::Error::NoItemsFound => TlsError::Missing(PemOf::Key, "private key (an encrypted one is not read)"),
        other => TlsError::Pem(PemOf::Key, other.to_string()),
    })
}

fn given_roots(text: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for (n, certificate) in certificates(PemOf::Authority, text)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|e| TlsError::Authority { number: n + 1, why: e.to_string() })?;
    }
    Ok(roots)
}

/// rumqttc's own default panics when the system has none, or one that does not parse.
fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let why = found.errors.first().map(|e| format!(": {e}")).unwrap_or_default();
        return Err(TlsError::NoSystemRoots(why));
    }
    Ok(roots)
}

/// What a failure of TLS means, in words of the one who must mend it, and whether trying again soon is of no use;
/// `None` when the error is not of TLS.
pub(crate) fn why_refused(error: &ConnectionError) -> Option<(String, bool)> {
    let inner = match error {
        ConnectionError::Tls(RumqttcTls::TLS(e)) => return Some((words(e), is_lasting(e))),
        ConnectionError::Tls(RumqttcTls::DNSName(_)) => {
            let why = "TLS: the broker's address is no host name that a certificate can be held against";
            return Some((why.to_owned(), true));
        }
        ConnectionError::Tls(RumqttcTls::Io(e)) | ConnectionError::Io(e) => e,
        ConnectionError::MqttState(StateError::Io(e) | StateError::Deserialization(mqttbytes::Error::Io(e))) => e,
        _ => return None,
    };
    let error = inner.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>())?;
    Some((words(error), is_lasting(error)))
}

/// A clock that is not set is set soon, and what answers without TLS may be a captive portal: both are tried again
/// as often as a broker that cannot be reached.
fn is_lasting(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::InvalidCertificate(certificate) => {
            !matches!(certificate, CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. })
        }
        // A token that does not sign is not asked at every turn either.
        rustls::Error::AlertReceived(_) | rustls::Error::Other(_) => true,
        _ => false,
    }
}

fn words(error: &rustls::Error) -> String {
    let meaning = match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::UnknownIssuer => "the broker's certificate is not signed by an authority that we trust",
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the broker's certificate has expired, or this unit's clock is wrong"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the broker's certificate is not valid yet: this unit's clock is probably not set"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the broker's certificate is for another host name"
            }
            CertificateError::Revoked => "the broker's certificate is revoked",
            _ => "the broker's certificate does not verify",
        },
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => "the broker asks for a client certificate and none is configured",
            AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                "the broker does not trust the authority of this unit's certificate"
            }
            AlertDescription::CertificateExpired => "this unit's certificate has expired",
            AlertDescription::CertificateRevoked => "this unit's certificate is revoked",
            AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
                "the broker does not accept this unit's certificate"
            }
            AlertDescription::ProtocolVersion => "the broker speaks no TLS version that we speak (1.2, 1.3)",
            _ => "the broker ended the handshake",
        },
        rustls::Error::Other(other) if other.0.is::<TokenError>() => return other.to_string(),
        rustls::Error::InvalidMessage(_) => "what answers on this port does not speak TLS",
        _ => return format!("TLS: {error}"),
    };
    format!("TLS: {meaning} ({error})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_pems_name_which_and_what() {
        let ca = |pem: &[u8]| Tls { ca_pem: pem.to_vec(), client: None }.check().unwrap_err();
        assert_eq!(ca(b"nothing"), TlsError::Missing(PemOf::Authority, "certificate"));
        assert_eq!(ca(&vec![b'x'; PEM_BYTES + 1]), TlsError::TooLong(PemOf::Authority, PEM_BYTES + 1));
        let text = b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
        assert!(matches!(ca(text), TlsError::Pem(PemOf::Authority, _)));
        let text = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(ca(text), TlsError::Authority { number: 1, .. }));
        assert_eq!(ca(&text.repeat(CHAIN + 1)), TlsError::TooMany(PemOf::Authority));
        let shown =
            format!("{:?}", Tls { ca_pem: b"secret".to_vec(), client: Some((vec![1], ClientKey::Pem(vec![2]))) });
        assert!(!shown.contains("secret"), "{shown}");
    }
}

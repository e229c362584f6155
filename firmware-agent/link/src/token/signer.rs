//! A token's key as rustls wants a key.

use std::sync::Arc;

use rumqttc::tokio_rustls::rustls::sign::{Signer, SigningKey};
use rumqttc::tokio_rustls::rustls::{Error, OtherError, SignatureAlgorithm, SignatureScheme};

use super::Token;

#[derive(Debug)]
pub(crate) struct TokenKey(pub(crate) Arc<Token>);

impl SigningKey for TokenKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let scheme = self.0.schemes().find(|scheme| offered.contains(scheme))?;
        Some(Box::new(TokenSigner { token: Arc::clone(&self.0), scheme }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

#[derive(Debug)]
struct TokenSigner {
    token: Arc<Token>,
    scheme: SignatureScheme,
}

impl Signer for TokenSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.token.sign(self.scheme, message).map_err(|error| OtherError(Arc::new(error)).into())
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

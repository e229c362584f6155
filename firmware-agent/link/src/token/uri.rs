//! Where a key is, as a PKCS#11 URI (RFC 7512), of which a bounded part is read:
//!
//! `pkcs11:token=unit;object=mqtt;type=private?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/firmware-agent/pin`
//!
//! Path: `token`, `serial`, `manufacturer` and `model` choose the token, `object` and `id` the key in it, `type` is `private`.
//! Query: `module-path` and `pin-source`. A PIN itself (`pin-value`) is refused, because a configuration is printed and hashed;
//! whatever else the standard has is refused by name rather than passed over. Nothing here opens a file.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::limits::{TOKEN_ATTRIBUTE_BYTES, TOKEN_URI_BYTES};

/// What such a URI begins with.
pub const SCHEME: &str = "pkcs11:";

/// Why a URI is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Another scheme.
    #[error("not of the form {SCHEME}token=...;object=...?module-path=/...&pin-source=file:/...")]
    Scheme,
    /// Longer than any real one.
    #[error("longer than {TOKEN_URI_BYTES} bytes")]
    TooLong,
    /// A part without `=`.
    #[error("with a part that is not NAME=VALUE, number {0}")]
    NoValue(usize),
    /// Not an attribute of this place.
    #[error("with {0:?}, which is not known here; known are {known}", known = KNOWN)]
    Unknown(String),
    /// The same attribute twice.
    #[error("with {0} twice")]
    Twice(&'static str),
    /// A secret in a text that is printed.
    #[error(
        "with pin-value: a secret has no place in a configuration that is printed; name a file by pin-source=file:/..."
    )]
    PinValue,
    /// `%` without two hexadecimal digits behind it, or a character that must be written so.
    #[error("with a wrong character or %-code in {0}")]
    Coding(&'static str),
    /// Empty, or longer than such a thing can be.
    #[error("with {0} empty or longer than {TOKEN_ATTRIBUTE_BYTES} bytes")]
    Length(&'static str),
    /// What a key to sign with is not.
    #[error("with type={0:?}: the key to sign with is private")]
    Type(String),
    /// Without it there is nothing to ask.
    #[error("without module-path=/..., the library that speaks to the token")]
    NoModule,
    /// The key must be named.
    #[error("without object=... or id=..., which say which key it is")]
    NoObject,
    /// A relative path depends on where the program was started.
    #[error("with {0} that is not an absolute path")]
    Relative(&'static str),
    /// A program, or a place on the network.
    #[error("with a pin-source that is not a file: pin-source=file:/... is one")]
    PinSource,
}

const KNOWN: &str =
    "token, serial, manufacturer, model, object, id and type, and after the \"?\" module-path and pin-source";

/// Which key, in which token, by which library, and where the PIN is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenUri {
    /// Label of the token.
    pub token: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// Its maker.
    pub manufacturer: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// Label of the key (`CKA_LABEL`).
    pub object: Option<String>,
    /// Id of the key (`CKA_ID`).
    pub id: Option<Vec<u8>>,
    /// The PKCS#11 module, an absolute path.
    pub module: PathBuf,
    /// File with the user's PIN, an absolute path. Without one nobody is logged in.
    pub pin: Option<PathBuf>,
}

impl FromStr for TokenUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        if text.len() > TOKEN_URI_BYTES {
            return Err(UriError::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(UriError::Scheme)?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (mut uri, mut private, mut module, mut pin) = (Self::default(), None, None, None);
        let path = path.split(';').filter(|part| !part.is_empty()).map(|part| (true, part));
        let query = query.split('&').filter(|part| !part.is_empty()).map(|part| (false, part));
        for (n, (in_path, part)) in path.chain(query).enumerate() {
            let (name, value) = part.split_once('=').ok_or(UriError::NoValue(n + 1))?;
            match (in_path, name) {
                (true, "token") => once("token", &mut uri.token, text_of("token", value)?)?,
                (true, "serial") => once("serial", &mut uri.serial, text_of("serial", value)?)?,
                (true, "manufacturer") => {
                    once("manufacturer", &mut uri.manufacturer, text_of("manufacturer", value)?)?;
                }
                (true, "model") => once("model", &mut uri.model, text_of("model", value)?)?,
                (true, "object") => once("object", &mut uri.object, text_of("object", value)?)?,
                (true, "id") => once("id", &mut uri.id, bytes_of("id", value)?)?,
                (true, "type") => once("type", &mut private, text_of("type", value)?)?,
                (false, "module-path") => once("module-path", &mut module, text_of("module-path", value)?)?,
                (false, "pin-source") => once("pin-source", &mut pin, text_of("pin-source", value)?)?,
                (false, "pin-value") => return Err(UriError::PinValue),
                (_, other) => return Err(UriError::Unknown(other.chars().take(40).collect())),
            }
        }
        if let Some(kind) = private.filter(|kind| kind != "private") {
            return Err(UriError::Type(kind));
        }
        if uri.object.is_none() && uri.id.is_none() {
            return Err(UriError::NoObject);
        }
        uri.module = absolute("module-path", &module.ok_or(UriError::NoModule)?)?;
        uri.pin = pin.map(|pin| pin_file(&pin)).transpose()?;
        Ok(uri)
    }
}

fn once<T>(name: &'static str, place: &mut Option<T>, value: T) -> Result<(), UriError> {
    if place.replace(value).is_some() { Err(UriError::Twice(name)) } else { Ok(()) }
}

fn absolute(name: &'static str, path: &str) -> Result<PathBuf, UriError> {
    if path.starts_with('/') { Ok(PathBuf::from(path)) } else { Err(UriError::Relative(name)) }
}

/// `file:/path`, `file:///path`, or the path alone.
fn pin_file(source: &str) -> Result<PathBuf, UriError> {
    let path = source.strip_prefix("file:").unwrap_or(source);
    let path = path.strip_prefix("//").unwrap_or(path);
    if source.starts_with('|') || (path == source && source.contains("://")) {
        return Err(UriError::PinSource);
    }
    absolute("pin-source", path)
}

fn text_of(name: &'static str, value: &str) -> Result<String, UriError> {
    let text = String::from_utf8(bytes_of(name, value)?).map_err(|_| UriError::Coding(name))?;
    if text.chars().any(char::is_control) { Err(UriError::Coding(name)) } else { Ok(text) }
}

/// Takes the `%` codes out.
fn bytes_of(name: &'static str, value: &str) -> Result<Vec<u8>, UriError> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|d| char::from(d).to_digit(16));
                let (Some(high), Some(low)) = (digit(), digit()) else { return Err(UriError::Coding(name)) };
                (high << 4 | low) as u8
            }
            _ if plain(byte) || matches!(byte, b'/' | b'?' | b'|') => byte,
            _ => return Err(UriError::Coding(name)),
        };
        out.push(byte);
    }
    if out.is_empty() || out.len() > TOKEN_ATTRIBUTE_BYTES { Err(UriError::Length(name)) } else { Ok(out) }
}

/// What RFC 7512 lets stand as it is, in the path and in the query.
fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:[]@!$'()*+,=".contains(&byte)
}

/// In one form, whatever the form that was read.
impl fmt::Display for TokenUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [
            ("token", self.token.as_deref()),
            ("serial", self.serial.as_deref()),
            ("manufacturer", self.manufacturer.as_deref()),
            ("model", self.model.as_deref()),
            ("object", self.object.as_deref()),
        ];
        f.write_str(SCHEME)?;
        for (name, value) in named {
            if let Some(value) = value {
                write!(f, "{name}={};", Coded(value.as_bytes()))?;
            }
        }
        if let Some(id) = &self.id {
            f.write_str("id=")?;
            id.iter().try_for_each(|byte| write!(f, "%{byte:02X}"))?;
            f.write_str(";")?;
        }
        let module = self.module.to_string_lossy();
        write!(f, "type=private?module-path={}", Coded(module.as_bytes()))?;
        let Some(pin) = &self.pin else { return Ok(()) };
        write!(f, "&pin-source=file:{}", Coded(pin.to_string_lossy().as_bytes()))
    }
}

struct Coded<'a>(&'a [u8]);

impl fmt::Display for Coded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| {
            if plain(*byte) || *byte == b'/' { write!(f, "{}", char::from(*byte)) } else { write!(f, "%{byte:02X}") }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TokenUri, UriError> {
        text.parse()
    }

    #[test]
    fn a_uri_is_read_and_written_in_one_form() {
        let text = "pkcs11:model=SoftHSM%20v2;token=my%20unit;id=%01%ab;object=mqtt?pin-source=file:///etc/pin&module-path=/lib/a.so";
        let uri = read(text).unwrap();
        assert_eq!((uri.token.as_deref(), uri.model.as_deref()), (Some("my unit"), Some("SoftHSM v2")));
        assert_eq!((uri.object.as_deref(), uri.id.as_deref()), (Some("mqtt"), Some(&[1, 0xAB][..])));
        assert_eq!(
            (uri.module.to_str(), uri.pin.as_ref().and_then(|p| p.to_str())),
            (Some("/lib/a.so"), Some("/etc/pin"))
        );
        let one = "pkcs11:token=my%20unit;model=SoftHSM%20v2;object=mqtt;id=%01%AB;type=private?module-path=/lib/a.so&pin-source=file:/etc/pin";
        assert_eq!(uri.to_string(), one);
        assert_eq!(read(one).unwrap(), uri);
        let bare = read("pkcs11:object=k;type=private?module-path=/m.so&pin-source=/etc/pin").unwrap();
        assert_eq!(bare.pin, uri.pin);
        assert_eq!(read("pkcs11:id=%00?module-path=/m.so").unwrap().pin, None);
    }

    #[test]
    fn what_is_wrong_is_named_and_a_pin_is_never_repeated() {
        let with = |path: &str, query: &str| read(&format!("pkcs11:{path}?{query}")).unwrap_err();
        let good = "module-path=/m.so";
        assert_eq!(read("file:/x"), Err(UriError::Scheme));
        assert_eq!(read("pkcs11:"), Err(UriError::NoObject));
        assert_eq!(read("pkcs11:object=a"), Err(UriError::NoModule));
        assert_eq!(with("token", good), UriError::NoValue(1));
        assert_eq!(with("object=a;object=b", good), UriError::Twice("object"));
        assert_eq!(with("object=a;slot-id=3", good), UriError::Unknown("slot-id".into()));
        assert_eq!(with("object=a;module-path=/m.so", ""), UriError::Unknown("module-path".into()));
        assert_eq!(with("object=a", "module-path=/m.so&module-name=m"), UriError::Unknown("module-name".into()));
        assert_eq!(with("object=a;type=cert", good), UriError::Type("cert".into()));
        assert_eq!(with("object=", good), UriError::Length("object"));
        assert_eq!(
            with(&format!("object={}", "a".repeat(TOKEN_ATTRIBUTE_BYTES + 1)), good),
            UriError::Length("object")
        );
        for bad in ["object=%4", "object=%zz", "object=a b", "object=%ff", "object=%0a", "object=é"] {
            assert_eq!(with(bad, good), UriError::Coding("object"), "{bad}");
        }
        assert_eq!(with("object=a", "module-path=m.so"), UriError::Relative("module-path"));
        for bad in ["|/bin/pin", "http://host/pin"] {
            assert_eq!(with("object=a", &format!("{good}&pin-source={bad}")), UriError::PinSource, "{bad}");
        }
        assert_eq!(with("object=a", &format!("{good}&pin-source=file:pin")), UriError::Relative("pin-source"));
        assert_eq!(read(&format!("pkcs11:object={}", "a".repeat(TOKEN_URI_BYTES))), Err(UriError::TooLong));
        let error = with("object=a", &format!("{good}&pin-value=123456"));
        assert!(error == UriError::PinValue && !error.to_string().contains("123456"));
    }
}

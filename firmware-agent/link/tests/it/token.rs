//! The unit's TLS key in a PKCS#11 token: SoftHSM, with keys made in it that never leave it, and a real Mosquitto that lets in nobody
//! without a certificate and takes the name from it.
//!
//! SoftHSM takes its folder from the environment, and a module is one for a whole process. So [`a_key_in_a_token`] runs this
//! program once more, for the tests in [`inside`] alone, one after the other.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use agent_link::backoff::BackoffConfig;
use agent_link::{ClientKey, LinkConfig, Tls, Token, TokenError};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeInfo, AttributeType, KeyType};
use cryptoki::session::UserType;
use rcgen::{PublicKeyData, SignatureAlgorithm};

use crate::support::*;
use crate::tls::{Authority, arrives, secure};

const PIN: &str = "right-1234";

/// Where Debian and others put it.
fn module() -> Option<&'static str> {
    ["/usr/lib/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so"]
        .into_iter()
        .find(|file| Path::new(file).exists())
}

#[test]
fn a_key_in_a_token() {
    if module().is_none() {
        println!("SKIPPED: no SoftHSM on this machine");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (tokens, file) = (folder.path().join("tokens"), folder.path().join("softhsm2.conf"));
    fs::create_dir(&tokens).unwrap();
    fs::write(&file, format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display())).unwrap();
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--test-threads=1", "token::inside::"])
        .env("SOFTHSM2_CONF", &file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("5 passed"), "{said}{}", String::from_utf8_lossy(&done.stderr));
}

/// What a key in a token shows of itself.
struct Public {
    key: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
}

impl PublicKeyData for Public {
    fn der_bytes(&self) -> &[u8] {
        &self.key
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

/// One token, with its PIN in a file.
struct Hsm {
    label: String,
    folder: tempfile::TempDir,
}

impl Hsm {
    /// With these keys made in it: name, algorithm, and what they may be used for if that is bounded.
    fn new(label: &str, keys: &[(&str, &'static SignatureAlgorithm, Option<MechanismType>)]) -> (Self, Vec<Public>) {
        let this = Self { label: label.to_owned(), folder: tempfile::tempdir().unwrap() };
        this.set_pin(PIN);
        let context = started();
        let slot = *context.get_all_slots().unwrap().last().unwrap();
        context.init_token(slot, &"officer-1".into(), label).unwrap();
        let session = context.open_rw_session(slot).unwrap();
        session.login(UserType::So, Some(&"officer-1".into())).unwrap();
        session.init_pin(&PIN.into()).unwrap();
        session.logout().unwrap();
        session.login(UserType::User, Some(&PIN.into())).unwrap();
        let made = keys.iter().map(|(name, algorithm, only)| make(&session, name, algorithm, *only)).collect();
        session.close().unwrap();
        context.finalize().unwrap();
        (this, made)
    }

    fn set_pin(&self, pin: &str) {
        fs::write(self.pin(), format!("{pin}\n")).unwrap();
        fs::set_permissions(self.pin(), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn pin(&self) -> PathBuf {
        self.folder.path().join("pin")
    }

    /// The key `object` of this token, with `certificate` to it.
    fn tls(&self, authority: &Authority, certificate: &str, object: &str) -> Tls {
        let (label, module, pin) = (&self.label, module().unwrap(), self.pin());
        let uri =
            format!("pkcs11:token={label};object={object}?module-path={module}&pin-source=file:{}", pin.display());
        let key = ClientKey::in_token(uri.parse().unwrap(), certificate.as_bytes()).unwrap();
        let client = Some((certificate.as_bytes().to_vec(), key));
        Tls { ca_pem: authority.pem.clone().into_bytes(), client }
    }

    fn check(&self, authority: &Authority, certificate: &str, object: &str) -> Result<(), TokenError> {
        self.tls(authority, certificate, object).token().unwrap().check()
    }
}

fn started() -> Pkcs11 {
    assert!(std::env::var_os("SOFTHSM2_CONF").is_some(), "only with a folder of its own");
    let context = Pkcs11::new(module().unwrap()).unwrap();
    context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    context
}

/// A key pair made in the token; asserts that the private half cannot be had.
fn make(
    session: &cryptoki::session::Session,
    name: &str,
    algorithm: &'static SignatureAlgorithm,
    only: Option<MechanismType>,
) -> Public {
    let curve = |oid: &[u8]| Attribute::EcParams(oid.to_vec());
    let (mechanism, parameters, secret) = if algorithm == &rcgen::PKCS_RSA_SHA256 {
        let size = vec![Attribute::ModulusBits(2048.into()), Attribute::PublicExponent(vec![1, 0, 1])];
        (Mechanism::RsaPkcsKeyPairGen, size, AttributeType::PrivateExponent)
    } else if algorithm == &rcgen::PKCS_ED25519 {
        (Mechanism::EccEdwardsKeyPairGen, vec![curve(b"\x13\x0cedwards25519")], AttributeType::Value)
    } else if algorithm == &rcgen::PKCS_ECDSA_P384_SHA384 {
        (Mechanism::EccKeyPairGen, vec![curve(&[6, 5, 0x2B, 0x81, 4, 0, 34])], AttributeType::Value)
    } else {
        let p256 = [6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7];
        (Mechanism::EccKeyPairGen, vec![curve(&p256)], AttributeType::Value)
    };
    let label = Attribute::Label(name.as_bytes().to_vec());
    let public = [vec![Attribute::Token(true), label.clone()], parameters].concat();
    let (token, sensitive) = (Attribute::Token(true), Attribute::Sensitive(true));
    let mut private = vec![token, label, sensitive, Attribute::Private(true), Attribute::Extractable(false)];
    private.extend(only.map(|mechanism| Attribute::AllowedMechanisms(vec![mechanism])));
    let (public, private) = session.generate_key_pair(&mechanism, &public, &private).unwrap();
    let hidden = session.get_attribute_info(private, &[secret]).unwrap();
    assert!(matches!(hidden[..], [AttributeInfo::Sensitive]), "{hidden:?}");
    let wanted = [AttributeType::KeyType, AttributeType::EcPoint];
    let is_rsa = algorithm == &rcgen::PKCS_RSA_SHA256;
    let wanted = if is_rsa { [AttributeType::Modulus, AttributeType::PublicExponent] } else { wanted };
    let key = match &session.get_attributes(public, &wanted).unwrap()[..] {
        [Attribute::Modulus(n), Attribute::PublicExponent(e)] => rsa(n, e),
        // The point stands in an octet string of one byte of length.
        [Attribute::KeyType(KeyType::EC | KeyType::EC_EDWARDS), Attribute::EcPoint(point)] => point[2..].to_vec(),
        other => panic!("{other:?}"),
    };
    Public { key, algorithm }
}

/// RSAPublicKey (RFC 8017, A.1.1) of 2048 bits.
fn rsa(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let n = [&[2, 0x82, 1, 1, 0][..], modulus].concat();
    let e = [&[2, exponent.len() as u8][..], exponent].concat();
    let len = (n.len() + e.len()) as u16;
    [&[0x30, 0x82][..], &len.to_be_bytes(), &n, &e].concat()
}

/// Comes back at once, whatever it ended by.
fn hasty(port: u16, tls: Tls) -> LinkConfig {
    let mut config = secure(port, "localhost", tls);
    let wait = Duration::from_millis(100);
    config.backoff = BackoffConfig { first: wait, cap: wait, refused_cap: wait };
    config
}

/// Who may speak is who the certificate says it is: only `unit-7`.
fn broker(port: u16, authority: &Authority) -> Option<Mosquitto> {
    let own = authority.broker();
    let files = [
        ("broker.pem", own.certificate),
        ("broker.key", own.key),
        ("clients.pem", authority.pem.clone()),
        ("acl", "user unit-7\ntopic readwrite fleet/#\ntopic readwrite f/#\n".to_owned()),
    ];
    let lines = "certfile FOLDER/broker.pem\nkeyfile FOLDER/broker.key\ncafile FOLDER/clients.pem\n\
                 require_certificate true\nuse_identity_as_username true\nacl_file FOLDER/acl\n";
    Mosquitto::start_with(port, "127.0.0.1", &files, lines)
}

mod inside {
    use agent_wire::Severity;

    use super::*;

    #[test]
    #[ignore = "run by a_key_in_a_token"]
    fn each_kind_of_key_connects_and_brings_an_alert() {
        let ours = Authority::new("ours");
        let keys: [(&str, &'static SignatureAlgorithm, _); 5] = [
            ("p256", &rcgen::PKCS_ECDSA_P256_SHA256, None),
            ("p384", &rcgen::PKCS_ECDSA_P384_SHA384, None),
            ("rsa", &rcgen::PKCS_RSA_SHA256, None),
            ("ed25519", &rcgen::PKCS_ED25519, None),
            ("older", &rcgen::PKCS_RSA_SHA256, Some(MechanismType::RSA_PKCS)),
        ];
        let (hsm, made) = Hsm::new("kinds", &keys);
        let port = free_port();
        let Some(_broker) = broker(port, &ours) else { return };
        for ((name, ..), public) in keys.iter().zip(&made) {
            let folder = tempfile::tempdir().unwrap();
            let tls = hsm.tls(&ours, &ours.unit_with(public), name);
            let token = std::sync::Arc::clone(tls.token().unwrap());
            token.check().unwrap_or_else(|e| panic!("{name}: {e}"));
            let link = start(config(1), folder.path());
            link.enqueue_durable(&alert(1, Severity::Critical), DEADLINE).unwrap();
            drop(link);
            if matches!(*name, "p256" | "rsa") {
                arrives(secure(port, "localhost", tls), folder.path(), &[1].into());
            } else {
                let link = start(secure(port, "localhost", tls), folder.path());
                assert!(link.drain(DEADLINE), "{name}: {:?}", link.stats());
            }
            let state = token.state();
            // The check, and a session.
            assert!(state.answers >= 2 && state.faults == 0, "{name}: {state:?}");
        }
    }

    #[test]
    #[ignore = "run by a_key_in_a_token"]
    fn a_wrong_pin_is_tried_once_and_a_right_one_when_the_file_changes() {
        let ours = Authority::new("ours");
        let (hsm, made) = Hsm::new("pins", &[("mqtt", &rcgen::PKCS_ECDSA_P256_SHA256, None)]);
        let certificate = ours.unit_with(&made[0]);
        hsm.set_pin("wrong-1234");
        let tls = hsm.tls(&ours, &certificate, "mqtt");
        let token = std::sync::Arc::clone(tls.token().unwrap());
        let refused = TokenError::PinRefused { file: hsm.pin(), refused: 1 };
        assert_eq!(token.check(), Err(refused.clone()));
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let Some(_broker) = broker(port, &ours) else { return };
        let link = start(hasty(port, tls), folder.path());
        link.enqueue(&alert(1, Severity::Critical)).unwrap();
        let said = |s: &agent_link::LinkStats| s.last_end.as_deref().is_some_and(|why| why.contains("refuses the PIN"));
        assert!(link.wait_for(DEADLINE, |s| s.disconnects >= 4 && said(s)), "{:?}", link.stats());
        // However often the link came back, the token was given a PIN once.
        assert_eq!(token.state().fault, Some(refused));
        assert!(link.stats().refused >= 3 && !format!("{:?}", link.stats()).contains("wrong-1234"));
        hsm.set_pin("wrong-5678");
        let twice =
            |state: agent_link::TokenState| matches!(state.fault, Some(TokenError::PinRefused { refused: 2, .. }));
        eventually("another wrong one is tried once", || twice(token.state()));
        hsm.set_pin(PIN);
        assert!(link.drain(DEADLINE), "{:?}: the token is locked or the new PIN not read", token.state());
        assert_eq!(token.state().fault, None);
        link.stop(DEADLINE);
        fs::set_permissions(hsm.pin(), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(hsm.check(&ours, &certificate, "mqtt"), Err(TokenError::PinFile { .. })));
    }

    #[test]
    #[ignore = "run by a_key_in_a_token"]
    fn what_is_not_there_or_there_twice_is_named() {
        let ours = Authority::new("ours");
        let (hsm, made) = Hsm::new(
            "names",
            &[
                ("one", &rcgen::PKCS_ECDSA_P256_SHA256, None),
                ("other", &rcgen::PKCS_ECDSA_P256_SHA256, None),
                ("longer", &rcgen::PKCS_ECDSA_P384_SHA384, None),
                ("edwards", &rcgen::PKCS_ED25519, None),
                ("twice", &rcgen::PKCS_ECDSA_P256_SHA256, None),
                ("twice", &rcgen::PKCS_ECDSA_P256_SHA256, None),
            ],
        );
        let [one, edwards] = [&made[0], &made[3]].map(|public| ours.unit_with(public));
        let error = |certificate: &str, object: &str| hsm.check(&ours, certificate, object).unwrap_err();
        assert_eq!(hsm.check(&ours, &one, "one"), Ok(()));
        assert_eq!(error(&one, "gone"), TokenError::NoKey { wanted: "object=\"gone\"".to_owned(), login: true });
        assert!(matches!(error(&one, "twice"), TokenError::SeveralKeys { count: 2, .. }));
        for (certificate, object) in [(&one, "other"), (&one, "longer"), (&one, "edwards"), (&edwards, "one")] {
            assert!(matches!(error(certificate, object), TokenError::OtherKey { .. }), "{object}");
        }
        let with = |uri: String| {
            let key = ClientKey::in_token(uri.parse().unwrap(), one.as_bytes()).unwrap();
            Tls { ca_pem: Vec::new(), client: Some((Vec::new(), key)) }.token().unwrap().check().unwrap_err()
        };
        let module = module().unwrap();
        let gone = with(format!("pkcs11:token=gone;object=one?module-path={module}"));
        assert!(matches!(&gone, TokenError::NoToken { there, .. } if there.contains("\"names\"")), "{gone}");
        let hidden = with(format!("pkcs11:token=names;object=one?module-path={module}"));
        assert!(hidden.to_string().contains("without pin-source= nobody is logged in"), "{hidden}");
        let absent = with("pkcs11:object=one?module-path=/nowhere/module.so".to_owned());
        assert!(matches!(absent, TokenError::Module { .. }), "{absent}");
        // A library that is no module.
        let libc = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib/aarch64-linux-gnu/libc.so.6"];
        if let Some(libc) = libc.into_iter().find(|file| Path::new(file).exists()) {
            let other = with(format!("pkcs11:object=one?module-path={libc}"));
            assert!(matches!(&other, TokenError::Module { why, .. } if why.contains("C_GetFunctionList")), "{other}");
        }
    }

    #[test]
    #[ignore = "run by a_key_in_a_token"]
    fn a_token_that_goes_away_and_comes_back_is_used_again() {
        let ours = Authority::new("ours");
        let (hsm, made) = Hsm::new("plug", &[("mqtt", &rcgen::PKCS_ECDSA_P256_SHA256, None)]);
        let conf = std::env::var("SOFTHSM2_CONF").unwrap();
        let tokens = Path::new(&conf).with_file_name("tokens");
        let away = Path::new(&conf).with_file_name("away");
        let tls = hsm.tls(&ours, &ours.unit_with(&made[0]), "mqtt");
        let token = std::sync::Arc::clone(tls.token().unwrap());
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let Some(first) = broker(port, &ours) else { return };
        let link = start(hasty(port, tls), folder.path());
        link.enqueue(&alert(1, Severity::Critical)).unwrap();
        assert!(link.drain(DEADLINE), "{:?}", link.stats());
        drop(first);
        fs::rename(&tokens, &away).unwrap();
        fs::create_dir(&tokens).unwrap();
        link.enqueue(&alert(2, Severity::Critical)).unwrap();
        let Some(_second) = broker(port, &ours) else { return };
        let gone = |state: agent_link::TokenState| matches!(state.fault, Some(TokenError::NoToken { .. }));
        eventually("the token is missed", || gone(token.state()));
        fs::remove_dir_all(&tokens).unwrap();
        fs::rename(&away, &tokens).unwrap();
        assert!(link.drain(DEADLINE), "{:?} {:?}", link.stats(), token.state());
        let state = token.state();
        assert!(state.fault.is_none() && state.faults >= 1, "{state:?}");
        assert_eq!(link.stop(DEADLINE).acked_alerts, 2);
    }

    #[test]
    #[ignore = "run by a_key_in_a_token"]
    fn a_module_ends_with_the_last_of_its_users() {
        let ours = Authority::new("ours");
        let (hsm, made) = Hsm::new("both", &[("mqtt", &rcgen::PKCS_ECDSA_P256_SHA256, None)]);
        let certificate = ours.unit_with(&made[0]);
        let [one, other] = [0, 1].map(|_| hsm.tls(&ours, &certificate, "mqtt"));
        let check = |tls: &Tls| Token::check(tls.token().unwrap());
        assert_eq!((check(&one), check(&other)), (Ok(()), Ok(())));
        // Another view of the same module: whether it runs.
        let context = Pkcs11::new(module().unwrap()).unwrap();
        drop(one);
        assert!(context.get_all_slots().is_ok());
        drop(other);
        assert!(context.get_all_slots().is_err());
    }
}

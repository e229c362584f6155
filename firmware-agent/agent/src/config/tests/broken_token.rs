//! Broken names of a key in a token.

use super::broken::Case;

pub(super) const TOKENS: &[Case] = &[
    (
        "a PIN in the configuration",
        "[link.tls]\ncertificate = \"a\"\nkey = \"pkcs11:object=k?module-path=/m.so&pin-value=1234\"\n",
        &[
            "3:7: link.tls.key is \"pkcs11:object=k?module-path=/m.so&pin-value=...\", with pin-value: a secret has no place in a configuration that is printed; name a file by pin-source=file:/...",
        ],
    ),
    (
        "an attribute that is not read",
        "[link.tls]\ncertificate = \"a\"\nkey = \"pkcs11:object=k;slot-id=3?module-path=/m.so\"\n",
        &[
            "3:7: link.tls.key is \"pkcs11:object=k;slot-id=3?module-path=/m.so\", with \"slot-id\", which is not known here; known are token, serial, manufacturer, model, object, id and type, and after the \"?\" module-path and pin-source",
        ],
    ),
    (
        "a wrong code",
        "[link.tls]\ncertificate = \"a\"\nkey = \"pkcs11:object=%4\"\n",
        &["3:7: link.tls.key is \"pkcs11:object=%4\", with a wrong character or %-code in object"],
    ),
    (
        "no module",
        "[link.tls]\ncertificate = \"a\"\nkey = \"pkcs11:object=k\"\n",
        &["3:7: link.tls.key is \"pkcs11:object=k\", without module-path=/..., the library that speaks to the token"],
    ),
    (
        "a key in a token without its certificate",
        "[link.tls]\nkey = \"pkcs11:object=k?module-path=/m.so\"\n",
        &["2:7: link.tls.key is \"pkcs11:object=k?module-path=/m.so\", but link.tls.certificate is none"],
    ),
];

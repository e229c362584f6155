//! When certificates end. Of a certificate nothing is read but its two dates; whether it is to be believed is the business of TLS.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::der::{SEQUENCE, inside, next};
use crate::limits::CHAIN;

const VERSION: u8 = 0xA0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When the certificate of a PEM that ends first ends, Unix seconds. `None` if there is none, or one that cannot be read.
#[must_use]
pub fn first_end(pem: &[u8]) -> Option<i64> {
    let mut first: Option<i64> = None;
    for certificate in CertificateDer::pem_slice_iter(pem).take(CHAIN) {
        let end = not_after(&certificate.ok()?)?;
        first = Some(first.map_or(end, |f| f.min(end)));
    }
    first
}

/// The second date of a certificate's validity (RFC 5280, 4.1).
fn not_after(der: &[u8]) -> Option<i64> {
    let (certificate, _) = inside(der, SEQUENCE)?;
    let (mut fields, _) = inside(certificate, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        fields = inside(fields, VERSION)?.1;
    }
    // Serial number, algorithm of the signature, issuer.
    for _ in 0..3 {
        fields = next(fields)?.2;
    }
    let (validity, _) = inside(fields, SEQUENCE)?;
    let (tag, text, _) = next(next(validity)?.2)?;
    time(tag, text)
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`, the two forms that certificates may have.
fn time(tag: u8, text: &[u8]) -> Option<i64> {
    let digits = text.strip_suffix(b"Z").filter(|t| t.iter().all(u8::is_ascii_digit))?;
    let number = |bytes: &[u8]| bytes.iter().fold(0_i64, |n, d| n * 10 + i64::from(d - b'0'));
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let (year, rest) = digits.split_at_checked(2)?;
            let year = number(year);
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        (GENERALIZED_TIME, 14) => {
            let (year, rest) = digits.split_at_checked(4)?;
            (number(year), rest)
        }
        _ => return None,
    };
    let mut fields = rest.chunks_exact(2).map(number);
    let mut field = |from: i64, to: i64| fields.next().filter(|n| (from..=to).contains(n));
    let (month, day) = (field(1, 12)?, field(1, 31)?);
    let (hour, minute, second) = (field(0, 23)?, field(0, 59)?, field(0, 60)?);
    Some(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days since 1970-01-01 in the Gregorian calendar. A year is taken to begin in March, so that the day that is sometimes there is
/// its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let before = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // Lengths of months from March on repeat 31, 30, 31, 30, 31.
    before + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(year: i32, month: u8, day: u8) -> String {
        let mut params = rcgen::CertificateParams::new(vec!["broker".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, month, day);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn the_date_of_a_certificate_is_read_in_both_its_forms() {
        for (year, month, day, unix) in [
            (2026, 11, 28, 1_795_824_000),
            (2024, 2, 29, 1_709_164_800),
            (2000, 3, 1, 951_868_800),
            // From 2050 on certificates write the year in full.
            (2051, 1, 1, 2_556_144_000),
        ] {
            assert_eq!(first_end(pem(year, month, day).as_bytes()), Some(unix), "{year}-{month}-{day}");
        }
        let both = pem(2031, 5, 6) + &pem(2027, 1, 2);
        assert_eq!(first_end(both.as_bytes()), Some(1_798_848_000), "the one that ends first");
    }

    #[test]
    fn what_is_no_certificate_has_no_date_and_nothing_of_it_panics() {
        assert_eq!(first_end(b""), None);
        assert_eq!(first_end(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), None);
        let der = CertificateDer::from_pem_slice(pem(2030, 1, 1).as_bytes()).unwrap().to_vec();
        assert!(not_after(&der).is_some());
        for at in 0..der.len() {
            let _ = not_after(&der[..at]);
            let mut bad = der.clone();
            bad[at] ^= 0xFF;
            let _ = not_after(&bad);
        }
        for bad in ["991332000000Z", "990100000000Z", "99010100000Z", "990101000000", "9901010000xxZ"] {
            assert_eq!(time(UTC_TIME, bad.as_bytes()), None, "{bad}");
        }
    }
}

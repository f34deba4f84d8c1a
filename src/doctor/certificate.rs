//! How long a certificate is valid: the two times of an X.509 certificate (RFC 5280, 4.1.2.5), found in its DER.

use chrono::NaiveDateTime;

use crate::base::clock::Time;

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The version has a tag of its own, and may be absent.
const VERSION: u8 = 0xa0;
/// Two digits of a year from here on are of the last century.
const CENTURY: &str = "50";

/// From when and until when a certificate is valid. `None` if it cannot be read.
pub(super) fn validity(der: &[u8]) -> Option<(Time, Time)> {
    let (SEQUENCE, certificate, _) = element(der)? else { return None };
    let (SEQUENCE, mut rest, _) = element(certificate)? else { return None };
    if let (VERSION, _, after) = element(rest)? {
        rest = after;
    }
    // The serial number, the algorithm, the issuer.
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (SEQUENCE, times, _) = element(rest)? else { return None };
    let (tag, from, times) = element(times)?;
    let (until_tag, until, _) = element(times)?;
    Some((time(tag, from)?, time(until_tag, until)?))
}

/// The first element: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        // No certificate is longer than four bytes can say.
        (length.len() <= 4).then_some(())?;
        (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn time(tag: u8, text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let full = match tag {
        UTC_TIME => format!("{}{text}", if text.get(..2)? < CENTURY { "20" } else { "19" }),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    NaiveDateTime::parse_from_str(&full, "%Y%m%d%H%M%SZ").ok().map(|time| time.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).expect("short");
        [&[tag, 0x81, length], content].concat()
    }

    #[test]
    fn both_forms_of_times_are_read_and_garbage_is_none() {
        let times = [der(UTC_TIME, b"490101000000Z"), der(GENERALIZED_TIME, b"20510203040506Z")].concat();
        let plain = [der(2, &[1]), der(SEQUENCE, &[]), der(SEQUENCE, &[]), der(SEQUENCE, &times)].concat();
        let with_version = [der(VERSION, &[2]), plain.clone()].concat();
        for body in [plain, with_version] {
            let certificate = der(SEQUENCE, &der(SEQUENCE, &body));
            let (from, until) = validity(&certificate).expect("times");
            assert_eq!(from.to_rfc3339(), "2049-01-01T00:00:00+00:00");
            assert_eq!(until.to_rfc3339(), "2051-02-03T04:05:06+00:00");
            for end in 0..certificate.len() {
                assert_eq!(validity(&certificate[..end]), None, "cut off after {end}");
            }
        }
        assert_eq!(validity(&[SEQUENCE, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1]), None);
    }
}

//! Whose request it is: the address of the client that sent it.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, header};

use crate::base::address::{ClientAddress, Networks};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address of the client whose request came from `peer`.
///
/// It is the peer itself, unless that is a trusted proxy. A proxy appends the address it was called from to `Forwarded`
/// (RFC 7239) or `X-Forwarded-For`, so the right-most address that is no trusted proxy is believed, and nothing to the left
/// of it: the client may have written that. If the headers are malformed, or each says something else, the peer counts:
/// most proxies pass on the header that they do not know, as the client wrote it.
#[must_use]
pub fn address(peer: IpAddr, headers: &HeaderMap, trusted: &Networks) -> ClientAddress {
    let believed = trusted.contains(peer).then(|| believed(headers, trusted)).flatten();
    believed.unwrap_or(peer).into()
}

fn believed(headers: &HeaderMap, trusted: &Networks) -> Option<IpAddr> {
    let forwarded = list(headers, &header::FORWARDED)?;
    let x_forwarded = list(headers, &X_FORWARDED_FOR)?;
    match (forwarded.is_empty(), x_forwarded.is_empty()) {
        (true, true) => None,
        (false, true) => last(&forwarded, hop_of_element, trusted),
        (true, false) => last(&x_forwarded, hop, trusted),
        (false, false) => {
            let one = last(&forwarded, hop_of_element, trusted)?;
            last(&x_forwarded, hop, trusted).filter(|other| *other == one)
        }
    }
}

/// The parts of a header that may occur several times. `None` if it cannot be read.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Vec<&'a str>> {
    let mut parts = Vec::new();
    for value in headers.get_all(name) {
        parts.extend(split(value.to_str().ok()?, ',')?);
    }
    Some(parts)
}

/// Splits at a character outside quotes. `None` if a quote is not closed.
fn split(text: &str, at: char) -> Option<Vec<&str>> {
    let (mut parts, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (index, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if character == at && !quoted => {
                parts.push(text[begin..index].trim());
                begin = index + 1;
            }
            _ => {}
        }
    }
    parts.push(text[begin..].trim());
    (!quoted).then_some(parts)
}

/// The right-most hop that is no trusted proxy, or the left-most of all if each is one.
fn last(parts: &[&str], read: impl Fn(&str) -> Option<IpAddr>, trusted: &Networks) -> Option<IpAddr> {
    let mut hop = None;
    for part in parts.iter().rev() {
        let address = read(part)?;
        hop = Some(address);
        if !trusted.contains(address) {
            break;
        }
    }
    hop
}

/// The address in an element of `Forwarded`: `for="[2001:db8::1]:4711";proto=https`.
fn hop_of_element(element: &str) -> Option<IpAddr> {
    let pairs = split(element, ';')?;
    let mut nodes = pairs.iter().filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim())
    });
    let node = nodes.next().filter(|_| nodes.next().is_none())?;
    hop(node.strip_prefix('"').map_or(Some(node), |rest| rest.strip_suffix('"'))?)
}

/// An address, with a port or without. IPv6 may be in brackets, and is with a port.
fn hop(text: &str) -> Option<IpAddr> {
    let bare =
        || text.strip_prefix('[')?.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6);
    let address = text.parse().ok().or_else(bare);
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(peer: &str, headers: &[(&str, &str)]) -> ClientAddress {
        let trusted: Networks = "10.0.0.0/8,fd00::/8".parse().expect("networks");
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("a name");
            all.append(name, value.parse().expect("a value"));
        }
        address(peer.parse().expect("a peer"), &all, &trusted)
    }

    #[test]
    fn the_right_most_hop_that_is_no_trusted_proxy_is_believed() {
        const XFF: &str = "x-forwarded-for";
        for (peer, headers, client) in [
            ("192.0.2.1", &[][..], "192.0.2.1"),
            // A stranger is not believed.
            ("192.0.2.1", &[(XFF, "198.51.100.1")], "192.0.2.1"),
            ("192.0.2.1", &[("forwarded", "for=198.51.100.1")], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &[(XFF, "198.51.100.1")], "198.51.100.1"),
            ("::ffff:10.0.0.1", &[(XFF, "198.51.100.1")], "198.51.100.1"),
            ("fd00::1", &[(XFF, "2001:db8::1")], "2001:db8::1"),
            // What the client wrote is to the left, whatever it is.
            ("10.0.0.1", &[(XFF, "1.2.3.4, 198.51.100.1")], "198.51.100.1"),
            ("10.0.0.1", &[(XFF, "garbage, 198.51.100.1")], "198.51.100.1"),
            ("10.0.0.1", &[(XFF, "1.2.3.4"), (XFF, "198.51.100.1, 10.0.0.2")], "198.51.100.1"),
            ("10.0.0.1", &[(XFF, "198.51.100.1,10.0.0.3,10.0.0.2")], "198.51.100.1"),
            ("10.0.0.1", &[(XFF, "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
            ("10.0.0.1", &[(XFF, "198.51.100.1:4711")], "198.51.100.1"),
            ("10.0.0.1", &[(XFF, "[2001:db8::1]:4711")], "2001:db8::1"),
            ("10.0.0.1", &[(XFF, "[2001:db8::1]")], "2001:db8::1"),
            ("10.0.0.1", &[(XFF, "2001:db8::1")], "2001:db8::1"),
            ("10.0.0.1", &[("forwarded", "for=198.51.100.1;proto=https;by=10.0.0.1")], "198.51.100.1"),
            ("10.0.0.1", &[("forwarded", "For=\"[2001:db8::1]:4711\"")], "2001:db8::1"),
            ("10.0.0.1", &[("forwarded", "for=1.2.3.4, for=198.51.100.1;host=\"a,b\"")], "198.51.100.1"),
            ("10.0.0.1", &[("forwarded", "for=\"x, for=198.51.100.1")], "10.0.0.1"),
            // Malformed.
            ("10.0.0.1", &[(XFF, "")], "10.0.0.1"),
            ("10.0.0.1", &[(XFF, "garbage")], "10.0.0.1"),
            ("10.0.0.1", &[(XFF, "198.51.100.1,")], "10.0.0.1"),
            ("10.0.0.1", &[(XFF, "198.51.100.1, unknown")], "10.0.0.1"),
            ("10.0.0.1", &[(XFF, "198.51.100.999")], "10.0.0.1"),
            ("10.0.0.1", &[("forwarded", "for=unknown")], "10.0.0.1"),
            ("10.0.0.1", &[("forwarded", "for=_hidden")], "10.0.0.1"),
            ("10.0.0.1", &[("forwarded", "proto=https")], "10.0.0.1"),
            ("10.0.0.1", &[("forwarded", "for=1.2.3.4;for=198.51.100.1")], "10.0.0.1"),
            ("10.0.0.1", &[("forwarded", "198.51.100.1")], "10.0.0.1"),
            // Both headers: one of them may be the client's own.
            ("10.0.0.1", &[("forwarded", "for=198.51.100.1"), (XFF, "198.51.100.1")], "198.51.100.1"),
            ("10.0.0.1", &[("forwarded", "for=1.2.3.4"), (XFF, "198.51.100.1")], "10.0.0.1"),
        ] {
            let expected: IpAddr = client.parse().expect("a client");
            assert_eq!(from(peer, headers), expected.into(), "{peer} {headers:?}");
        }
    }
}

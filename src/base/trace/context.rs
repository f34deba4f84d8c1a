//! The `traceparent` header of W3C Trace Context, as it comes from outside.

/// The trace of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Incoming {
    pub trace: [u8; 16],
    pub parent: [u8; 8],
    pub is_sampled: bool,
}

/// The length of version 00. Later versions may append something.
const LENGTH: usize = 55;

impl Incoming {
    /// `None` for what is not to be followed: then a trace begins here.
    pub fn parse(text: &str) -> Option<Self> {
        let (known, rest) = text.split_at_checked(LENGTH)?;
        let mut parts = known.split('-');
        let version: [u8; 1] = bytes(parts.next()?)?;
        let (trace, parent) = (bytes(parts.next()?)?, bytes(parts.next()?)?);
        let [flags] = bytes(parts.next()?)?;
        let may_follow = match version {
            [0] => rest.is_empty(),
            [0xff] => false,
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        let is_one = trace != [0; 16] && parent != [0; 8] && parts.next().is_none();
        (may_follow && is_one).then_some(Self { trace, parent, is_sampled: flags & 1 == 1 })
    }
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let is_lower = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let mut bytes = [0; N];
    (is_lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn only_what_the_standard_allows_is_followed() {
        let good = Incoming::parse(GOOD).expect("good");
        assert_eq!(hex::encode(good.trace), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!((hex::encode(good.parent).as_str(), good.is_sampled), ("b7ad6b7169203331", true));
        let off = GOOD.replace("-01", "-00");
        assert!(!Incoming::parse(&off).expect("not sampled").is_sampled);
        assert!(Incoming::parse(&GOOD.replacen("00", "cc", 1)).is_some(), "a later version");
        assert!(Incoming::parse(&format!("{}-more", GOOD.replacen("00", "cc", 1))).is_some());
        for bad in [
            String::new(),
            GOOD.to_uppercase(),
            format!("{GOOD}-more"),
            format!("{GOOD}x"),
            GOOD.replacen("00", "ff", 1),
            GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            GOOD[..54].to_owned(),
            GOOD.replace('-', "_"),
        ] {
            assert_eq!(Incoming::parse(&bad), None, "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn fuzz_any_header_is_read_or_ignored(text in ".{0,80}") {
            let _ = Incoming::parse(&text);
        }
    }
}

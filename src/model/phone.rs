//! Phone numbers.

/// A number as networks know it, E.164: `+` and 7 to 15 digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phone(String);

impl Phone {
    /// The number in a text that people wrote. `None` if it does not say the country, or is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text: String = text.chars().filter(|c| !matches!(c, ' ' | '-' | '.' | '(' | ')' | '/')).collect();
        let digits = text.strip_prefix('+').or_else(|| text.strip_prefix("00"))?;
        let is_good = (7..=15).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !digits.starts_with('0');
        is_good.then(|| Self(format!("+{digits}")))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_need_a_country() {
        let parsed = |text| Phone::parse(text).map(|phone| phone.0);
        assert_eq!(parsed("+41 (79) 000-00.00").as_deref(), Some("+41790000000"));
        assert_eq!(parsed("0041790000000").as_deref(), Some("+41790000000"));
        for bad in ["0790000000", "+0790000000", "+41", "+417900000000000000", "+41x", ""] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }
}

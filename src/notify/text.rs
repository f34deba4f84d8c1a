//! Texts in six languages, and how many segments an SMS has.

use std::collections::HashMap;
use std::path::Path;

use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource};
use unic_langid::LanguageIdentifier;

use super::rules::{Args, Kind};

/// The languages that are compiled in, each with its texts.
const LANGUAGES: [(&str, &str); 6] = [
    ("en", include_str!("texts/en.ftl")),
    ("de", include_str!("texts/de.ftl")),
    ("fr", include_str!("texts/fr.ftl")),
    ("es", include_str!("texts/es.ftl")),
    ("it", include_str!("texts/it.ftl")),
    ("pt", include_str!("texts/pt.ftl")),
];

/// The characters of GSM 03.38 that take one place.
const GSM: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
/// Those that take two.
const GSM_EXTENDED: &str = "^{}\\[~]|€";

/// All texts.
pub struct Texts {
    bundles: HashMap<&'static str, FluentBundle<FluentResource>>,
    default: &'static str,
}

impl Texts {
    /// The texts that are compiled in, with those of a folder in their place.
    ///
    /// # Errors
    /// One line for the operator: an unknown language, or a file that is not Fluent.
    pub fn open(default: &str, folder: Option<&Path>) -> Result<Self, String> {
        let mut bundles = HashMap::new();
        for (language, text) in LANGUAGES {
            let id: LanguageIdentifier =
                language.parse().map_err(|_| format!("{language} is no language"))?;
            let mut bundle = FluentBundle::new_concurrent(vec![id]);
            // The marks around what is filled in would make an SMS twice as long.
            bundle.set_use_isolating(false);
            let resource = |text: &str| {
                FluentResource::try_new(text.to_owned()).map_err(|(_, errors)| format!("{errors:?}"))
            };
            bundle.add_resource_overriding(resource(text)?);
            let path = folder.map(|folder| folder.join(format!("{language}.ftl")));
            if let Some(path) = path.filter(|path| path.exists()) {
                let own = std::fs::read_to_string(&path)
                    .map_err(|error| format!("TEXTS_DIR: {}: {error}", path.display()))?;
                let own =
                    resource(&own).map_err(|errors| format!("TEXTS_DIR: {}: {errors}", path.display()))?;
                bundle.add_resource_overriding(own);
            }
            bundles.insert(language, bundle);
        }
        let default = language_of(default)
            .ok_or_else(|| format!("DEFAULT_LOCALE: {default:?} is not one of en, de, fr, es, it and pt"))?;
        Ok(Self { bundles, default })
    }

    /// What a screen shows: the number of the order and what has become of it, never a name or an address.
    #[must_use]
    pub fn title(&self, kind: Kind, locale: Option<&str>, args: &Args) -> String {
        self.format(locale, &kind.as_str().replace(['.', '_'], "-"), &[("number", &args.order_number)])
    }

    /// What an SMS says.
    #[must_use]
    pub fn sms(&self, kind: Kind, locale: Option<&str>, args: &Args) -> String {
        let link = args.link.as_deref().unwrap_or_default();
        let key = match kind {
            Kind::TrackingStarted => "tracking-started-sms",
            Kind::OrderOnTheWay => "order-on-the-way-sms",
            Kind::DeliveryPin => "delivery-pin-sms",
            _ => {
                let title = self.title(kind, locale, args);
                return self.format(locale, "order-other-sms", &[("title", &title), ("link", link)]);
            }
        };
        let pin = args.pin.as_deref().unwrap_or_default();
        self.format(locale, key, &[("number", &args.order_number), ("link", link), ("pin", pin)])
    }

    fn format(&self, locale: Option<&str>, key: &str, values: &[(&'static str, &str)]) -> String {
        let mut args = FluentArgs::new();
        for (name, value) in values {
            args.set(*name, (*value).to_owned());
        }
        let languages = [locale.and_then(language_of).unwrap_or(self.default), self.default, "en"];
        let found = languages.iter().find_map(|language| {
            let bundle = self.bundles.get(language)?;
            let pattern = bundle.get_message(key)?.value()?;
            Some(bundle.format_pattern(pattern, Some(&args), &mut Vec::new()).trim().to_owned())
        });
        found.unwrap_or_default()
    }
}

/// The language of a locale such as `de-CH`, if it is one of the six.
fn language_of(locale: &str) -> Option<&'static str> {
    let word = locale.split(['-', '_']).next()?.to_ascii_lowercase();
    LANGUAGES.iter().map(|(language, _)| *language).find(|language| *language == word)
}

/// How many segments a text has: 160 characters or 153 each in GSM-7, 70 or 67 in UCS-2.
#[must_use]
pub fn segments(text: &str) -> u32 {
    let gsm = text.chars().try_fold(0, |sum, c| {
        if GSM.contains(c) {
            Some(sum + 1)
        } else if GSM_EXTENDED.contains(c) {
            Some(sum + 2)
        } else {
            None
        }
    });
    let (length, one, many) = match gsm {
        Some(length) => (length, 160, 153),
        None => (text.encode_utf16().count(), 70, 67),
    };
    u32::try_from(if length <= one { 1 } else { length.div_ceil(many) }).unwrap_or(u32::MAX)
}

/// Whether a text needs no Unicode.
#[must_use]
pub fn is_gsm(text: &str) -> bool {
    text.chars().all(|c| GSM.contains(c) || GSM_EXTENDED.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Args {
        let link = Some("https://track.example.com/t/TRK-2qwertzuiopasdfghjkl12".to_owned());
        let pin = Some("0042".to_owned());
        Args { order_number: "ORD-20261128-0042".to_owned(), link, pin, ..Args::default() }
    }

    #[test]
    fn each_language_has_each_text_and_sms_fit_one_segment() {
        let texts = Texts::open("en", None).expect("texts");
        for (language, _) in LANGUAGES {
            // An activity shows the status in words of its app.
            for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::OrderLive) {
                let title = texts.title(kind, Some(language), &args());
                assert!(
                    !title.is_empty() || [Kind::TrackingStarted, Kind::OrderLive].contains(&kind),
                    "{language} {kind:?}"
                );
                assert!(!title.contains('\u{2068}'), "{title}");
            }
            for kind in [Kind::TrackingStarted, Kind::OrderOnTheWay] {
                let text = texts.sms(kind, Some(language), &args());
                assert_eq!(segments(&text), 1, "{language}: {text}");
                assert!(text.contains("https://"));
            }
            let text = texts.sms(Kind::DeliveryPin, Some(language), &args());
            assert_eq!((segments(&text), text.contains("0042 ")), (1, true), "{language}: {text}");
            let shown = texts.title(
                Kind::DeliveryPin,
                Some(language),
                &Args { pin: Some("7391".to_owned()), ..args() },
            );
            assert!(!shown.contains("7391"), "{shown}");
        }
        assert_eq!(
            texts.title(Kind::OrderDelivered, Some("de-CH"), &args()),
            "Ihre Bestellung ORD-20261128-0042 ist angekommen"
        );
        assert_eq!(
            texts.title(Kind::OrderDelivered, Some("ja"), &args()),
            "Your order ORD-20261128-0042 has arrived"
        );
    }

    #[test]
    fn a_folder_has_other_texts_and_a_wrong_one_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("de.ftl"), "order-new = Juhu: { $number }\n").expect("written");
        let texts = Texts::open("de", Some(folder.path())).expect("texts");
        assert_eq!(texts.title(Kind::OrderNew, None, &args()), "Juhu: ORD-20261128-0042");
        assert_eq!(
            texts.title(Kind::OrderAccepted, None, &args()),
            "Ihre Bestellung ORD-20261128-0042 ist angenommen"
        );
        std::fs::write(folder.path().join("de.ftl"), "order-new = { $number\n").expect("written");
        assert!(Texts::open("de", Some(folder.path())).is_err_and(|error| error.contains("de.ftl")));
        assert!(Texts::open("xx", None).is_err_and(|error| error.contains("DEFAULT_LOCALE")));
    }

    #[test]
    fn segments_are_counted_as_networks_do() {
        assert_eq!(
            (segments(&"a".repeat(160)), segments(&"a".repeat(161)), segments(&"a".repeat(307))),
            (1, 2, 3)
        );
        assert_eq!((segments(&"€".repeat(80)), segments(&"€".repeat(81))), (1, 2));
        assert_eq!(
            (segments(&"ж".repeat(70)), segments(&"ж".repeat(71)), segments(&"ж".repeat(135))),
            (1, 2, 3)
        );
        assert_eq!(segments(&"😀".repeat(35)), 1);
    }
}

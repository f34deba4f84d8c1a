//! Settings: whether they can be used, what is weak, what has no effect, and variables that look misspelt.

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory};

use super::Report;
use crate::base::config::{Origins, Serve, SmsProvider, variables};
use crate::cli::Cli;
use crate::route::remote::Address;

const AREA: &str = "settings";
/// Fewer different bytes than a random secret has.
const FEW_BYTES: usize = 12;
/// Words that stand in examples.
const EXAMPLES: [&str; 7] = ["secret", "password", "change", "example", "0123456789", "abcdef", "ordercast"];

pub(super) fn check(config: &Serve, given: Option<&ArgMatches>, report: &mut Report) {
    let mut faults =
        if config.demo { config.clone().check().err().into_iter().collect() } else { config.faults() };
    faults.extend(config.routing.router.iter().filter_map(|router| router.parse::<Address>().err()));
    if faults.is_empty() {
        report.ok(AREA, "every setting can be used");
    }
    for fault in faults {
        let mend = "correct that setting; `ordercast --help` and docs/settings.md say what it may be";
        report.fail(AREA, fault, "the server refuses to start", mend);
    }
    weak(config, report);
    open(config, report);
    for (name, needs) in idle(config, |id| is_given(given, id)) {
        report.warn(
            AREA,
            format!("{name} has no effect"),
            format!("it counts only together with {needs}"),
            format!("set {needs}, or take {name} away"),
        );
    }
    for (name, known) in misspelt() {
        report.warn(
            AREA,
            format!("the variable {name} is not known"),
            "nothing reads it",
            known.map_or_else(
                || format!("take {name} away, or look its name up in docs/settings.md"),
                |known| format!("did you mean {known}?"),
            ),
        );
    }
}

fn weak(config: &Serve, report: &mut Report) {
    let secret = config.jwt_secret.as_deref().filter(|_| !config.demo);
    if let Some(secret) = secret {
        let mut bytes = secret.as_bytes().to_vec();
        bytes.sort_unstable();
        bytes.dedup();
        let lower = secret.to_ascii_lowercase();
        if bytes.len() < FEW_BYTES || EXAMPLES.iter().any(|word| lower.contains(word)) {
            report.warn(
                AREA,
                "JWT_SECRET looks as if somebody had thought of it",
                "who guesses it makes tokens of any role",
                "use a random one: `openssl rand -hex 32`, in the back end that makes the tokens too",
            );
        } else {
            report.ok(AREA, "JWT_SECRET looks random");
        }
    }
}

fn open(config: &Serve, report: &mut Report) {
    if config.origins() == Ok(Origins::Any) {
        report.warn(
            AREA,
            "CORS_ORIGIN is *",
            "any web page may call this server with a token that it got hold of",
            "list the origins of your pages and apps: CORS_ORIGIN=https://shop.example",
        );
    }
    if config.legacy_open {
        report.warn(
            AREA,
            "LEGACY_OPEN is set",
            "anyone without a token hears of every order at two doors",
            "take it away once the clients of the older systems send tokens",
        );
    }
    let plain = !config.listen.ip().is_loopback() && config.tls_cert.is_none();
    if plain {
        report.warn(
            AREA,
            format!("the server listens on {} without TLS", config.listen.ip()),
            "tokens cross the network readably, unless a proxy before it ends TLS",
            "set TLS_CERT and TLS_KEY, or see that only your proxy reaches this port",
        );
    }
    let url = config.database.database_url.as_deref().unwrap_or_default();
    let is_verified = url.contains("sslmode=verify-full");
    let is_near = ["@localhost", "@127.0.0.1", "@[::1]", "host=/"].iter().any(|near| url.contains(near));
    if config.database.is_shared() && !is_verified && !is_near {
        report.warn(
            AREA,
            "DATABASE_URL does not ask for sslmode=verify-full",
            "who sits between this machine and PostgreSQL can read and change everything",
            "add ?sslmode=verify-full, unless that network is yours alone",
        );
    }
}

/// Whether a flag or its variable was given.
fn is_given(given: Option<&ArgMatches>, id: &str) -> bool {
    let source = given.and_then(|given| given.value_source(id));
    matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}

/// Settings that were given and have no effect, with what they need.
fn idle(config: &Serve, is_given: impl Fn(&str) -> bool) -> Vec<(String, &'static str)> {
    let (redis, shared) = (config.cluster.redis_url.is_some(), config.database.is_shared());
    let (notify, roads) = (&config.notify, config.routing.road_network.is_some());
    let sms = |provider| notify.sms_provider == Some(provider);
    let (twilio, vonage, gateway) =
        (sms(SmsProvider::Twilio), sms(SmsProvider::Vonage), sms(SmsProvider::Http));
    let any_sms = notify.sms_provider.is_some();
    let channel = notify.has_channel();
    [
        ("redis_prefix", redis, "REDIS_URL"),
        ("cluster_listen", shared, "DATABASE_URL of PostgreSQL"),
        ("database_max_connections", shared, "DATABASE_URL of PostgreSQL"),
        ("cluster_poll_ms", shared, "DATABASE_URL of PostgreSQL"),
        ("rights_lease_ms", shared, "DATABASE_URL of PostgreSQL"),
        ("road_modes", roads, "ROAD_NETWORK"),
        ("otlp_headers", config.traces.otlp_endpoint.is_some(), "OTLP_ENDPOINT"),
        ("otlp_sample", config.traces.otlp_endpoint.is_some(), "OTLP_ENDPOINT"),
        ("order_service_retry_ms", config.order_service_url.is_some(), "ORDER_SERVICE_URL"),
        ("logins_per_minute", config.demo, "--demo"),
        ("notify_fallback_ms", any_sms, "SMS_PROVIDER"),
        ("notify_hold_ms", channel, "a channel (FCM_KEY_FILE, EXPO_URL, VAPID_SUBJECT or SMS_PROVIDER)"),
        ("fcm_url", notify.fcm_key_file.is_some(), "FCM_KEY_FILE"),
        ("twilio_account_sid", twilio, "SMS_PROVIDER=twilio"),
        ("twilio_auth_token", twilio, "SMS_PROVIDER=twilio"),
        ("twilio_from", twilio, "SMS_PROVIDER=twilio"),
        ("twilio_url", twilio, "SMS_PROVIDER=twilio"),
        ("vonage_api_key", vonage, "SMS_PROVIDER=vonage"),
        ("vonage_api_secret", vonage, "SMS_PROVIDER=vonage"),
        ("vonage_from", vonage, "SMS_PROVIDER=vonage"),
        ("vonage_url", vonage, "SMS_PROVIDER=vonage"),
        ("sms_http_url", gateway, "SMS_PROVIDER=http"),
        ("sms_rate_per_second", any_sms, "SMS_PROVIDER"),
        ("sms_prefixes", any_sms, "SMS_PROVIDER"),
        ("sms_segments_per_day", any_sms, "SMS_PROVIDER"),
        ("sms_resend_unknown", any_sms, "SMS_PROVIDER"),
    ]
    .into_iter()
    .filter(|(id, counts, _)| !counts && is_given(id))
    .map(|(id, _, needs)| (id.to_ascii_uppercase(), needs))
    .collect()
}

/// Variables that nothing reads although their names look like ours, each with the name that was probably meant.
fn misspelt() -> Vec<(String, Option<String>)> {
    let command = Cli::command();
    let own = command.get_arguments().chain(command.get_subcommands().flat_map(clap::Command::get_arguments));
    let mut known: Vec<_> = own
        .filter_map(|arg| arg.get_env()?.to_str().map(str::to_owned))
        .chain(["RUST_LOG".to_owned()])
        .collect();
    known.sort_unstable();
    known.dedup();
    let mut found: Vec<_> = variables().into_iter().filter_map(|name| unknown(name, &known)).collect();
    found.sort();
    found
}

/// The name and its likely meaning, if it is not known and looks like one of ours.
fn unknown(name: String, known: &[String]) -> Option<(String, Option<String>)> {
    let is_ours = name.starts_with("ORDERCAST_");
    // Those of tests and of scripts around the server.
    if known.contains(&name) || name.starts_with("ORDERCAST_TEST_") || name == "ORDERCAST_BIN" {
        return None;
    }
    let upper = name.to_ascii_uppercase().replace('-', "_");
    let bare = upper.strip_prefix("ORDERCAST_").unwrap_or(&upper);
    let distance = |known: &String| {
        strsim::osa_distance(&upper, known)
            .min(strsim::osa_distance(bare, known.trim_start_matches("ORDERCAST_")))
    };
    let (nearest, far) = known.iter().map(|known| (known, distance(known))).min_by_key(|(_, far)| *far)?;
    // Short names are near to many words.
    let allowed = if nearest.len() < 8 { 1 } else { 2 };
    match (far <= allowed, is_ours) {
        (true, _) => Some((name, Some(nearest.clone()))),
        (false, true) => Some((name, None)),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_nearly_ours_are_found() {
        let known = ["DATABASE_URL", "JWT_SECRET", "ORDERCAST_LISTEN"].map(str::to_owned);
        let meant = |name: &str| unknown(name.to_owned(), &known).map(|(_, known)| known);
        assert_eq!(meant("DATABASE_URL"), None);
        assert_eq!(meant("DATABASEURL"), Some(Some("DATABASE_URL".to_owned())));
        assert_eq!(meant("JWT_SECRETS"), Some(Some("JWT_SECRET".to_owned())));
        assert_eq!(meant("ORDERCAST_JWT_SECRET"), Some(Some("JWT_SECRET".to_owned())));
        assert_eq!(meant("ORDERCAST_COLOUR"), Some(None));
        assert_eq!(meant("PATH"), None);
        assert_eq!(meant("HOSTNAME"), None);
    }
}

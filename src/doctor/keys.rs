//! Keys: those that verify tokens, the certificate of the server, and those of notifications.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use chrono::TimeDelta;

use super::certificate::validity;
use super::{Open, Report, in_time};
use crate::auth::{Auth, usable_keys};
use crate::base::clock::{Clock, rfc3339};
use crate::base::config::Serve;
use crate::notify::{self, Prepared};
use crate::transport::conn::Identity;

const AREA: &str = "keys";
/// A certificate that ends sooner should have been renewed.
const SOON: TimeDelta = TimeDelta::days(14);
/// What a private key may not allow others.
const OTHERS: u32 = 0o007;

pub(super) async fn check(config: &Serve, db: Open<'_>, report: &mut Report) {
    tokens(config, report).await;
    certificate(config, report);
    notifications(config, db, report).await;
}

async fn tokens(config: &Serve, report: &mut Report) {
    if let Some(file) = &config.jwt_public_key_file {
        match Auth::new(config.key_source(), Clock::System) {
            Ok(_) => {
                report.ok(AREA, format!("{} has a key that tokens can be verified with", file.display()));
            }
            Err(line) => report.fail(
                AREA,
                format!("JWT_PUBLIC_KEY_FILE: {line}"),
                "the server does not start",
                "give it the public key (`openssl pkey -in private.pem -pubout`): RSA, P-256 or Ed25519",
            ),
        }
    }
    let Some(url) = &config.jwks_url else { return };
    let (why, mend) = (
        "tokens of that issuer cannot be verified",
        "open JWKS_URL from this machine, and see that it has RS256, ES256 or EdDSA keys for signatures",
    );
    match in_time(AREA, "JWKS_URL", report, usable_keys(url)).await {
        Some(Ok(0)) => report.fail(AREA, "the key set of JWKS_URL has no usable key", why, mend),
        Some(Ok(count)) => report.ok(AREA, format!("the key set of JWKS_URL has {count} usable keys")),
        Some(Err(line)) => report.fail(AREA, format!("JWKS_URL: {line}"), why, mend),
        None => {}
    }
}

fn certificate(config: &Serve, report: &mut Report) {
    let (Some(certificate), Some(key)) = (&config.tls_cert, &config.tls_key) else { return };
    let name = certificate.display();
    let identity = match Identity::open(certificate.clone(), key.clone()) {
        Ok((identity, _)) => identity,
        Err(line) => {
            report.fail(
                AREA,
                line,
                "the server does not start",
                "name the certificate in TLS_CERT and the key that it was made with in TLS_KEY, both as PEM",
            );
            return;
        }
    };
    report.ok(AREA, format!("{name} and its key belong together"));
    private(key, report);
    let now = Clock::System.now();
    let mend = "renew it and replace the file; a running server takes it within five seconds";
    match validity(&identity.certificate()) {
        None => report.warn(
            AREA,
            format!("{name} does not say how long it is valid"),
            "clients refuse a certificate that has ended",
            mend,
        ),
        Some((from, _)) if from > now => report.fail(
            AREA,
            format!("{name} is valid from {} on", rfc3339(from)),
            "clients refuse it until then",
            "look at the clock of this machine, or take the certificate before it",
        ),
        Some((_, until)) if until <= now => {
            report.fail(AREA, format!("{name} has ended at {}", rfc3339(until)), "clients refuse it", mend);
        }
        Some((_, until)) if until <= now + SOON => {
            report.warn(AREA, format!("{name} ends at {}", rfc3339(until)), "clients refuse it then", mend);
        }
        Some((_, until)) => report.ok(AREA, format!("{name} is valid until {}", rfc3339(until))),
    }
}

/// Whether others on this machine can read a private key.
fn private(key: &Path, report: &mut Report) {
    if std::fs::metadata(key).is_ok_and(|found| found.permissions().mode() & OTHERS != 0) {
        report.warn(
            AREA,
            format!("{} is readable for everybody on this machine", key.display()),
            "who has the key can pretend to be this server",
            format!("chmod 600 {}", key.display()),
        );
    }
}

async fn notifications(config: &Serve, db: Open<'_>, report: &mut Report) {
    let settings = &config.notify;
    match Prepared::new(settings, &Clock::System) {
        Ok(_) if settings.has_channel() => report.ok(AREA, "the keys and texts of notifications can be read"),
        Ok(_) => {}
        Err(line) => report.fail(
            AREA,
            line,
            "the server does not start",
            "FCM_KEY_FILE is the JSON of a service account, APNS_KEY_FILE the .p8 of a key for APNs, TEXTS_DIR a folder of .ftl files",
        ),
    }
    for file in settings.fcm_key_file.iter().chain(&settings.apns_key_file) {
        private(file, report);
    }
    let Some(db) = db else { return };
    match in_time(AREA, "the keys in the database", report, notify::keys_fit(db, settings)).await {
        Some(Ok(fit)) => {
            if fit.devices == Some(false) {
                report.fail(
                    AREA,
                    "NOTIFY_KEY does not open the devices in the database",
                    "nobody who registered a device before gets a notification",
                    "set the NOTIFY_KEY that this database was used with, or that one as NOTIFY_KEY_PREVIOUS",
                );
            } else if fit.devices == Some(true) {
                report.ok(AREA, "NOTIFY_KEY opens the devices in the database");
            }
            if fit.vapid == Some(false) {
                report.fail(
                    AREA,
                    "the key of Web Push in the database cannot be read",
                    "the server does not start with VAPID_SUBJECT",
                    "restore the row `vapid` of the table server_key from a backup",
                );
            }
        }
        Some(Err(error)) => report.warn(
            AREA,
            format!("the keys in the database cannot be read: {error}"),
            "the server makes new ones if there are none",
            "look at the findings on the database",
        ),
        None => {}
    }
}

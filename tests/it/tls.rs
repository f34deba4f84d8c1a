//! `PostgreSQL` over TLS, against a server with a certificate that the test makes; and that its password is in no log.

use std::path::Path;
use std::process::Command;

use ordercast::base::db::{Db, FailureKind, failure_kind};
use sea_orm::{ConnectionTrait, Statement};

use crate::binary::{RunningServer, run};
use crate::harness::{SECRET, TestDb, until};
use crate::postgres::{Postgres, give_to_postgres};

fn openssl(folder: &Path, args: &str) {
    let ran =
        Command::new("openssl").args(args.split_whitespace()).current_dir(folder).output().expect("openssl");
    assert!(ran.status.success(), "{ran:?}");
}

/// `ca.pem` and `other-ca.pem`, and `server.pem` of the first one, valid for the host `localhost`.
fn make_certificates(folder: &Path) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    for name in ["ca", "other-ca"] {
        openssl(folder, &format!("req -x509 {key} -subj /CN={name} -keyout {name}.key -out {name}.pem"));
    }
    openssl(
        folder,
        &format!(
            "req -x509 {key} -subj /CN=server -addext subjectAltName=DNS:localhost -addext \
             basicConstraints=critical,CA:FALSE -CA ca.pem -CAkey ca.key -keyout server.key -out server.pem"
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_verified_as_sslmode_says() {
    let certificates = tempfile::tempdir().expect("a folder");
    make_certificates(certificates.path());
    let file = |name: &str| certificates.path().join(name).display().to_string();
    let (server, key) = (file("server.pem"), file("server.key"));
    let settings = [format!("ssl_cert_file = '{server}'"), format!("ssl_key_file = '{key}'")];
    give_to_postgres(certificates.path());
    let Some(postgres) = Postgres::start(&["ssl = on", &settings[0], &settings[1]]) else { return };
    let (ca, other) = (file("ca.pem"), file("other-ca.pem"));
    for (host, parameters, good) in [
        ("127.0.0.1", "?sslmode=require".to_owned(), true),
        ("127.0.0.1", format!("?sslmode=verify-ca&sslrootcert={ca}"), true),
        ("127.0.0.1", format!("?sslmode=verify-ca&sslrootcert={other}"), false),
        ("127.0.0.1", "?sslmode=verify-ca".to_owned(), false),
        ("localhost", format!("?sslmode=verify-full&sslrootcert={ca}"), true),
        ("localhost", format!("?sslmode=verify-full&sslrootcert={other}"), false),
        ("localhost", "?sslmode=verify-full&sslrootcert=system".to_owned(), false),
        ("127.0.0.1", format!("?sslmode=verify-full&sslrootcert={ca}"), false),
    ] {
        let case = format!("{host} {parameters}");
        match Db::connect(&postgres.url(host, "postgres", &parameters)).await {
            Ok(db) => {
                assert!(good, "{case}");
                let question = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
                let question = Statement::from_string(db.writer().get_database_backend(), question);
                let answer = db.writer().query_one_raw(question).await.expect("an answer").expect("a row");
                assert!(answer.try_get::<bool>("", "ssl").expect("a flag"), "{case}");
                db.close().await;
            }
            Err(error) => {
                assert!(!good, "{case}: {error}");
                assert_eq!(failure_kind(&error), FailureKind::Outage, "{case}");
                assert!(error.to_string().contains("certificate"), "{case}: {error}");
                assert!(!format!("{error} {error:?}").contains(Postgres::password()), "{case}");
            }
        }
    }
    // The whole server, and what it says while PostgreSQL is away. An unknown parameter may be a misspelt secret.
    let url = postgres.url(
        "localhost",
        "postgres",
        &format!("?sslmode=verify-full&sslrootcert={ca}&secret_word=misspelt"),
    );
    let args = ["--listen", "127.0.0.1:0", "--database-url", &url, "--jwt-secret", SECRET];
    let running = RunningServer::start(&args, "trace");
    let ready = async |status: u16| {
        let url = format!("{}/ready", running.base);
        until("/ready", async || reqwest::get(&url).await.expect("an answer").status() == status).await;
    };
    ready(200).await;
    postgres.down("immediate");
    ready(503).await;
    let (_, log) = tokio::task::spawn_blocking(|| running.terminate()).await.expect("no panic");
    assert!(log.contains("secret_word") && log.contains("does not answer"), "{log}");
    assert!(!log.contains(Postgres::password()) && !log.contains("misspelt"), "a secret is in the log");
    let failed = run(&args);
    let error = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.code(), Some(2), "{error}");
    assert!(!error.contains(Postgres::password()), "{error}");
}

#[tokio::test]
async fn a_postgresql_without_tls_is_refused_when_tls_is_asked_for() {
    let Some(db) = TestDb::postgres().await else { return };
    for mode in ["require", "verify-ca", "verify-full"] {
        let refused = Db::connect(&format!("{}?sslmode={mode}", db.url())).await.expect_err(mode);
        assert!(refused.to_string().contains("does not support TLS"), "{refused}");
    }
}

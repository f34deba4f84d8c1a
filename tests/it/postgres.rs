//! A `PostgreSQL` of a test's own, which it may stop, start again and configure.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sea_orm::{ConnectionTrait, Database, DatabaseConnection};

use crate::harness::TestDb;

const PASSWORD: &str = "a-password-that-no-log-may-have";

/// A server with its data in a temporary folder. It ends with the test.
pub struct Postgres {
    folder: tempfile::TempDir,
    port: u16,
}

impl Postgres {
    /// Starts one with these settings. Without the `PostgreSQL` that `tests/run` installs, prints a note and returns
    /// `None`.
    pub fn start(settings: &[&str]) -> Option<Self> {
        if std::env::var("ORDERCAST_TEST_POSTGRES").is_err() {
            eprintln!("skipped: ORDERCAST_TEST_POSTGRES is not set (tests/run sets it)");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .expect("a port")
            .port();
        let postgres = Self { folder, port };
        std::fs::write(postgres.file("password"), PASSWORD).expect("written");
        give_to_postgres(postgres.folder.path());
        let data = postgres.file("data");
        let mut made = postgres.program("initdb");
        let made = made.args(["-U", "ordercast", "-A", "scram-sha-256", "-E", "UTF8"]);
        let made = made
            .args(["--locale=C", "--no-sync"])
            .arg("-D")
            .arg(&data)
            .arg("--pwfile")
            .arg(postgres.file("password"));
        check(&made.output().expect("initdb"));
        let folder = postgres.folder.path().display();
        let mut lines =
            format!("port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{folder}'\n");
        for setting in settings {
            lines.push_str(setting);
            lines.push('\n');
        }
        let file = data.join("postgresql.auto.conf");
        std::fs::write(&file, lines).expect("written");
        give_to_postgres(&file);
        postgres.up();
        Some(postgres)
    }

    /// A file in the folder of this server.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The address of a database, with parameters.
    pub fn url(&self, host: &str, database: &str, parameters: &str) -> String {
        format!("postgres://ordercast:{PASSWORD}@{host}:{}/{database}{parameters}", self.port)
    }

    pub fn password() -> &'static str {
        PASSWORD
    }

    /// The database that every `PostgreSQL` has, for a server under test.
    pub fn db(&self) -> TestDb {
        TestDb::Postgres { base: self.url("127.0.0.1", "", ""), name: "postgres".to_owned() }
    }

    pub async fn admin(&self) -> DatabaseConnection {
        Database::connect(self.url("127.0.0.1", "template1", "")).await.expect("PostgreSQL")
    }

    pub fn up(&self) {
        self.control(&["-w", "-t", "60", "start"]);
    }

    /// Stops it. `immediate` is like a crash.
    pub fn down(&self, mode: &str) {
        self.control(&["-m", mode, "stop"]);
    }

    fn control(&self, args: &[&str]) {
        let log = self.file("log");
        let ran =
            self.program("pg_ctl").arg("-D").arg(self.file("data")).arg("-l").arg(&log).args(args).output();
        let ran = ran.expect("pg_ctl");
        assert!(ran.status.success(), "{ran:?} {}", std::fs::read_to_string(log).unwrap_or_default());
    }

    /// A program of `PostgreSQL`. It refuses to run as root, so root steps down.
    fn program(&self, name: &str) -> Command {
        let path = program_path(name);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir(self.folder.path());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self
            .program("pg_ctl")
            .arg("-D")
            .arg(self.file("data"))
            .args(["-m", "immediate", "stop"])
            .output();
    }
}

/// Debian keeps the server's programs out of the PATH, in a folder for each version.
pub fn program_path(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.exists());
    found.max().unwrap_or_else(|| PathBuf::from(name))
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n")
}

/// Files of the server belong to its user; its folder and its keys are private.
pub fn give_to_postgres(path: &Path) {
    let mode = if path.is_dir() { 0o700 } else { 0o600 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("its mode");
    if is_root() {
        check(&Command::new("chown").args(["-R", "postgres"]).arg(path).output().expect("chown"));
    }
}

fn check(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// A small disk, which can be full. Needs the right to mount; without it, prints a note and returns `None`.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    pub fn at(folder: &Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16m,mode=755", "small"])
            .arg(folder)
            .output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self(folder.to_owned()));
        }
        eprintln!("skipped: a small disk cannot be mounted here (tests/chaos fills one too)");
        None
    }

    /// Takes all the room there is.
    pub fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.0.join("filler")).expect("a file");
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    pub fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// Executes statements on a connection that stays open: for a transaction that holds a lock.
pub async fn hold(url: &str, statements: &str) -> DatabaseConnection {
    let mut options = sea_orm::ConnectOptions::new(url);
    options.max_connections(1).min_connections(1);
    let other = Database::connect(options).await.expect("a connection");
    other.execute_unprepared(statements).await.expect("held");
    other
}

//! What packages and service managers need of the binary.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use clap::CommandFactory;
use ordercast::cli::Cli;

use crate::binary::{RunningServer, ordercast, run};
use crate::harness::{PATIENCE, SECRET};

#[test]
fn the_newest_version_of_the_changelog_is_the_one_of_cargo() {
    let changelog = include_str!("../../CHANGELOG.md");
    let versions: Vec<_> = changelog.lines().filter_map(|line| line.strip_prefix("## [")).collect();
    assert_eq!(versions.first(), Some(&"Unreleased]"), "what comes next stands first");
    let (version, date) = versions[1].split_once("] - ").expect("## [version] - date");
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    assert!(date.parse::<chrono::NaiveDate>().is_ok(), "{date}");
}

#[test]
fn shells_complete_every_subcommand() {
    for (shell, check) in [("bash", Some("bash")), ("zsh", None), ("fish", None)] {
        let script = run(&["completions", shell]);
        assert!(script.status.success(), "{script:?}");
        let text = String::from_utf8(script.stdout).expect("text");
        for subcommand in Cli::command().get_subcommands() {
            assert!(text.contains(subcommand.get_name()), "{shell}: {subcommand}");
        }
        if let Some(program) = check {
            let completed = format!(
                "{text}\nCOMP_WORDS=(ordercast heal) COMP_CWORD=1; _ordercast ordercast heal ordercast; echo \"${{COMPREPLY[*]}}\""
            );
            let output = Command::new(program).args(["-c", &completed]).output().expect("bash");
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "health", "{output:?}");
        }
    }
    assert_eq!(run(&["completions", "tcsh"]).status.code(), Some(2));
}

#[test]
fn there_is_a_page_for_every_subcommand_and_no_secret_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = ordercast(&["man", "--out"]);
    command.arg(folder.path()).env("JWT_SECRET", SECRET).env("DATABASE_URL", "postgres://u:secret-word@h/d");
    let written = command.output().expect("it runs");
    assert!(written.status.success(), "{written:?}");
    let page = |name: &str| {
        std::fs::read_to_string(folder.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let main = page("ordercast.1");
    let printed = ordercast(&["man"]).env("JWT_SECRET", SECRET).output().expect("it runs").stdout;
    for page in [&*main, &String::from_utf8_lossy(&printed)] {
        for name in ["DATABASE_URL", "ordercast\\-load(1)"] {
            assert!(page.contains(name), "{name}");
        }
        assert!(!page.contains(SECRET) && !page.contains("secret-word"), "what the environment says");
    }
    for subcommand in Cli::command().get_subcommands() {
        assert!(page(&format!("ordercast-{}.1", subcommand.get_name())).starts_with(".ie"));
    }
    let nowhere = run(&["man", "--out", "/nowhere"]);
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("/nowhere"), "{nowhere:?}");
}

#[test]
fn systemd_is_told_when_the_server_is_ready_and_when_it_stops() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let hear = || {
        let mut state = [0; 64];
        let length = socket.recv(&mut state).expect("a state");
        String::from_utf8_lossy(&state[..length]).into_owned()
    };
    let url = format!("sqlite://{}/n.db?mode=rwc", folder.path().display());
    let mut command = ordercast(&["--listen", "127.0.0.1:0", "--database-url", &url, "--jwt-secret", SECRET]);
    let running = RunningServer::of(command.env("NOTIFY_SOCKET", &path), "info");
    assert_eq!(hear(), "READY=1");
    assert_eq!(running.terminate().0, Some(0));
    assert_eq!(hear(), "STOPPING=1");
}

//! `docs/settings.md` is generated from the flags. After a change of theirs, `UPDATE=1 cargo test --test it settings` writes
//! it anew.

use std::fmt::Write as _;

use clap::CommandFactory;
use ordercast::cli::Cli;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/settings.md");

const HEAD: &str = "# Settings

Every flag of `ordercast serve`, its environment variable and its default. A flag wins over its variable. Settings that cannot
be used are refused in one line, with exit code 2. This page is generated from the code: `UPDATE=1 cargo test --test it settings`.
";

fn page() -> String {
    let command = Cli::command();
    let mut page = HEAD.to_owned();
    let mut heading = None;
    for arg in command.get_arguments().filter(|arg| arg.get_env().is_some() || arg.get_id() == "demo") {
        let under = arg.get_help_heading().unwrap_or("Server");
        if heading != Some(under) {
            heading = Some(under);
            write!(page, "\n## {under}\n\n| flag | variable | default | what |\n|---|---|---|---|\n")
                .expect("text");
        }
        let flag = arg.get_long().unwrap_or_default();
        let variable = arg.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default();
        let takes_value = arg.get_action().takes_values();
        let default = arg.get_default_values().first().filter(|_| takes_value).map_or_else(
            || if takes_value { "none" } else { "off" }.to_owned(),
            |value| format!("`{}`", value.to_string_lossy()),
        );
        let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
        writeln!(page, "| `--{flag}` | {variable} | {default} | {help} |").expect("text");
    }
    page
}

#[test]
fn the_page_of_settings_is_what_the_flags_say() {
    let page = page();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(FILE, &page).expect("written");
    }
    let written = std::fs::read_to_string(FILE).unwrap_or_default();
    assert_eq!(written, page, "docs/settings.md differs from the flags; UPDATE=1 writes it anew");
}

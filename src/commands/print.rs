//! What is printed and nothing else: documents, tokens, addresses, pages and completions.

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;
use ordercast::auth::mint;
use ordercast::base::clock::Clock;
use ordercast::base::config::check_secret;
use ordercast::cli::{Cli, CompletionsArgs, ManArgs, SmsAddressArgs, TokenArgs};
use ordercast::notify::texting::inbound_address;
use ordercast::transport;

use super::{exit_bad_config, exit_failure};

/// Prints a text to standard output. A reader that closes the pipe early, such as `head`, is no error.
pub fn print(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            exit_failure(&format!("cannot print: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

pub fn print_openapi() -> ExitCode {
    match transport::http::document().to_pretty_json() {
        Ok(document) => print(&document),
        Err(error) => exit_failure(&format!("the document cannot be written: {error}")),
    }
}

pub fn print_completions(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ordercast", &mut script);
    print(String::from_utf8_lossy(&script).trim_end())
}

pub fn man(args: &ManArgs) -> ExitCode {
    let Some(folder) = &args.out else {
        let mut page = Vec::new();
        return match clap_mangen::Man::new(Cli::command().disable_help_subcommand(true)).render(&mut page) {
            Ok(()) => print(String::from_utf8_lossy(&page).trim_end()),
            Err(error) => exit_failure(&format!("the page cannot be made: {error}")),
        };
    };
    match clap_mangen::generate_to(Cli::command(), folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit_bad_config(&format!("--out: {} cannot be written to: {error}", folder.display())),
    }
}

pub fn print_sms_address(args: &SmsAddressArgs) -> ExitCode {
    match inbound_address(&args.notify_key, &args.public_url, args.sms_provider) {
        Ok(address) => print(&address),
        Err(_) => exit_bad_config("NOTIFY_KEY must be 64 hex digits"),
    }
}

pub fn print_token(args: &TokenArgs) -> ExitCode {
    let Some(secret) = &args.jwt_secret else {
        return exit_bad_config("set JWT_SECRET to sign a token with");
    };
    if let Err(line) = check_secret(secret) {
        return exit_bad_config(&line);
    }
    if let Err(rule) = ordercast::model::UserId::parse(&args.sub) {
        return exit_bad_config(&format!("--sub {rule}"));
    }
    match mint(secret, &args.sub, args.role, args.name.as_deref(), Clock::System.now(), args.ttl) {
        Ok(token) => print(&token),
        Err(error) => exit_failure(&format!("cannot sign: {error}")),
    }
}

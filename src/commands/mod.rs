//! Subcommands that print something or work on a database, and the exit codes of all of them.

mod database;
mod print;
mod replay;

use std::process::ExitCode;

pub use self::database::{backup, migrate, restore};
pub use self::print::{man, print, print_completions, print_openapi, print_sms_address, print_token};
pub use self::replay::replay;

/// Exit code for invalid settings.
const BAD_CONFIG: u8 = 2;

pub fn exit_bad_config(line: &str) -> ExitCode {
    eprintln!("ordercast: {line}");
    ExitCode::from(BAD_CONFIG)
}

pub fn exit_failure(line: &str) -> ExitCode {
    eprintln!("ordercast: {line}");
    ExitCode::FAILURE
}

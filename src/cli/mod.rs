//! The command line: flags to calls, errors to sentences and exit codes.
//!
//! Owner: the main thread. Exit codes: 0 it was done, what was checked is whole (for `serve`:
//! drained after a signal); 1 it failed, or damage was found (the server stopped by itself); 2 it
//! was refused and nothing was done (command line, configuration, a key, a folder that is there,
//! in use, or of a newer version). `docs/operations.md` has the table; `doctor` has codes of its
//! own.
//! Standard output carries results only; everything said to people goes to standard error.
//! Deliberately not here: anything a command does.

mod backup;
mod chat;
mod doctor;
mod log;
mod serve;
mod token;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::auth::Keys;
use crate::config::{self, Config, ServeFlags};

/// What failed, or is damaged.
const EXIT_FAILED: u8 = 1;
/// What was refused before it began; the code clap uses for a bad command line.
const EXIT_REFUSED: u8 = 2;
/// `doctor`: something stops the sessions asked about.
const EXIT_STOPS: u8 = 1;
/// `doctor`: something could not be read.
const EXIT_UNKNOWN: u8 = 3;

const EXIT_CODES: &str = "Exit codes: 0 done, or whole; 1 failed, or damage found; \
                          2 refused or wrong arguments, nothing done.";

/// A chat server that holds ten million live sessions on one host
#[derive(Debug, Parser)]
#[command(name = "myriad", version, after_help = EXIT_CODES, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server until SIGTERM or SIGINT; prints one line of JSON when it listens
    Serve(Box<ServeFlags>),
    /// Mint a token for a device of a user and print it
    Token(token::TokenFlags),
    /// Chat in this terminal
    Chat(chat::ChatFlags),
    /// Look into a log, check it, mend a copy of it; changes nothing in it
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Copy a data folder, also while its server runs
    Backup(backup::BackupFlags),
    /// Make a data folder of a backup
    Restore(backup::RestoreFlags),
    /// Say how many sessions this host allows, what stops more, and what to change
    Doctor(doctor::DoctorFlags),
    /// Print or check a configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print a complete configuration file: every key with its unit and default
    Example,
    /// Say whether the server would start with this file (it reads the key files too)
    Check {
        /// The file
        file: PathBuf,
    },
}

/// Why a command did not end well.
#[derive(Debug)]
enum Failure {
    /// Nothing was started.
    Refused(String),
    /// It was started and failed.
    Failed(String),
    /// It was done, and what it found is its exit code; everything was said.
    Said(u8),
}

impl Failure {
    fn refused(cause: impl Display) -> Self {
        Self::Refused(cause.to_string())
    }

    fn failed(cause: impl Display) -> Self {
        Self::Failed(cause.to_string())
    }

    fn text(&self) -> &str {
        match self {
            Self::Refused(text) | Self::Failed(text) => text,
            Self::Said(_) => "",
        }
    }
}

/// Runs the command that `arguments` (the program's name first) ask for.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(answer) => {
            // Help and version are answers on standard output; a closed pipe changes nothing.
            let _ = answer.print();
            return if answer.use_stderr() { EXIT_REFUSED.into() } else { ExitCode::SUCCESS };
        }
    };
    let outcome = match arguments.command {
        Command::Serve(flags) => serve::run(&flags),
        Command::Token(flags) => token::run(&flags),
        Command::Chat(flags) => chat::run(flags),
        Command::Log(command) => log::run(&command),
        Command::Backup(flags) => backup::backup(&flags),
        Command::Restore(flags) => backup::restore(&flags),
        Command::Doctor(flags) => doctor::run(&flags),
        Command::Config(ConfigCommand::Example) => print(&config::example()),
        Command::Config(ConfigCommand::Check { file }) => check(&file),
    };
    let (text, code) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Refused(text)) => (text, EXIT_REFUSED),
        Err(Failure::Failed(text)) => (text, EXIT_FAILED),
        Err(Failure::Said(code)) => return code.into(),
    };
    let _ = writeln!(io::stderr(), "myriad: {text}");
    code.into()
}

/// Checks a configuration file and the keys it names.
fn check(file: &Path) -> Result<(), Failure> {
    let config = Config::load_file(file).map_err(Failure::refused)?;
    // With `dev` there is no key yet: the start makes it.
    if !config.dev {
        Keys::load(&config).map_err(Failure::refused)?;
    }
    print(&format!("{} is usable.\n", file.display()))
}

/// Prints a result. A reader that has gone away has seen enough.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(cause) if cause.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("The result can't be written: {cause}.")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}

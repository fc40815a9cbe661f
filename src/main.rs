//! The `myriad` command; everything is in `myriad::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    myriad::cli::run(std::env::args_os())
}

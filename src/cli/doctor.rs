//! `myriad doctor`: what this host allows.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser as _;

use super::{EXIT_STOPS, EXIT_UNKNOWN, Failure, print};
use crate::config::{Config, Driver, Settings};
use crate::doctor::{self, Fact, Host, Plan, Print, System};
use crate::limits;

/// The flags of `myriad doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 nothing stops so many sessions; 1 something does; 2 wrong arguments; 3 nothing that \
could be read does, but something could not be read.")]
pub(super) struct DoctorFlags {
    /// Sessions at once; default: sessions_max of the configuration
    #[arg(long, value_name = "COUNT",
          value_parser = clap::value_parser!(u64).range(1..=limits::SESSIONS_SETTING_MAX as u64))]
    connections: Option<u64>,
    /// Of a hundred sessions so many come over TLS
    #[arg(long, value_name = "PERCENT", default_value_t = 0,
          value_parser = clap::value_parser!(u8).range(0..=100))]
    tls_share: u8,
    /// The server's configuration file: shards, driver and tables are taken from it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Shards of the server; default: those of the configuration, or one per allowed core
    #[arg(long, value_name = "COUNT",
          value_parser = clap::value_parser!(u64).range(1..=limits::SHARDS_MAX as u64))]
    shards: Option<u64>,
    /// Driver of the server; default: that of the configuration, or auto
    #[arg(long, value_name = "NAME", value_enum)]
    driver: Option<Driver>,
    /// The load generator runs on this host too: both ends and their ports count
    #[arg(long)]
    load: bool,
    /// Its source addresses; default: as many as it takes by itself on loopback
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    sources: Option<u64>,
    /// Print one line of JSON instead (docs/tuning.md describes it)
    #[arg(long, conflicts_with = "print")]
    json: bool,
    /// Print a file of the tuning kits for so many sessions instead of looking at this host, or
    /// tables of the documentation
    #[arg(long, value_name = "FILE", value_parser = prints())]
    print: Option<Print>,
}

fn prints() -> impl clap::builder::TypedValueParser<Value = Print> {
    PossibleValuesParser::new(Print::ALL.map(|(name, _)| name)).map(|name| {
        let found = Print::ALL.into_iter().find(|(known, _)| *known == name);
        found.map_or(Print::Sysctl, |(_, print)| print)
    })
}

pub(super) fn run(flags: &DoctorFlags) -> Result<(), Failure> {
    let config = config(flags)?;
    let plan = Plan {
        config,
        tls_percent: flags.tls_share,
        load: flags.load,
        sources: flags.sources,
        driver: Driver::Ready,
        cgroup_version: 2,
        system: System::here(),
    };
    if let Some(what) = flags.print {
        return print_kit(what, plan);
    }
    let mut host = doctor::read();
    if flags.config.is_some() {
        note_configuration(&mut host, flags)?;
    }
    let (driver, why) = match doctor::driver_of(&plan.config, &host) {
        Ok(choice) => (choice.driver, choice.why),
        Err(why) => (Driver::Ready, format!("assumed, because this is not known: {why}")),
    };
    let cgroup_version = host.number("memory.cgroup.version").unwrap_or(plan.cgroup_version);
    let plan = Plan { driver, cgroup_version, ..plan };
    let judgement = doctor::judge(&plan, &host);
    if flags.json {
        print(&format!("{}\n", doctor::json(&judgement, &host, &why)))?;
    } else {
        print(&doctor::told(&judgement, &host, &why))?;
    }
    if judgement.stops() {
        return Err(Failure::Said(EXIT_STOPS));
    }
    if judgement.is_blind() {
        return Err(Failure::Said(EXIT_UNKNOWN));
    }
    Ok(())
}

/// What the server would run with, for as many sessions as are asked about.
fn config(flags: &DoctorFlags) -> Result<Config, Failure> {
    let mut config = match &flags.config {
        Some(file) => Config::load_file(file).map_err(Failure::refused)?,
        None => {
            // Nothing is opened: this only brings the defaults.
            let settings = Settings { dev: Some(true), ..Settings::default() };
            Config::from_settings(&settings).map_err(Failure::refused)?
        }
    };
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    if let Some(driver) = flags.driver {
        config.driver = driver;
    }
    if let Some(shards) = flags.shards {
        config.shards = count(shards);
    }
    if let Some(sessions) = flags.connections {
        config.sessions_max = count(sessions);
        if flags.config.is_none() {
            config.users_max = count(sessions); // what the last line says to start with
        }
    }
    Ok(config)
}

/// The tables of a configuration are facts, too.
fn note_configuration(host: &mut Host, flags: &DoctorFlags) -> Result<(), Failure> {
    let Some(file) = &flags.config else { return Ok(()) };
    let config = Config::load_file(file).map_err(Failure::refused)?;
    host.set("sessions_max", Fact::Number(config.sessions_max as u64));
    host.set("memory_max_bytes", Fact::Number(config.memory_max_bytes));
    host.set("users_max", Fact::Number(config.users_max as u64));
    Ok(())
}

fn print_kit(what: Print, plan: Plan) -> Result<(), Failure> {
    let system = match what {
        Print::FreeBsdLoader | Print::FreeBsdSysctl | Print::FreeBsdLogin => System::FreeBsd,
        _ => System::Linux,
    };
    print(&doctor::print(what, &Plan { system, ..plan }))
}

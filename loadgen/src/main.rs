//! The `myriad-loadgen` command: checks, kills and measures chat servers.
//!
//! Exit codes: 0 done and everything held; 1 a check failed or could not be finished; 2 wrong
//! arguments. Deliberately not here: what the subcommands do (the library).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use loadgen::process::ServeOptions;
use loadgen::report::command;
use loadgen::{
    bench, check, connects, crash, durable, echo, idle, interrupt, run, survive, sustain,
};

#[derive(Debug, Parser)]
#[command(name = "myriad-loadgen", version, about = "Checks, kills and measures chat servers")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Transport {
    Ws,
    Tcp,
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Tcp => "tcp",
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts a server and plays a conversation: all ticks, offline, kill -9, restart, drain
    Check {
        /// The `myriad` binary
        #[arg(long)]
        server_binary: PathBuf,
        #[arg(long, value_enum, default_value = "ws")]
        transport: Transport,
    },
    /// Kills a server under load, again and again, and checks that nothing is lost or doubled
    Crash(CrashArguments),
    /// Measures the cost of a fully ticked message
    Bench(BenchArguments),
    /// Measures messages for people who are not there, against Redis and bare writes and syncs
    Durable(DurableArguments),
    /// Exchanges and acks messages for minutes: does the log stay as large as it was?
    Sustain(SustainArguments),
    /// Measures the memory of sessions that do nothing
    Idle {
        /// Address of the server: ws://HOST:PORT/v1/chat or tcp://HOST:PORT
        #[arg(long)]
        url: String,
        /// The server's HS256 secret
        #[arg(long)]
        auth_secret_file: PathBuf,
        /// Process id of the server
        #[arg(long)]
        server_pid: u32,
        #[arg(long, default_value_t = 15_000)]
        sessions: usize,
        /// Sessions that log in before memory is first read
        #[arg(long, default_value_t = 500)]
        warm_up: usize,
        /// Writes the report here too
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Plays a scenario against a server and checks every message: idle, chat, storm and others
    Run(Box<run::command::RunArguments>),
    /// Draws a report of `run` again
    Report(command::ReportArguments),
    /// Sets two reports, or several of each, beside each other
    Compare(command::CompareArguments),
    /// Acked messages for people who are away: how many outlive a kill -9 of the server?
    Survive {
        #[command(subcommand)]
        step: survive::Step,
    },
    /// A bare echo over epoll on one thread, the yardstick of `bench`
    EchoServer {
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Speaks WebSocket and sends back messages instead of bytes, for targets echo+ws://
        #[arg(long)]
        websocket: bool,
    },
    /// Connects and accepts on two threads and nothing else, the yardstick of logins
    ConnectBench {
        /// Connections, each of them two files of this process
        #[arg(long, default_value_t = 8_000)]
        connections: usize,
    },
    /// Measures the echo server
    EchoBench {
        #[arg(long, default_value_t = 1_000)]
        sessions: usize,
        #[arg(long, default_value_t = 1)]
        in_flight: usize,
        #[arg(long, default_value_t = 100_000)]
        round_trips: u64,
        #[arg(long, default_value_t = 150)]
        payload_bytes: usize,
        /// Writes the report here too
        #[arg(long)]
        json: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
struct CrashArguments {
    /// The `myriad` binary
    #[arg(long)]
    server_binary: PathBuf,
    #[arg(long, default_value_t = 10)]
    rounds: u32,
    /// Users; an even number, at least 4
    #[arg(long, default_value_t = 100, value_parser = even_sessions)]
    sessions: usize,
    /// Longest life of the server in one round
    #[arg(long, default_value_t = 1.0)]
    seconds_per_round: f64,
    /// Unanswered messages per sender
    #[arg(long, default_value_t = 4)]
    in_flight: usize,
    #[arg(long, default_value_t = 150)]
    payload_bytes: usize,
    /// Shards; 0 leaves it to the server
    #[arg(long, default_value_t = 0)]
    shards: usize,
    #[arg(long, default_value = "auto")]
    driver: String,
    #[arg(long, value_enum, default_value = "ws")]
    transport: Transport,
    /// Of everything random; printed in the report
    #[arg(long)]
    seed: Option<u64>,
    /// A further argument for `serve`; may be given several times
    #[arg(long = "server-argument", allow_hyphen_values = true)]
    server_arguments: Vec<String>,
    /// Writes the report here too
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct BenchArguments {
    /// Address of the server: ws://HOST:PORT/v1/chat or tcp://HOST:PORT
    #[arg(long)]
    url: String,
    /// The server's HS256 secret
    #[arg(long)]
    auth_secret_file: PathBuf,
    /// Process id of the server
    #[arg(long)]
    server_pid: u32,
    /// Sessions; an even number, at least 4
    #[arg(long, default_value_t = 1_000, value_parser = even_sessions)]
    sessions: usize,
    /// Messages under way per sender
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// Messages in all
    #[arg(long, default_value_t = 100_000)]
    messages: u64,
    #[arg(long, default_value_t = 150)]
    payload_bytes: usize,
    /// Measures the bare echo in the same run and tells the ratio
    #[arg(long)]
    echo: bool,
    /// Writes the report here too
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct DurableArguments {
    /// The `myriad` binary
    #[arg(long)]
    server_binary: PathBuf,
    /// The `redis-server` binary (Debian: package redis-server)
    #[arg(long, default_value = "redis-server")]
    redis_binary: PathBuf,
    /// Numbers of shards to measure
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    shards: Vec<usize>,
    /// Connections
    #[arg(long, default_value_t = 200)]
    senders: usize,
    /// Messages under way per connection, at most 64
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=64))]
    in_flight: u64,
    /// Messages per run
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    #[arg(long, default_value_t = 100)]
    payload_bytes: usize,
    /// People each sender writes to, who never log in
    #[arg(long, default_value_t = 50)]
    recipients: u64,
    /// How often all of it is measured
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// A further argument for `serve`; may be given several times
    #[arg(long = "server-argument", allow_hyphen_values = true)]
    server_arguments: Vec<String>,
    /// Writes the report here too
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct SustainArguments {
    /// The `myriad` binary
    #[arg(long)]
    server_binary: PathBuf,
    #[arg(long, default_value_t = 10)]
    minutes: u32,
    /// Sessions; an even number, at least 4
    #[arg(long, default_value_t = 1_000, value_parser = even_sessions)]
    sessions: usize,
    /// Messages under way per sender
    #[arg(long, default_value_t = 16)]
    in_flight: usize,
    #[arg(long, default_value_t = 150)]
    payload_bytes: usize,
    /// Shards; 0 leaves it to the server
    #[arg(long, default_value_t = 2)]
    shards: usize,
    /// A further argument for `serve`; may be given several times
    #[arg(long = "server-argument", allow_hyphen_values = true)]
    server_arguments: Vec<String>,
    /// Writes the report here too
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Sessions that talk in pairs.
fn even_sessions(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count >= 4 && count % 2 == 0 => Ok(count),
        _ => Err("an even number, at least 4: sessions talk in pairs".to_owned()),
    }
}

/// What went wrong, in words.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = interrupt::listen() {
        eprintln!("myriad-loadgen: can't listen for Ctrl-C: {error}");
    }
    match dispatch(arguments.command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("myriad-loadgen: {failure}");
            let run = failure.downcast_ref::<run::command::CommandError>();
            if run.is_some_and(run::command::CommandError::is_wrong_argument) {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// Runs a subcommand; `Ok(false)`: it ran, and something did not hold.
fn dispatch(command: Command) -> Result<bool, Failure> {
    match command {
        Command::Check { server_binary, transport } => {
            let transport = transport.name().to_owned();
            let result = check::run(&check::Options { server_binary, transport });
            if let Err(error) = &result {
                loadgen::say!("check failed: {error}");
            }
            Ok(result.is_ok())
        }
        Command::Crash(arguments) => run_crash(arguments),
        Command::Bench(arguments) => run_bench(arguments),
        Command::Durable(arguments) => run_durable(arguments),
        Command::Sustain(arguments) => run_sustain(arguments),
        Command::Idle { url, auth_secret_file, server_pid, sessions, warm_up, json } => {
            let options = idle::Options { url, auth_secret_file, server_pid, sessions, warm_up };
            print_report(&idle::run(&options)?, json.as_deref())?;
            Ok(true)
        }
        Command::Run(arguments) => Ok(run::command::command(*arguments)?),
        Command::Report(arguments) => {
            command::report(&arguments)?;
            Ok(true)
        }
        Command::Compare(arguments) => {
            command::compare(&arguments)?;
            Ok(true)
        }
        Command::Survive { step } => print_report(&survive::run(&step)?, None).map(|()| true),
        Command::EchoServer { listen, websocket } => {
            echo::serve(listen, websocket)?;
            Ok(true)
        }
        Command::ConnectBench { connections } => {
            print_report(&connects::measure(connections)?, None).map(|()| true)
        }
        Command::EchoBench { sessions, in_flight, round_trips, payload_bytes, json } => {
            let options = echo::Options { sessions, in_flight, round_trips, payload_bytes };
            print_report(&echo::measure(&options)?, json.as_deref())?;
            Ok(true)
        }
    }
}

fn run_crash(arguments: CrashArguments) -> Result<bool, Failure> {
    let options = crash::Options {
        serve: ServeOptions {
            binary: arguments.server_binary,
            shards: arguments.shards,
            driver: arguments.driver,
            arguments: arguments.server_arguments,
        },
        transport: arguments.transport.name().to_owned(),
        rounds: arguments.rounds,
        sessions: arguments.sessions,
        seconds_per_round: arguments.seconds_per_round,
        in_flight: arguments.in_flight,
        payload_bytes: arguments.payload_bytes,
        seed: arguments.seed.unwrap_or_else(client::random_bits),
        talkative: true,
    };
    let report = crash::run(&options)?;
    print_report(&report, arguments.json.as_deref())?;
    Ok(report.passed)
}

fn run_bench(arguments: BenchArguments) -> Result<bool, Failure> {
    let options = bench::Options {
        url: arguments.url,
        auth_secret_file: arguments.auth_secret_file,
        server_pid: arguments.server_pid,
        sessions: arguments.sessions,
        in_flight: arguments.in_flight,
        messages: arguments.messages,
        payload_bytes: arguments.payload_bytes,
        echo: arguments.echo,
    };
    print_report(&bench::run(&options)?, arguments.json.as_deref())?;
    Ok(true)
}

fn run_durable(arguments: DurableArguments) -> Result<bool, Failure> {
    let options = durable::Options {
        server_binary: arguments.server_binary,
        redis_binary: arguments.redis_binary,
        shards: arguments.shards,
        senders: arguments.senders,
        in_flight: usize::try_from(arguments.in_flight)?,
        messages: arguments.messages,
        payload_bytes: arguments.payload_bytes,
        recipients: arguments.recipients,
        rounds: arguments.rounds,
        server_arguments: arguments.server_arguments,
    };
    print_report(&durable::run(&options)?, arguments.json.as_deref())?;
    Ok(true)
}

fn run_sustain(arguments: SustainArguments) -> Result<bool, Failure> {
    let mut serve = ServeOptions::new(arguments.server_binary);
    serve.shards = arguments.shards;
    serve.arguments = arguments.server_arguments;
    let report = sustain::run(&sustain::Options {
        serve,
        minutes: arguments.minutes,
        sessions: arguments.sessions,
        in_flight: arguments.in_flight,
        payload_bytes: arguments.payload_bytes,
    })?;
    print_report(&report, arguments.json.as_deref())?;
    Ok(report.held)
}

fn print_report(report: &impl serde::Serialize, file: Option<&Path>) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(report)?;
    loadgen::say!("{text}");
    if let Some(file) = file {
        std::fs::write(file, text + "\n")?;
    }
    Ok(())
}

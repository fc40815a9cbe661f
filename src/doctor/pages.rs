//! The tables of docs/tuning.md that follow from the rows and the memory model; a test compares.

use std::fmt::Write as _;

use super::facts::System;
use super::plan::Plan;
use super::table::{Setting, Weight, rows};
use super::told::{bytes, number};
use crate::config::Driver;

/// Sessions of which the sizing tables speak.
const SESSIONS: [u64; 6] = [10_000, 100_000, 500_000, 1_000_000, 2_000_000, 10_000_000];
/// Heartbeat intervals in seconds: the default, and two for many sessions.
const INTERVALS_S: [u64; 3] = [5, 60, 300];
/// Instructions of a heartbeat, kernel and server (measured with a prototype: 13 k to 20 k).
const HEARTBEAT_INSTRUCTIONS: u64 = 20_000;
/// Instructions a processor gets done in a second: a round number to divide by.
const PROCESSOR_INSTRUCTIONS: u64 = 3_000_000_000;

/// What so many sessions take, on either system.
pub(super) fn sizing(plan: &Plan) -> String {
    let mut out = String::new();
    linux(&mut out, plan);
    out.push('\n');
    freebsd(&mut out, plan);
    out.push('\n');
    heartbeats(&mut out);
    out
}

fn of(plan: &Plan, system: System, driver: Driver, sessions: u64) -> Plan {
    let mut plan = Plan { system, driver, ..plan.with_sessions(sessions) };
    plan.config.users_max = plan.config.sessions_max;
    plan
}

fn linux(out: &mut String, plan: &Plan) {
    out.push_str(
        "| sessions, Linux | files (epoll) | epoll watches | pages of tcp_mem | server and kernel, \
         epoll | the same, io_uring | all of them TLS: more | both ends here, io_uring |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for sessions in SESSIONS {
        let ready = of(plan, System::Linux, Driver::Ready, sessions);
        let uring = of(plan, System::Linux, Driver::Uring, sessions);
        let secret = Plan { tls_percent: 100, ..uring.clone() };
        let both = Plan { load: true, ..uring.clone() };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            number(sessions),
            number(ready.files()),
            number(ready.watches()),
            number(ready.tcp_pages()),
            bytes(ready.memory().server()),
            bytes(uring.memory().server()),
            bytes(secret.memory().server() - uring.memory().server()),
            bytes(both.memory().host()),
        );
    }
}

fn freebsd(out: &mut String, plan: &Plan) {
    let wanted = ["kern.maxfiles", "kern.ipc.maxsockets", "net.inet.tcp.tcbhashsize"];
    let found = wanted.map(|name| rows().find(|row| row.name == name));
    let _ = writeln!(
        out,
        "| sessions, FreeBSD | {} | server and kernel | all of them TLS: more |\n\
         | --- | --- | --- | --- | --- | --- |",
        wanted.map(|name| format!("`{name}`")).join(" | ")
    );
    for sessions in SESSIONS {
        let plan = of(plan, System::FreeBsd, Driver::Ready, sessions);
        let secret = Plan { tls_percent: 100, ..plan.clone() };
        let needs = found.map(|row| number(row.map_or(0, |row| (row.need)(&plan))));
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} |",
            number(sessions),
            needs.join(" | "),
            bytes(plan.memory().server()),
            bytes(secret.memory().server() - plan.memory().server()),
        );
    }
}

fn heartbeats(out: &mut String) {
    out.push_str("| sessions |");
    for seconds in INTERVALS_S {
        let _ = write!(out, " every {seconds} s: a second | processors |");
    }
    out.push_str("\n| --- | --- | --- | --- | --- | --- | --- |\n");
    for sessions in SESSIONS {
        let _ = write!(out, "| {} |", number(sessions));
        for seconds in INTERVALS_S {
            let beats = sessions / seconds;
            let hundredths = beats * HEARTBEAT_INSTRUCTIONS * 100 / PROCESSOR_INSTRUCTIONS;
            let (whole, rest) = (hundredths / 100, hundredths % 100);
            let _ = write!(out, " {} | {whole}.{rest:02} |", number(beats));
        }
        out.push('\n');
    }
}

/// Every row of the table, a system and a weight after the other.
pub(super) fn settings() -> String {
    let mut out = String::new();
    for system in [System::Linux, System::FreeBsd] {
        for (weight, what) in [(Weight::Stops, "stops sessions"), (Weight::Slows, "goes badly")] {
            let _ = writeln!(
                out,
                "| {}: {what} | default | needed | without it | seen in | cost | source |\n\
                 | --- | --- | --- | --- | --- | --- | --- |",
                system.name()
            );
            for row in rows().filter(|row| row.system == system && row.weight == weight) {
                let Setting { name, default, formula, breaks, counter, cost, source, .. } = row;
                let place = row.place.name();
                let _ = writeln!(
                    out,
                    "| `{name}` ({place}) | {default} | {formula} | {breaks} | {counter} | {cost} \
                     | {source} |"
                );
            }
            out.push('\n');
        }
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

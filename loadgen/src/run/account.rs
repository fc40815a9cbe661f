//! The end of a run as a report: what was counted, read and judged, put together.
//!
//! Deliberately not here: the judging (`verdict.rs`), and the report's form (`report`).

use std::collections::BTreeMap;

use super::control::{CALM_US, Reading, Run, SECOND_US, read};
use super::course::{Course, Role};
use super::tally::Tally;
use super::{Options, RunError, verdict};
use crate::report::machine::Machine;
use crate::report::{
    FORMAT, Failure, Generator, Groups, Oracle, Report, Server, Sessions, Target, Time, Versions,
};
use crate::usage::{self, Cpu};

/// From so many clients on their memory can be told from the noise.
const CLIENTS_MEASURABLE: u64 = 5_000;

impl Run {
    /// Stops the threads and sums everything up.
    pub(super) fn finish(
        mut self,
        options: &Options,
        interrupted: bool,
    ) -> Result<Report, RunError> {
        let end_us = self.course.now_us();
        let after = read(self.server_pid);
        let own_cpu = usage::cpu(std::process::id());
        let at_end = self.course.sum(|gauge| &gauge.ready);
        let absent = self.wanted().saturating_sub(at_end);
        self.course.stop();
        let mut outcomes = Vec::new();
        for thread in std::mem::take(&mut self.threads) {
            match thread.join() {
                Ok(Ok(outcome)) => outcomes.push(outcome),
                Ok(Err(why)) => return Err(RunError::Engine(why)),
                Err(_) => return Err(RunError::Engine("a thread of clients panicked".to_owned())),
            }
        }
        for tally in self.tallies.try_iter() {
            self.total.add(tally);
        }
        for outcome in &mut outcomes {
            self.total.add(std::mem::replace(&mut outcome.ledger.tally, Tally::new()));
        }
        let closing = verdict::Closing { now_us: end_us, interrupted };
        verdict::close_books(&outcomes, &mut self.total, closing);
        let scenario = &self.course.scenario;
        let latencies = verdict::latencies(&self.total);
        let thresholds = verdict::judge(&scenario.thresholds, &self.total, &latencies, absent);
        let invalid_because = verdict::invalid_because(scenario, &self.total, absent, interrupted);
        let protocol = self.course.servers.first().map(|server| server.protocol.name());
        let protocol = protocol.unwrap_or_default();
        Ok(Report {
            format: FORMAT,
            valid: invalid_because.is_empty(),
            invalid_because,
            messages: self.total.messages,
            sessions: self.sessions(),
            groups: self.groups(),
            latency_us: latencies,
            server: self.server(after),
            failures: failures(std::mem::take(&mut self.total.reasons)),
            thresholds,
            scenario: crate::report::Scenario {
                name: scenario.name.clone(),
                parameters: parameters(&self.course, options),
            },
            target: Target { protocol, url: options.target.clone() },
            versions: Versions::new(options.server_version.clone()),
            time: Time { started_unix_ms: self.started_unix_ms, duration_s: end_us as f64 / 1e6 },
            generator: self.generator(own_cpu),
            machine: Machine::read(),
            series: self.series,
            oracle: Oracle {
                examples: self.total.examples,
                left_out: self.total.examples_left_out,
            },
        })
    }

    fn sessions(&self) -> Sessions {
        let course = &self.course;
        let all = 0..course.scenario.clients.sessions;
        let target = all.filter(|number| course.role(*number) != Role::Hostile).count();
        Sessions {
            target: target as u64,
            established: self.most_ready.max(self.opening_logins),
            failed: self.total.failed,
            per_second: self.opening_logins as f64 * 1e6 / self.opening_us.max(1) as f64,
        }
    }

    fn groups(&self) -> Option<Groups> {
        let groups = self.course.scenario.groups?;
        Some(Groups {
            count: u64::from(groups.count),
            members: u64::from(groups.members),
            writers: u64::from(groups.writers()),
            sent: self.total.posts,
            delivered: self.total.copies,
        })
    }

    fn server(&self, after: Reading) -> Server {
        let (warm, warm_count) = self.warm.unwrap_or((self.before, 0));
        let sessions = self.opening_logins.saturating_sub(warm_count).max(1) as f64;
        let grown = |before: Option<u64>, after: Option<u64>| {
            Some((after?.saturating_sub(before?)) as f64 / sessions)
        };
        let resident = |reading: &Reading| reading.server.map(|memory| memory.resident_bytes);
        let ends = if self.course.is_loopback() { 2.0 } else { 1.0 };
        let is_known = self.server_pid.is_some() && self.before.server.is_some();
        let slab = grown(warm.slab_bytes, self.there.slab_bytes).filter(|_| is_known);
        // With several servers one process tells nothing of the sessions of all.
        let is_alone = self.course.servers.len() == 1;
        let cpu = match (self.there.server_cpu, after.server_cpu) {
            (Some(before), Some(after)) => Some(after.since(before)),
            _ => None,
        };
        let delivered = self.total.messages.delivered;
        Server {
            pid: self.server_pid,
            rss_bytes_before: resident(&self.before),
            rss_bytes_after: resident(&self.there),
            user_bytes_per_session: grown(resident(&warm), resident(&self.there))
                .filter(|_| is_alone),
            kernel_bytes_per_session: slab.map(|bytes| bytes / ends),
            memory_method: is_known.then(|| {
                let share = if ends > 1.0 { ", of which half is the clients' end" } else { "" };
                format!(
                    "growth from the first {warm_count} logins to {} s after the last: VmRSS of \
                     the process; Slab of this host's kernel{share}",
                    CALM_US / SECOND_US
                )
            }),
            cpu_us_per_message: cpu
                .filter(|_| delivered > 0 && is_alone)
                .map(|cpu| cpu.scheduled_s * 1e6 / delivered as f64),
            cpu_user_s: cpu.map(|cpu| cpu.user_s),
            cpu_system_s: cpu.map(|cpu| cpu.system_s),
        }
    }

    fn generator(&self, cpu: Option<Cpu>) -> Generator {
        let (warm, warm_count) = self.warm.unwrap_or((self.before, 0));
        let clients = self.opening_logins.saturating_sub(warm_count);
        let grown = match (warm.own, self.there.own) {
            (Some(warm), Some(there)) if clients >= CLIENTS_MEASURABLE => {
                let bytes = there.resident_bytes.saturating_sub(warm.resident_bytes);
                Some(bytes as f64 / clients as f64)
            }
            _ => None,
        };
        Generator {
            engine: self.engine.to_owned(),
            threads: u64::from(self.course.threads),
            bytes_per_client: grown,
            behind_p99_us: self.total.behind_us.value_at_quantile(0.99),
            behind_max_us: self.total.behind_us.max(),
            cpu_s: cpu.map(|cpu| cpu.scheduled_s),
        }
    }
}

/// Reasons, the most frequent first.
fn failures(reasons: BTreeMap<String, u64>) -> Vec<Failure> {
    let mut failures: Vec<Failure> =
        reasons.into_iter().map(|(reason, count)| Failure { reason, count }).collect();
    failures.sort_by_key(|failure| std::cmp::Reverse(failure.count));
    failures
}

fn parameters(course: &Course, options: &Options) -> BTreeMap<String, String> {
    let clients = &course.scenario.clients;
    let highest = course.legs.iter().map(|leg| leg.rate.to).fold(0.0, f64::max);
    let mut parameters = BTreeMap::new();
    for (key, value) in [
        ("file", options.scenario.clone()),
        ("about", course.scenario.about.clone()),
        ("sessions", clients.sessions.to_string()),
        ("connects_per_second", clients.connects_per_second.to_string()),
        ("payload_bytes", clients.payload_bytes.to_string()),
        ("read_percent", clients.read_percent.to_string()),
        ("slow_percent", clients.slow_percent.to_string()),
        ("hostile_percent", clients.hostile_percent.to_string()),
        ("messages_per_second_max", highest.to_string()),
        ("source_addresses", course.sources.len().max(1).to_string()),
        ("threads", course.threads.to_string()),
    ] {
        parameters.insert(key.to_owned(), value);
    }
    if let Some(groups) = course.scenario.groups {
        let (count, members, writers) = (groups.count, groups.members, groups.writers());
        let words = format!("{count} of {members} members, {writers} of them write");
        parameters.insert("groups".to_owned(), words);
    }
    parameters
}

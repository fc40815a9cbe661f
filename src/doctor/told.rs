//! A judgement in words, for people.

use std::fmt::Write as _;

use super::facts::{Fact, Host, System};
use super::judge::{Finding, Judgement, Verdict};
use super::memory::TLS_BYTES;
use super::plan::Plan;
use super::table::Setting;

/// Columns of what is said about a finding.
const COLUMNS: usize = 96;
/// How far the words about a finding are set in.
const INDENT: &str = "      ";

/// Everything, a paragraph per kind. `why`: why the server takes that driver.
#[must_use]
pub fn told(judgement: &Judgement, host: &Host, why: &str) -> String {
    let mut out = String::new();
    head(&mut out, judgement, host, why);
    let stops: Vec<&Finding> = judgement.with(|verdict| *verdict == Verdict::Stops).collect();
    if !stops.is_empty() {
        out.push_str("\nNot enough, what stops first on top:\n");
        stops.iter().for_each(|finding| lacking(&mut out, finding));
    }
    let slows: Vec<&Finding> = judgement.with(|verdict| *verdict == Verdict::Slows).collect();
    if !slows.is_empty() {
        out.push_str("\nEnough sessions, but not well:\n");
        slows.iter().for_each(|finding| lacking(&mut out, finding));
    }
    let unknown = judgement.with(|verdict| matches!(verdict, Verdict::Unknown(_)));
    let unknown: Vec<&Finding> = unknown.collect();
    if !unknown.is_empty() {
        out.push_str("\nNot known:\n");
        for Finding { setting, verdict, need, .. } in unknown {
            let Verdict::Unknown(why) = verdict else { continue };
            let (name, need) = (setting.name, value(setting, *need));
            line(&mut out, &format!("  {name} ({why}); {need} would be needed. Without:"));
            line(&mut out, &format!("{INDENT}{}", setting.breaks));
        }
    }
    out.push_str("\nEnough:\n");
    for finding in judgement.with(|verdict| *verdict == Verdict::Enough) {
        let Finding { setting, have, need, sessions, .. } = finding;
        let have = have.map_or_else(String::new, |have| value(setting, have));
        let reach = sessions.map_or_else(String::new, |sessions| {
            format!(", enough for {} sessions", number(sessions))
        });
        let need = value(setting, *need);
        line(&mut out, &format!("  {}: {have}; needed {need}{reach}", setting.name));
    }
    for finding in judgement.with(|verdict| matches!(verdict, Verdict::Idle(_))) {
        let Verdict::Idle(why) = finding.verdict else { continue };
        line(&mut out, &format!("  {}: does not matter: {why}", finding.setting.name));
    }
    memory(&mut out, judgement);
    layout(&mut out, &judgement.plan, host);
    verdict(&mut out, judgement);
    out
}

fn head(out: &mut String, judgement: &Judgement, host: &Host, why: &str) {
    let plan = &judgement.plan;
    let say = |name| host.text(name).unwrap_or_else(|_| "unknown".to_owned());
    let kernel = if host.system == System::Linux { say("kernel") } else { String::new() };
    let memory = host.number("memory.total").map_or_else(|_| "unknown".to_owned(), bytes);
    let _ = writeln!(
        out,
        "{} sessions on {} {kernel}, {} processors, {memory} of memory, {} shards{}",
        number(plan.sessions()),
        host.system.name(),
        say("processors"),
        plan.shards(),
        if plan.load { ", the load generator here too" } else { "" },
    );
    line(out, &format!("driver {}: {why}", plan.driver.name()));
}

/// A finding of which there is not enough.
fn lacking(out: &mut String, finding: &Finding) {
    let Finding { setting, have, need, sessions, .. } = finding;
    let at = match sessions {
        Some(0) | None => "  at any number of sessions".to_owned(),
        Some(sessions) => format!("  beyond {} sessions", number(*sessions)),
    };
    let have = have.map_or_else(|| "unknown".to_owned(), |have| value(setting, have));
    let need = value(setting, *need);
    line(out, &format!("{at}: {} is {have}, needed {need} ({})", setting.name, setting.formula));
    line(out, &format!("{INDENT}what happens: {}", setting.breaks));
    line(out, &format!("{INDENT}seen in: {}", setting.counter));
    line(out, &format!("{INDENT}do: {}", setting.remedy));
    line(out, &format!("{INDENT}costs: {}", setting.cost));
}

fn memory(out: &mut String, judgement: &Judgement) {
    let memory = &judgement.memory;
    let _ = writeln!(out, "\nMemory of {} sessions:", number(memory.sessions));
    let mut row = |what: &str, each: u64, note: &str| {
        let all = bytes(each * memory.sessions);
        let _ = writeln!(out, "  {what:<26} {:>7} B each {all:>12}{note}", number(each));
    };
    row("server's own", memory.user_each, "");
    row("kernel, server's end", memory.kernel_each, "");
    if judgement.plan.tls_percent > 0 {
        let note = format!(
            "  ({} % at {} B; computed, the server does not speak TLS yet)",
            judgement.plan.tls_percent,
            number(TLS_BYTES)
        );
        row("TLS", memory.tls_each, &note);
    }
    if judgement.plan.load {
        row("load generator's end", memory.load_each, "");
    }
    let _ = writeln!(out, "  {:<26} {:>14} {:>12}", "before anybody comes", "", bytes(memory.base));
    let _ = writeln!(
        out,
        "  {:<26} {:>14} {:>12}  (256 MiB of it to stay free)",
        "all",
        "",
        bytes(memory.host())
    );
    line(out, "  Waiting mail and history come on top: docs/budgets.md.");
}

/// What no number of sessions follows from, but whoever tunes a host wants to see.
fn layout(out: &mut String, plan: &Plan, host: &Host) {
    out.push_str("\nLayout:\n");
    let shards = plan.shards();
    let threads = match host.number("processors") {
        Ok(processors) if processors >= shards => "each on a processor of its own".to_owned(),
        Ok(processors) => format!("on {processors} processors, not bound to any"),
        Err(why) => format!("on how many processors is not known ({why})"),
    };
    line(out, &format!("  shards: {shards}, {threads}; a listener each on one port"));
    let mut say = |what: &str, name: &str| {
        let text = host.text(name).unwrap_or_else(|why| format!("not known ({why})"));
        line(out, &format!("  {what}: {text}"));
    };
    say("memory nodes (NUMA)", "nodes");
    if host.system == System::Linux {
        say("network hardware", "queues");
        say("transparent huge pages", "huge pages");
        let gone_wrong = host.facts().filter_map(|(name, fact)| match fact {
            Fact::Number(times) if *times > 0 && is_counter(name) => {
                Some(format!("{name} {}", number(*times)))
            }
            _ => None,
        });
        let gone_wrong: Vec<String> = gone_wrong.collect();
        if !gone_wrong.is_empty() {
            let list = gone_wrong.join(", ");
            line(out, &format!("  counted since this host (or network) started: {list}"));
        }
    }
}

#[cfg(not(target_os = "freebsd"))]
fn is_counter(name: &str) -> bool {
    super::host::COUNTERS.contains(&name)
}

#[cfg(target_os = "freebsd")]
fn is_counter(_: &str) -> bool {
    false
}

fn verdict(out: &mut String, judgement: &Judgement) {
    let asked = number(judgement.plan.sessions());
    out.push('\n');
    if judgement.stops() {
        let (sessions, name) = judgement.limit().map_or((0, ""), |(most, by)| (most, by.name));
        let sessions = number(sessions);
        line(out, &format!("NO: {asked} sessions stop at {sessions}, because of {name}."));
    } else if judgement.is_blind() {
        line(out, &format!("UNKNOWN: nothing that could be read stops {asked} sessions."));
    } else {
        line(out, &format!("YES: nothing here stops {asked} sessions."));
    }
    if judgement.plan.sessions() > crate::limits::SESSIONS_MAX as u64 {
        let sessions = judgement.plan.sessions();
        let users = judgement.plan.config.users_max.max(judgement.plan.config.sessions_max);
        line(out, &format!("Start the server with --sessions-max {sessions} --users-max {users}."));
    }
}

/// A value in its unit.
fn value(setting: &Setting, value: u64) -> String {
    if setting.name.starts_with("memory") { bytes(value) } else { number(value) }
}

/// A number in groups of three.
#[must_use]
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes as MiB or GiB, with a decimal.
pub(super) fn bytes(bytes: u64) -> String {
    let tenths = |unit: u64| {
        let tenths = u128::from(bytes) * 10 / u128::from(unit);
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    if bytes >= 1 << 30 { tenths(1 << 30) + " GiB" } else { tenths(1 << 20) + " MiB" }
}

/// Writes a line, broken at spaces; what follows is set in as the line is, and a bit more.
fn line(out: &mut String, text: &str) {
    let indent = " ".repeat(text.len() - text.trim_start().len());
    broken(out, text, &indent, &format!("{indent}    "));
}

/// Writes words in lines, the first of which begins so and the others so.
pub(super) fn broken(out: &mut String, text: &str, first: &str, others: &str) {
    let mut column = 0;
    for word in text.split_ascii_whitespace() {
        if column == 0 {
            out.push_str(first);
            column = first.len();
        } else if column + 1 + word.chars().count() > COLUMNS {
            out.push('\n');
            out.push_str(others);
            column = others.len();
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.chars().count();
    }
    out.push('\n');
}

/// For the kit's files: what the plan is about.
pub(super) fn about(plan: &Plan) -> String {
    format!("{} sessions, {} shards", number(plan.sessions()), plan.shards())
}

//! Compares a host with what is asked. Pure: the host may be a real one or made up.

use super::facts::Host;
use super::memory::Memory;
use super::plan::Plan;
use super::table::{Setting, Weight, rows};
use crate::limits;

/// What a row comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is enough.
    Enough,
    /// Sessions end before the number asked about.
    Stops,
    /// They are there, but something goes badly.
    Slows,
    /// It does not matter here, and why.
    Idle(&'static str),
    /// It could not be read, and why.
    Unknown(String),
}

/// A row and this host.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The row.
    pub setting: &'static Setting,
    /// What the host has.
    pub have: Option<u64>,
    /// What is needed.
    pub need: u64,
    /// Sessions that what it has is enough for; `None`: it does not depend on them, or for as many
    /// as a server can be configured for.
    pub sessions: Option<u64>,
    /// What follows.
    pub verdict: Verdict,
}

/// All findings.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// What was asked.
    pub plan: Plan,
    /// In the order of the number of sessions at which they matter.
    pub findings: Vec<Finding>,
    /// Memory of so many sessions.
    pub memory: Memory,
}

impl Judgement {
    /// Those with a verdict.
    pub fn with(&self, wanted: impl Fn(&Verdict) -> bool) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| wanted(&finding.verdict))
    }

    /// Sessions this host allows, and what ends them.
    #[must_use]
    pub fn limit(&self) -> Option<(u64, &'static Setting)> {
        let stops = self.findings.iter().filter(|finding| {
            finding.setting.weight == Weight::Stops
                && matches!(finding.verdict, Verdict::Enough | Verdict::Stops)
        });
        let known = stops.filter_map(|finding| Some((finding.sessions?, finding.setting)));
        known.min_by_key(|(sessions, _)| *sessions)
    }

    /// Whether something ends the sessions before the number asked about.
    #[must_use]
    pub fn stops(&self) -> bool {
        self.with(|verdict| *verdict == Verdict::Stops).next().is_some()
    }

    /// Whether something that could end them is not known.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        let unknown = self.with(|verdict| matches!(verdict, Verdict::Unknown(_)));
        let mut stopping = unknown.filter(|finding| finding.setting.weight == Weight::Stops);
        stopping.next().is_some()
    }
}

/// Judges every row of the plan's system.
#[must_use]
pub fn judge(plan: &Plan, host: &Host) -> Judgement {
    let rows = rows().filter(|row| row.system == plan.system);
    let mut findings: Vec<Finding> = rows.map(|row| look(row, plan, host)).collect();
    let rank = |finding: &Finding| match finding.verdict {
        Verdict::Stops => 0,
        Verdict::Slows => 1,
        Verdict::Unknown(_) => 2,
        Verdict::Enough => 3,
        Verdict::Idle(_) => 4,
    };
    findings.sort_by_key(|finding| (rank(finding), finding.sessions.unwrap_or(u64::MAX)));
    Judgement { plan: plan.clone(), findings, memory: plan.memory() }
}

fn look(setting: &'static Setting, plan: &Plan, host: &Host) -> Finding {
    let need = (setting.need)(plan);
    let mut finding =
        Finding { setting, have: None, need, sessions: None, verdict: Verdict::Enough };
    if let Err(why) = (setting.applies)(plan, host) {
        finding.have = host.number(setting.name).ok();
        finding.verdict = Verdict::Idle(why);
        return finding;
    }
    let have = match host.number(setting.name) {
        Ok(have) => have,
        Err(why) => {
            finding.verdict = Verdict::Unknown(why);
            return finding;
        }
    };
    finding.have = Some(have);
    finding.sessions = enough_for(setting, plan, have);
    if !setting.rule.holds(have, need) {
        finding.verdict = match setting.weight {
            Weight::Stops => Verdict::Stops,
            Weight::Slows => Verdict::Slows,
        };
    }
    finding
}

/// Sessions for which a value is enough: needs only grow with sessions.
fn enough_for(setting: &Setting, plan: &Plan, have: u64) -> Option<u64> {
    let holds = |sessions| {
        let need = (setting.need)(&plan.with_sessions(sessions));
        setting.rule.holds(have, need)
    };
    let most = limits::SESSIONS_SETTING_MAX as u64;
    let far = most * 4; // what allows more than a server can have is no limit
    if holds(far) {
        return None;
    }
    if !holds(1) {
        return Some(0);
    }
    let (mut low, mut high) = (1, far);
    while high - low > 1 {
        let middle = low.midpoint(high);
        if holds(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(low)
}

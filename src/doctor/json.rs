//! A judgement for programs. docs/tuning.md describes it; keys are added, never changed, as long
//! as `version` stays.

use serde_json::{Value, json as object};

use super::facts::{Fact, Host};
use super::judge::{Finding, Judgement, Verdict};

/// Changes when a key changes its meaning or goes.
const VERSION: u32 = 1;

/// One object. `why`: why the server takes that driver.
#[must_use]
pub fn json(judgement: &Judgement, host: &Host, why: &str) -> Value {
    let Judgement { plan, memory, findings } = judgement;
    let facts = host.facts().map(|(name, fact)| {
        let value = match fact {
            Fact::Number(number) => object!(number),
            Fact::Text(text) => object!(text),
            Fact::Unknown(why) => object!({ "unknown": why }),
        };
        (name.to_owned(), value)
    });
    let limit = judgement.limit();
    object!({
        "version": VERSION,
        "system": plan.system.name(),
        "connections": plan.sessions(),
        "shards": plan.shards(),
        "tls_share": plan.tls_percent,
        "load": plan.load,
        "driver": { "name": plan.driver.name(), "why": why },
        "verdict": if judgement.stops() { "no" } else if judgement.is_blind() { "unknown" }
            else { "yes" },
        "allows": limit.map(|(sessions, _)| sessions),
        "stopped_by": limit.map(|(_, setting)| setting.name),
        "memory_bytes": {
            "server_each": memory.user_each,
            "kernel_each": memory.kernel_each,
            "charged_each": memory.charged_each,
            "tls_each": memory.tls_each,
            "load_each": memory.load_each,
            "base": memory.base,
            "server": memory.server(),
            "charged": memory.charged(),
            "host": memory.host(),
        },
        "checks": findings.iter().map(check).collect::<Vec<_>>(),
        "facts": facts.collect::<serde_json::Map<String, Value>>(),
    })
}

fn check(finding: &Finding) -> Value {
    let Finding { setting, have, need, sessions, verdict } = finding;
    let (state, why) = match verdict {
        Verdict::Enough => ("enough", None),
        Verdict::Stops => ("stops", None),
        Verdict::Slows => ("slows", None),
        Verdict::Idle(why) => ("idle", Some((*why).to_owned())),
        Verdict::Unknown(why) => ("unknown", Some(why.clone())),
    };
    object!({
        "name": setting.name,
        "state": state,
        "why": why,
        "have": have,
        "need": need,
        "rule": setting.rule.name(),
        "enough_for": sessions,
        "place": setting.place.name(),
        "read": setting.read,
        "default": setting.default,
        "formula": setting.formula,
        "breaks": setting.breaks,
        "counter": setting.counter,
        "cost": setting.cost,
        "remedy": setting.remedy,
        "source": setting.source,
    })
}

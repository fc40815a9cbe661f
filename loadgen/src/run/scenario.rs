//! What a run plays, as a TOML file says it.
//!
//! Units are in the names. A key that is not known is an error that names the line and the keys
//! that are. Deliberately not here: what a phase does to clients (`player`), and goals'
//! measurement (`verdict.rs`).

use std::path::Path;

use serde::Deserialize;

use super::RunError;
use super::groups::{Groups, Plan};
use super::payload::HEAD_BYTES;

/// Clients of one run: they are numbered with 32 bits, and a process has no more memory.
const SESSIONS_MAX: u32 = 16_000_000;
/// Messages per second of one run; far above what a host writes.
const RATE_MAX: f64 = 100_000_000.0;
/// Longest phase: a week.
const PHASE_SECONDS_MAX: f64 = 604_800.0;
/// Payloads up to what servers take.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// Phases of one scenario.
const PHASES_MAX: usize = 1_000;

/// The scenarios that are built in.
const BUILT_IN: [(&str, &str); 9] = [
    ("idle", include_str!("../../scenarios/idle.toml")),
    ("chat", include_str!("../../scenarios/chat.toml")),
    ("fan-in", include_str!("../../scenarios/fan-in.toml")),
    ("offline-online", include_str!("../../scenarios/offline-online.toml")),
    ("storm", include_str!("../../scenarios/storm.toml")),
    ("churn", include_str!("../../scenarios/churn.toml")),
    ("slow-readers", include_str!("../../scenarios/slow-readers.toml")),
    ("hostile", include_str!("../../scenarios/hostile.toml")),
    ("group", include_str!("../../scenarios/group.toml")),
];

/// A scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// Its name, for reports.
    pub(crate) name: String,
    /// What it shows, in a sentence.
    pub(crate) about: String,
    #[serde(default)]
    pub(crate) clients: Clients,
    /// None unless given.
    pub(crate) groups: Option<Groups>,
    pub(crate) phases: Vec<Phase>,
    #[serde(default)]
    pub(crate) ending: Ending,
    #[serde(default)]
    pub(crate) thresholds: Thresholds,
}

/// Who takes part.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Clients {
    /// Clients in all.
    pub(crate) sessions: u32,
    /// New connections per second, at the start and when more are wanted.
    pub(crate) connects_per_second: f64,
    /// Longest wait for a connection and its login.
    pub(crate) connect_timeout_seconds: f64,
    /// Bytes of a message.
    pub(crate) payload_bytes: usize,
    /// How many of a hundred messages their recipient marks as read.
    pub(crate) read_percent: u32,
    /// Of a hundred clients so many read slowly.
    pub(crate) slow_percent: u32,
    /// As fast as this.
    pub(crate) slow_bytes_per_second: u32,
    /// Of a hundred clients so many break rules and never log in.
    pub(crate) hostile_percent: u32,
    /// To how many everybody writes with `traffic = "fan-in"`.
    pub(crate) fan_in_recipients: u32,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            sessions: 1_000,
            connects_per_second: 2_000.0,
            connect_timeout_seconds: 20.0,
            payload_bytes: 150,
            read_percent: 0,
            slow_percent: 0,
            slow_bytes_per_second: 2_000,
            hostile_percent: 0,
            fan_in_recipients: 1,
        }
    }
}

/// A stretch of time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Phase {
    pub(crate) name: String,
    pub(crate) seconds: f64,
    #[serde(default)]
    pub(crate) shape: Shape,
    /// Messages of all clients together; with a ramp, at its end.
    #[serde(default)]
    pub(crate) messages_per_second: f64,
    #[serde(default)]
    pub(crate) traffic: Traffic,
    /// Of a hundred clients so many are connected; unless given, as many as before.
    pub(crate) online_percent: Option<f64>,
    /// Connections that are cut and come back at once, per second.
    #[serde(default)]
    pub(crate) churn_per_second: f64,
    /// Every connection is cut when the phase begins, and all come back.
    #[serde(default)]
    pub(crate) storm: bool,
    /// With `storm`: so many come back per second; 0: all at once.
    #[serde(default)]
    pub(crate) storm_per_second: f64,
}

/// How the rate of messages goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Shape {
    /// The same all the time.
    #[default]
    Hold,
    /// Evenly from the rate before to this one.
    Ramp,
    /// At this rate, and the phase after counts from the rate before.
    Spike,
}

/// Who writes to whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Traffic {
    /// Clients 0 and 1, 2 and 3, and so on.
    #[default]
    Pairs,
    /// Everybody to the first few.
    FanIn,
    /// Anybody to anybody.
    Random,
    /// Those connected to those not.
    ToOffline,
    /// The writers of the groups, in turn, to their groups.
    Group,
}

/// After the last phase.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Ending {
    /// Messages under way are waited for so long; then they are lost.
    pub(crate) drain_seconds: f64,
    /// If 1 in 100 messages began later than this after its intended time, the generator was too
    /// slow and the result is not valid.
    pub(crate) behind_p99_us_max: u64,
}

impl Default for Ending {
    fn default() -> Self {
        Self { drain_seconds: 10.0, behind_p99_us_max: 20_000 }
    }
}

/// Goals. What must never happen has the goal 0 unless the file says otherwise.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Thresholds {
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) corrupted: u64,
    /// Attempts that failed, and sessions that ended against our will.
    pub(crate) failed: u64,
    pub(crate) connect_p50_us: Option<u64>,
    pub(crate) connect_p99_us: Option<u64>,
    pub(crate) connect_p999_us: Option<u64>,
    pub(crate) connect_max_us: Option<u64>,
    pub(crate) sent_p50_us: Option<u64>,
    pub(crate) sent_p99_us: Option<u64>,
    pub(crate) sent_p999_us: Option<u64>,
    pub(crate) sent_max_us: Option<u64>,
    pub(crate) delivered_p50_us: Option<u64>,
    pub(crate) delivered_p99_us: Option<u64>,
    pub(crate) delivered_p999_us: Option<u64>,
    pub(crate) delivered_max_us: Option<u64>,
    pub(crate) read_p50_us: Option<u64>,
    pub(crate) read_p99_us: Option<u64>,
    pub(crate) read_p999_us: Option<u64>,
    pub(crate) read_max_us: Option<u64>,
}

impl Scenario {
    /// The built-in one of that name, or else the file.
    pub(crate) fn load(name: &str) -> Result<Self, RunError> {
        if let Some((_, text)) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
            return Self::parse(text, &format!("{name} (built in)"));
        }
        let path = Path::new(name);
        if !path.exists() && path.extension().is_none() && path.components().count() == 1 {
            let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
            return Err(RunError::Arguments(format!(
                "no scenario is called `{name}`: give a TOML file or one of {}",
                names.join(", ")
            )));
        }
        let text = std::fs::read_to_string(path)
            .map_err(|error| RunError::Arguments(format!("can't read {name}: {error}")))?;
        Self::parse(&text, name)
    }

    /// Reads the text of `file`.
    pub(crate) fn parse(text: &str, file: &str) -> Result<Self, RunError> {
        let scenario: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| {
                text.get(..span.start).unwrap_or_default().matches('\n').count() + 1
            });
            RunError::Arguments(format!("{file}:{line}: {}", plain(error.message())))
        })?;
        scenario.check().map_err(|why| RunError::Arguments(format!("{file}: {why}")))?;
        Ok(scenario)
    }

    /// Every number in its bounds; also after flags changed it.
    pub(crate) fn check(&self) -> Result<(), String> {
        let clients = &self.clients;
        within("clients.sessions", f64::from(clients.sessions), 1.0, f64::from(SESSIONS_MAX))?;
        within("clients.connects_per_second", clients.connects_per_second, 0.1, RATE_MAX)?;
        within("clients.connect_timeout_seconds", clients.connect_timeout_seconds, 0.1, 3_600.0)?;
        let bytes = clients.payload_bytes as f64;
        within("clients.payload_bytes", bytes, HEAD_BYTES as f64, PAYLOAD_BYTES_MAX as f64)?;
        for (key, percent) in [
            ("clients.read_percent", clients.read_percent),
            ("clients.slow_percent", clients.slow_percent),
            ("clients.hostile_percent", clients.hostile_percent),
        ] {
            within(key, f64::from(percent), 0.0, 100.0)?;
        }
        let slow = f64::from(clients.slow_bytes_per_second);
        within("clients.slow_bytes_per_second", slow, 1.0, 1e9)?;
        let recipients = f64::from(clients.fan_in_recipients);
        within("clients.fan_in_recipients", recipients, 1.0, f64::from(SESSIONS_MAX))?;
        within("ending.drain_seconds", self.ending.drain_seconds, 0.0, 3_600.0)?;
        if self.phases.is_empty() || self.phases.len() > PHASES_MAX {
            return Err(format!("1 to {PHASES_MAX} [[phases]] are needed"));
        }
        for phase in &self.phases {
            let key = |key: &str| format!("phase `{}`: {key}", phase.name);
            within(&key("seconds"), phase.seconds, 0.001, PHASE_SECONDS_MAX)?;
            within(&key("messages_per_second"), phase.messages_per_second, 0.0, RATE_MAX)?;
            within(&key("churn_per_second"), phase.churn_per_second, 0.0, RATE_MAX)?;
            within(&key("storm_per_second"), phase.storm_per_second, 0.0, RATE_MAX)?;
            within(&key("online_percent"), phase.online_percent.unwrap_or(0.0), 0.0, 100.0)?;
            let offline = clients.sessions - self.online(phase.online_percent.unwrap_or(100.0));
            if phase.traffic == Traffic::ToOffline
                && phase.messages_per_second > 0.0
                && offline == 0
            {
                return Err(key(
                    "traffic to-offline needs an online_percent that leaves some away",
                ));
            }
        }
        let writes = self.phases.iter().any(|phase| phase.messages_per_second > 0.0);
        if writes && clients.sessions < 2 {
            return Err("clients.sessions: messages need at least 2".to_owned());
        }
        self.check_groups()
    }

    fn check_groups(&self) -> Result<(), String> {
        let posts = self.phases.iter().find(|phase| phase.traffic == Traffic::Group);
        let Some(groups) = self.groups else {
            return posts.map_or(Ok(()), |phase| {
                let name = &phase.name;
                Err(format!("phase `{name}`: traffic group needs [groups] with count and members"))
            });
        };
        let clients = &self.clients;
        groups.check(clients.sessions)?;
        if clients.slow_percent > 0 || clients.hostile_percent > 0 {
            return Err(
                "groups: clients.slow_percent and hostile_percent must be 0, because every \
                        member has to get every copy"
                    .to_owned(),
            );
        }
        let percent = self.phases.first().and_then(|phase| phase.online_percent);
        if self.online(percent.unwrap_or(100.0)) < clients.sessions {
            return Err("groups: the first phase needs online_percent = 100: a server knows \
                        members once they have logged in"
                .to_owned());
        }
        Ok(())
    }

    /// The groups among the clients, if there are any.
    pub(crate) fn plan(&self) -> Option<Plan> {
        self.groups.map(|groups| Plan::new(groups, self.clients.sessions))
    }

    /// Whether so many servers, which know nothing of each other, can be played against.
    pub(crate) fn check_servers(&self, servers: usize) -> Result<(), String> {
        let talks =
            |phase: &&Phase| phase.messages_per_second > 0.0 && phase.traffic != Traffic::Pairs;
        if self.groups.is_some() && servers > 1 {
            return Err("groups: they are on one server, so only one target is possible".to_owned());
        }
        match self.phases.iter().find(talks) {
            Some(phase) if servers > 1 => Err(format!(
                "phase `{}`: with several targets only pairs can talk, which share a server",
                phase.name
            )),
            _ => Ok(()),
        }
    }

    /// Multiplies all rates so that the highest is this.
    pub(crate) fn set_rate(&mut self, messages_per_second: f64) -> Result<(), String> {
        let highest = self.phases.iter().map(|phase| phase.messages_per_second).fold(0.0, f64::max);
        if highest <= 0.0 {
            return Err(format!("the scenario `{}` sends no messages to set a rate of", self.name));
        }
        for phase in &mut self.phases {
            phase.messages_per_second *= messages_per_second / highest;
        }
        Ok(())
    }

    /// How many clients a percentage is.
    pub(crate) fn online(&self, percent: f64) -> u32 {
        let share = f64::from(self.clients.sessions) * percent / 100.0;
        u32::try_from(super::schedule::micros(share / 1e6)).unwrap_or(u32::MAX)
    }
}

/// Words of the parser without the names of types.
fn plain(words: &str) -> String {
    let whole = |most: &str| format!("expected a whole number from 0 to {most}");
    words
        .replace("expected u32", &whole("4294967295"))
        .replace("expected u64", &whole("9223372036854775807"))
        .replace("expected usize", &whole("9223372036854775807"))
        .replace("expected f64", "expected a number")
}

fn within(key: &str, value: f64, least: f64, most: f64) -> Result<(), String> {
    if value >= least && value <= most {
        return Ok(());
    }
    // Not with three hundred digits.
    let value = if value.abs() < 1e15 { value.to_string() } else { format!("{value:e}") };
    Err(format!("{key} = {value}: {least} to {most} is allowed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scenario_is_sound() {
        for (name, text) in BUILT_IN {
            let scenario = Scenario::parse(text, name).unwrap();
            assert_eq!(scenario.name, name);
            assert!(!scenario.about.is_empty());
        }
    }

    #[test]
    fn a_wrong_key_is_named_with_its_line_and_the_right_ones() {
        let text = "name = \"x\"\nabout = \"y\"\n[clients]\nsesions = 5\n";
        let error = Scenario::parse(text, "f.toml").unwrap_err().to_string();
        for part in ["f.toml:4:", "`sesions`", "`sessions`", "`payload_bytes`"] {
            assert!(error.contains(part), "{error} lacks {part}");
        }
    }

    #[test]
    fn a_number_out_of_its_bounds_is_named() {
        let text = "name = \"x\"\nabout = \"y\"\n[[phases]]\nname = \"a\"\nseconds = -1\n";
        let error = Scenario::parse(text, "f.toml").unwrap_err().to_string();
        assert!(error.contains("phase `a`: seconds = -1"), "{error}");
        let words = |number| {
            Scenario::parse(&text.replace("-1", number), "f.toml").unwrap_err().to_string()
        };
        assert!(words("nan").contains("seconds = NaN"));
        assert!(words("1e300").contains("seconds = 1e300: 0.001 to 604800"), "{}", words("1e300"));
        let text = text.replace("[[phases]]", "[clients]\nsessions = -5\n[[phases]]");
        let error = Scenario::parse(&text, "f.toml").unwrap_err().to_string();
        assert!(error.starts_with("f.toml:4: ") && error.contains("from 0 to 42949"), "{error}");
    }

    #[test]
    fn groups_that_cannot_be_say_why() {
        let parse = |top: &str, phase: &str| {
            let text = format!(
                "name = \"a\"\nabout = \"b\"\n{top}\n[[phases]]\nname = \"p\"\nseconds = 1\n{phase}"
            );
            Scenario::parse(&text, "f.toml").map_err(|error| error.to_string())
        };
        let groups = "[groups]\ncount = 2\nmembers = 5\n";
        let posts = "traffic = \"group\"\nmessages_per_second = 5\n";
        let plan = parse(groups, posts).unwrap().plan().unwrap();
        assert_eq!((plan.groups.writers(), plan.sessions), (5, 1_000));
        for (top, phase, words) in [
            ("", posts, "phase `p`: traffic group needs [groups]"),
            ("groups = { count = 2 }", posts, "f.toml:3: missing field `members`"),
            ("groups = { count = 2, members = 1_001 }", posts, "groups.members = 1001: 2 to 1000"),
            (groups, "online_percent = 50", "the first phase needs online_percent = 100"),
            (&format!("{groups}[clients]\nslow_percent = 1"), posts, "slow_percent"),
        ] {
            let error = parse(top, phase).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let scenario = parse(groups, posts).unwrap();
        assert!(scenario.check_servers(2).unwrap_err().contains("one target"));
    }

    #[test]
    fn a_rate_given_scales_all() {
        let mut scenario = Scenario::load("chat").unwrap();
        scenario.set_rate(50.0).unwrap();
        let rates = scenario.phases.iter().map(|phase| phase.messages_per_second);
        assert!((rates.fold(0.0, f64::max) - 50.0).abs() < 1e-9);
        assert!(Scenario::load("idle").unwrap().set_rate(5.0).is_err());
        assert!(Scenario::load("no-such").unwrap_err().to_string().contains("offline-online"));
    }
}

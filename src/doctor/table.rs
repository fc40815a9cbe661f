//! What a row of the table is. The rows are in `linux`, `freebsd` and `load`.

use super::facts::{Host, System};
use super::plan::Plan;

/// How a value is compared with what is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// As much, or more.
    AtLeast,
    /// As much, or less.
    AtMost,
    /// As much, or less, but something: 0 means that another setting counts.
    AtMostNotZero,
    /// Two ends; the width counts.
    Range,
}

impl Rule {
    /// As the kit's files write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AtLeast => "at least",
            Self::AtMost => "at most",
            Self::AtMostNotZero => "at most, not 0",
            Self::Range => "range",
        }
    }

    /// Whether a value does.
    #[must_use]
    pub fn holds(self, have: u64, need: u64) -> bool {
        match self {
            Self::AtLeast | Self::Range => have >= need,
            Self::AtMost => have <= need,
            Self::AtMostNotZero => have <= need && have > 0,
        }
    }
}

/// What too little of it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// There are no more sessions than it allows.
    Stops,
    /// They are there, but something goes badly: retries, stalls, a slow lookup.
    Slows,
}

/// Where it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// While the system runs; kept in sysctl.d or sysctl.conf.
    Sysctl,
    /// Limits of a process: service manager, limits.d, login.conf.
    Limits,
    /// When the system starts: the kernel's command line, loader.conf.
    Boot,
    /// The host itself, or its control groups.
    Machine,
    /// The server's own configuration.
    Server,
}

impl Place {
    /// A word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sysctl => "sysctl",
            Self::Limits => "limits",
            Self::Boot => "boot",
            Self::Machine => "machine",
            Self::Server => "server",
        }
    }
}

/// The files of the tuning kits that are made of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KitFile {
    /// `tuning/linux/50-myriad.conf`.
    LinuxSysctl,
    /// `tuning/freebsd/loader.conf`.
    FreeBsdLoader,
    /// `tuning/freebsd/sysctl.conf`.
    FreeBsdSysctl,
    /// `tuning/loadgen/50-myriad-loadgen.conf`.
    LoadSysctl,
}

/// A line of a kit.
#[derive(Clone, Copy, Debug)]
pub struct Kit {
    /// Of which file.
    pub file: KitFile,
    /// The value to write.
    pub value: fn(&Plan) -> String,
}

/// A row: one setting or resource.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// As the system calls it; also the name of the fact.
    pub name: &'static str,
    /// Where it is read.
    pub read: &'static str,
    /// Of several numbers the one that counts.
    pub column: usize,
    /// The system that has it.
    pub system: System,
    /// How it is compared.
    pub rule: Rule,
    /// What too little of it does.
    pub weight: Weight,
    /// Where it is set.
    pub place: Place,
    /// What systems come with.
    pub default: &'static str,
    /// What so many sessions need.
    pub need: fn(&Plan) -> u64,
    /// The same in words.
    pub formula: &'static str,
    /// Whether it matters for this plan on this host, or why not.
    pub applies: fn(&Plan, &Host) -> Result<(), &'static str>,
    /// The line in a kit.
    pub kit: Option<Kit>,
    /// What happens without.
    pub breaks: &'static str,
    /// Where that is seen.
    pub counter: &'static str,
    /// What raising it costs.
    pub cost: &'static str,
    /// What to do.
    pub remedy: &'static str,
    /// Where this is known from.
    pub source: &'static str,
}

/// Matters always.
pub(super) fn always(_: &Plan, _: &Host) -> Result<(), &'static str> {
    Ok(())
}

/// Most rows say so much in common.
pub(super) const LINUX_SYSCTL: Setting = Setting {
    name: "",
    read: "/proc/sys",
    column: 0,
    system: System::Linux,
    rule: Rule::AtLeast,
    weight: Weight::Stops,
    place: Place::Sysctl,
    default: "",
    need: |_| 0,
    formula: "",
    applies: always,
    kit: None,
    breaks: "",
    counter: "",
    cost: "nothing by itself",
    remedy: "",
    source: "",
};

/// The same for FreeBSD.
pub(super) const FREEBSD_SYSCTL: Setting =
    Setting { read: "sysctl", system: System::FreeBsd, ..LINUX_SYSCTL };

/// Every row.
pub fn rows() -> impl Iterator<Item = &'static Setting> {
    super::linux::STOPS
        .iter()
        .chain(&super::linux_slow::SLOWS)
        .chain(&super::load::ROWS)
        .chain(&super::freebsd::ROWS)
}

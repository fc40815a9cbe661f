//! The files of the tuning kits that are made of the table.

use std::fmt::Write as _;

use super::pages;
use super::plan::Plan;
use super::table::{KitFile, rows};
use super::told::{self, about};

/// What can be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Print {
    /// `tuning/linux/50-myriad.conf`, for sysctl.d.
    Sysctl,
    /// `tuning/linux/limits.conf`, for limits.d.
    Limits,
    /// `tuning/linux/myriad.service`, for systemd.
    Systemd,
    /// `tuning/freebsd/loader.conf`.
    FreeBsdLoader,
    /// `tuning/freebsd/sysctl.conf`.
    FreeBsdSysctl,
    /// `tuning/freebsd/login.conf`.
    FreeBsdLogin,
    /// `tuning/loadgen/50-myriad-loadgen.conf`, for sysctl.d.
    LoadSysctl,
    /// The tables of docs/tuning.md about sizes.
    Sizing,
    /// The tables of docs/tuning.md about settings.
    Settings,
}

impl Print {
    /// All, with the names of the command line.
    pub const ALL: [(&'static str, Self); 9] = [
        ("sysctl.d", Self::Sysctl),
        ("limits.d", Self::Limits),
        ("systemd", Self::Systemd),
        ("freebsd-loader", Self::FreeBsdLoader),
        ("freebsd-sysctl", Self::FreeBsdSysctl),
        ("freebsd-login", Self::FreeBsdLogin),
        ("loadgen-sysctl.d", Self::LoadSysctl),
        ("sizing", Self::Sizing),
        ("settings", Self::Settings),
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        let found = Self::ALL.into_iter().find(|(_, print)| *print == self);
        found.map_or("", |(name, _)| name)
    }
}

/// The text of a file for so many sessions, with the larger needs of readiness, so that it serves
/// either driver.
#[must_use]
pub fn print(what: Print, plan: &Plan) -> String {
    match what {
        Print::Sysctl => settings(what, KitFile::LinuxSysctl, plan),
        Print::FreeBsdLoader => settings(what, KitFile::FreeBsdLoader, plan),
        Print::FreeBsdSysctl => settings(what, KitFile::FreeBsdSysctl, plan),
        Print::LoadSysctl => settings(what, KitFile::LoadSysctl, plan),
        Print::Limits => limits(plan),
        Print::Systemd => systemd(plan),
        Print::FreeBsdLogin => login(plan),
        Print::Sizing => pages::sizing(plan),
        Print::Settings => pages::settings(),
    }
}

fn head(what: Print, plan: &Plan) -> String {
    format!(
        "# Myriad: {}. Printed by\n\
         #   myriad doctor --print {} --connections {} --shards {}\n",
        about(plan),
        what.name(),
        plan.sessions(),
        plan.shards()
    )
}

fn settings(what: Print, file: KitFile, plan: &Plan) -> String {
    let mut out = head(what, plan);
    let quoted = file == KitFile::FreeBsdLoader;
    for row in rows() {
        let Some(kit) = row.kit.filter(|kit| kit.file == file) else { continue };
        let value = (kit.value)(plan);
        let facts = [
            ("rule", row.rule.name()),
            ("default", row.default),
            ("needed", row.formula),
            ("without", row.breaks),
            ("seen in", row.counter),
            ("cost", row.cost),
            ("source", row.source),
        ];
        out.push('\n');
        for (name, text) in facts {
            comment(&mut out, &format!("{name}: {text}"));
        }
        let _ = match (file, quoted) {
            (_, true) => writeln!(out, "{}=\"{value}\"", row.name),
            (KitFile::FreeBsdSysctl, _) => writeln!(out, "{}={value}", row.name),
            _ => writeln!(out, "{} = {value}", row.name),
        };
    }
    out
}

/// A comment, broken at spaces.
fn comment(out: &mut String, text: &str) {
    told::broken(out, text, "# ", "#    ");
}

/// Files and the reasons for their number, as every kit says it.
fn files(plan: &Plan) -> String {
    let row = rows().find(|row| row.name == "RLIMIT_NOFILE" && row.system == plan.system);
    let mut out = String::new();
    if let Some(row) = row {
        for (name, text) in [
            ("default", row.default),
            ("needed", row.formula),
            ("without", row.breaks),
            ("cost", row.cost),
            ("source", row.source),
        ] {
            comment(&mut out, &format!("{name}: {text}"));
        }
    }
    out
}

fn limits(plan: &Plan) -> String {
    let (about, files_max) = (files(plan), plan.files());
    format!(
        "{}# For logins and cron; a service of systemd has its own (myriad.service). Needs \
         fs.nr_open first.\n\n{about}myriad soft nofile {files_max}\nmyriad hard nofile \
         {files_max}\n",
        head(Print::Limits, plan)
    )
}

fn systemd(plan: &Plan) -> String {
    let memory = plan.memory();
    let most = memory.server() / 10 * 13 / (1 << 20);
    let sections = [
        ("[Unit]", "Description=Myriad chat server"),
        ("", "After=network-online.target systemd-sysctl.service"),
        ("", "Wants=network-online.target"),
        ("[Service]", "ExecStart=/usr/local/bin/myriad serve --config /etc/myriad/myriad.toml"),
        ("", "User=myriad"),
        ("", "StateDirectory=myriad"),
    ];
    let mut out = head(Print::Systemd, plan);
    out.push_str(
        "# /etc/myriad/myriad.toml: `myriad config example`; data = \"/var/lib/myriad\"\n",
    );
    for (section, line) in sections {
        if !section.is_empty() {
            let _ = writeln!(out, "\n{section}");
        }
        let _ = writeln!(out, "{line}");
    }
    out.push_str(&files(plan));
    let _ = writeln!(out, "LimitNOFILE={}", plan.files());
    comment(
        &mut out,
        "the control group is charged for the kernel's sockets too. To bound the service, leave \
         three tenths above what doctor computes for the server; from 90 % of the bound on the \
         server refuses sessions:",
    );
    let _ = writeln!(out, "#MemoryMax={most}M");
    let rest = [
        ("SIGTERM drains; drain_ms and a bit", "TimeoutStopSec=30"),
        ("a server that stopped by itself is safe to start again", "Restart=on-failure"),
        ("a configuration that is refused stays refused", "RestartPreventExitStatus=2"),
        ("the log has to be written and nothing else", "ProtectSystem=strict"),
        ("", "ProtectHome=true"),
        ("", "PrivateTmp=true"),
        ("", "NoNewPrivileges=true"),
    ];
    for (why, line) in rest {
        if !why.is_empty() {
            comment(&mut out, why);
        }
        let _ = writeln!(out, "{line}");
    }
    out.push_str("\n[Install]\nWantedBy=multi-user.target\n");
    out
}

fn login(plan: &Plan) -> String {
    let (about, files_max) = (files(plan), plan.files());
    format!(
        "{}# Add to /etc/login.conf, then: cap_mkdb /etc/login.conf; pw usermod myriad -L \
         myriad\n\n{about}myriad:\\\n    :openfiles={files_max}:\\\n    :tc=daemon:\n",
        head(Print::FreeBsdLogin, plan)
    )
}

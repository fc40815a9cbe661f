//! Reads a FreeBSD host, through sysctl. It compiles; it has not been run.

use super::facts::{Fact, Host, System};
use super::table::rows;
use crate::sys;

/// This host.
#[must_use]
pub fn read() -> Host {
    let mut host = Host::new(System::FreeBsd);
    let said = |error: std::io::Error| error.to_string();
    for row in rows().filter(|row| row.system == System::FreeBsd && row.read == "sysctl") {
        host.set_number(row.name, sys::sysctl(row.name).map_err(said));
    }
    host.set_number("memory", sys::sysctl("hw.usermem").map_err(said));
    host.set_number("memory.total", sys::sysctl("hw.physmem").map_err(said));
    host.set_number("RLIMIT_NOFILE", sys::nofile().map(|(_, hard)| hard).map_err(said));
    let cores = sys::cores().map(|cores| cores.len() as u64);
    host.set_number("processors", cores.map_err(said));
    host.set_number("nodes", sys::sysctl("vm.ndomains").map_err(said));
    host.set("sessions_max", Fact::Text("not given".to_owned()));
    host.set("users_max", Fact::Text("not given".to_owned()));
    host.set("SESSIONS_SETTING_MAX", Fact::Number(crate::limits::SESSIONS_SETTING_MAX as u64));
    host
}

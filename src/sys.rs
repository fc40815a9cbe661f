//! The few calls of the C library that no safe crate here offers: placement and limits.
//!
//! Owner: called at start, before or by the thread concerned. Not here: sockets (`io::socket`),
//! mapping (`log`).

#![allow(unsafe_code, reason = "five calls of the C library, each a few lines")]

use std::io;

/// Binds the calling thread to one core.
///
/// # Errors
/// What the system says; `InvalidInput` if there is no such core or the process may not use it.
pub fn pin_thread(core: usize) -> io::Result<()> {
    if !cores()?.contains(&core) {
        let text = format!("core {core} does not exist or this process may not run there");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    // SAFETY: a set of bits in an array of integers, for which zero is a value.
    let mut set: CoreSet = unsafe { std::mem::zeroed() };
    // SAFETY: `core` is one that the system put into such a set, so it lies in it.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set is initialised, its true size is given, and the call only reads it.
    check(unsafe { write_affinity(&raw const set) })
}

/// The cores this process may run on, ascending.
///
/// # Errors
/// What the system says.
pub fn cores() -> io::Result<Vec<usize>> {
    // SAFETY: a set of bits in an array of integers, for which zero is a value.
    let mut set: CoreSet = unsafe { std::mem::zeroed() };
    // SAFETY: the set is ours to write and its true size is given.
    check(unsafe { read_affinity(&raw mut set) })?;
    // SAFETY: every asked-for core lies inside the set, whose size in bits bounds the range.
    Ok((0..size_of::<CoreSet>() * 8)
        .filter(|core| unsafe { libc::CPU_ISSET(*core, &set) })
        .collect())
}

/// The limits on open files of this process: soft, hard.
///
/// # Errors
/// What the system says.
pub fn nofile() -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is ours to write.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    Ok((widen(limit.rlim_cur), widen(limit.rlim_max)))
}

/// Raises the soft limit on open files to the hard one. Gives both as they are then.
///
/// # Errors
/// What the system says. The hard limit is the operator's to raise.
pub fn raise_nofile() -> io::Result<(u64, u64)> {
    let (soft, hard) = nofile()?;
    if soft < hard {
        set_nofile(hard)?;
    }
    nofile()
}

/// Sets the soft limit on open files (tests lower it; the hard limit stays).
///
/// # Errors
/// What the system says; `soft` must not exceed the hard limit.
pub fn set_nofile(soft: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is ours to write.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = narrow(soft);
    // SAFETY: the structure is initialised and the call only reads it.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })
}

/// Bytes of a page of memory; 4,096 if the system does not say.
#[must_use]
pub fn page_bytes() -> usize {
    // SAFETY: takes a number, gives a number.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).ok().filter(|bytes| *bytes > 0).unwrap_or(4096)
}

/// A number the kernel keeps under this name.
///
/// # Errors
/// What the system says; `InvalidData` if it is no number of four or eight bytes.
#[cfg(target_os = "freebsd")]
#[allow(clippy::host_endian_bytes, reason = "the kernel writes in the host's order")]
pub fn sysctl(name: &str) -> io::Result<u64> {
    let name = std::ffi::CString::new(name)?;
    let mut value = [0_u8; 8];
    let mut bytes = value.len();
    // SAFETY: the name ends in a zero, the value is ours to write and its true size is given;
    // nothing is set.
    check(unsafe {
        libc::sysctlbyname(
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            &raw mut bytes,
            std::ptr::null(),
            0,
        )
    })?;
    let [a, b, c, d, ..] = value;
    match bytes {
        4 => Ok(u64::from(u32::from_ne_bytes([a, b, c, d]))),
        8 => Ok(u64::from_ne_bytes(value)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it is no number")),
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "freebsd"))]
type CoreSet = libc::cpu_set_t;
#[cfg(target_os = "freebsd")]
type CoreSet = libc::cpuset_t;

/// # Safety
/// `set` must point to an initialised set.
#[cfg(not(target_os = "freebsd"))]
unsafe fn write_affinity(set: *const CoreSet) -> libc::c_int {
    // SAFETY: by the contract above; 0 is the calling thread.
    unsafe { libc::sched_setaffinity(0, size_of::<CoreSet>(), set) }
}

/// # Safety
/// `set` must point to a set that may be written.
#[cfg(not(target_os = "freebsd"))]
unsafe fn read_affinity(set: *mut CoreSet) -> libc::c_int {
    // SAFETY: by the contract above; 0 is the calling thread.
    unsafe { libc::sched_getaffinity(0, size_of::<CoreSet>(), set) }
}

/// # Safety
/// `set` must point to an initialised set.
#[cfg(target_os = "freebsd")]
unsafe fn write_affinity(set: *const CoreSet) -> libc::c_int {
    let (level, which) = (libc::CPU_LEVEL_WHICH, libc::CPU_WHICH_TID);
    // SAFETY: by the contract above; -1 is the calling thread.
    unsafe { libc::cpuset_setaffinity(level, which, -1, size_of::<CoreSet>(), set) }
}

/// # Safety
/// `set` must point to a set that may be written.
#[cfg(target_os = "freebsd")]
unsafe fn read_affinity(set: *mut CoreSet) -> libc::c_int {
    let (level, which) = (libc::CPU_LEVEL_WHICH, libc::CPU_WHICH_TID);
    // SAFETY: by the contract above; -1 is the calling thread.
    unsafe { libc::cpuset_getaffinity(level, which, -1, size_of::<CoreSet>(), set) }
}

// `rlim_t` is unsigned here and signed there.
#[cfg(target_os = "freebsd")]
fn widen(limit: libc::rlim_t) -> u64 {
    u64::try_from(limit).unwrap_or(u64::MAX)
}

#[cfg(target_os = "freebsd")]
fn narrow(limit: u64) -> libc::rlim_t {
    libc::rlim_t::try_from(limit).unwrap_or(libc::rlim_t::MAX)
}

#[cfg(not(target_os = "freebsd"))]
fn widen(limit: libc::rlim_t) -> u64 {
    limit
}

#[cfg(not(target_os = "freebsd"))]
fn narrow(limit: u64) -> libc::rlim_t {
    limit
}

#[cfg(test)]
mod tests {
    use super::{cores, nofile, page_bytes, pin_thread, raise_nofile};

    #[test]
    fn a_pinned_thread_may_run_on_its_core_only() {
        let before = cores().unwrap();
        assert!(!before.is_empty());
        let last = *before.last().unwrap();
        // Its own thread: the others keep their freedom.
        std::thread::spawn(move || {
            pin_thread(last).unwrap();
            assert_eq!(cores().unwrap(), [last]);
        })
        .join()
        .unwrap();
        assert_eq!(cores().unwrap(), before);
        let error = pin_thread(100_000).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }

    #[test]
    fn limits_are_read_and_raised() {
        let (_, hard) = nofile().unwrap();
        assert_eq!(raise_nofile().unwrap(), (hard, hard));
        assert!(page_bytes().is_power_of_two());
    }
}

//! Password hashes: Argon2id on threads made for nothing else.
//!
//! A hash takes memory and some 20 ms of a core on purpose, so a bounded number of threads does
//! them, never one that writes, reads or serves messages; how many may wait is bounded too.
//! Whether a user exists does not show in the time a login takes: where there is no hash to hold a
//! password against, it is held against one that fits nothing.

use super::accounts::random;
use super::schema::OpenError;
use super::way::Way;
use super::{Fault, Secret};
use crate::limits;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Bytes of a salt.
const SALT_BYTES: usize = 16;

/// Makes and checks hashes.
pub(super) struct Hasher {
    argon: Argon2<'static>,
    /// A hash no password is known for.
    decoy: String,
    hashed: AtomicU64,
}

impl Hasher {
    fn new() -> Result<Self, OpenError> {
        let params = Params::new(
            limits::PASSWORD_MEMORY_KIB,
            limits::PASSWORD_PASSES,
            limits::PASSWORD_LANES,
            None,
        );
        let params = params.map_err(|error| OpenError::Hash(error.to_string()))?;
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut hasher = Self { argon, decoy: String::new(), hashed: AtomicU64::new(0) };
        let nobody = random::<32>().map_err(|_| OpenError::Hash("no random bytes".to_owned()))?;
        hasher.decoy = hasher.make(&nobody).map_err(|fault| OpenError::Hash(fault.to_string()))?;
        hasher.hashed = AtomicU64::new(0);
        Ok(hasher)
    }

    /// The hash of a new password, with its salt and parameters.
    pub(super) fn hash(&self, password: &Secret) -> Result<String, Fault> {
        self.make(password.expose().as_bytes())
    }

    fn make(&self, password: &[u8]) -> Result<String, Fault> {
        self.hashed.fetch_add(1, Ordering::Relaxed);
        let salt = random::<SALT_BYTES>()?;
        let hash = self.argon.hash_password_with_salt(password, &salt);
        hash.map(|hash| hash.to_string()).map_err(|_| Fault::Unavailable)
    }

    /// Whether a password is the one of this hash. It takes as long without one, and says no.
    pub(super) fn is_right(&self, password: &Secret, hash: Option<&str>) -> bool {
        self.hashed.fetch_add(1, Ordering::Relaxed);
        // Longer ones are nobody's; what is hashed instead takes the usual time.
        let text = password.expose().as_bytes();
        let text = if text.len() > limits::PASSWORD_BYTES_MAX { &[] } else { text };
        let against = hash.unwrap_or(&self.decoy);
        self.argon.verify_password(text, against).is_ok() && hash.is_some()
    }

    /// How many hashes were made or checked.
    fn hashed(&self) -> u64 {
        self.hashed.load(Ordering::Relaxed)
    }
}

type Work = Box<dyn FnOnce(&Hasher, Way) + Send>;

/// The way to the threads.
#[derive(Clone)]
pub(super) struct Passwords {
    jobs: Sender<Option<(Work, Way)>>,
    waiting: Arc<AtomicUsize>,
    hasher: Arc<Hasher>,
}

impl Passwords {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// A thread can't be started, or there are no random numbers.
    pub(super) fn start(count: usize) -> Result<(Self, Vec<JoinHandle<()>>), OpenError> {
        let hasher = Arc::new(Hasher::new()?);
        let (jobs, taken) = channel();
        let taken = Arc::new(Mutex::new(taken));
        let waiting = Arc::new(AtomicUsize::new(0));
        let start = |index| {
            let (taken, waiting) = (Arc::clone(&taken), Arc::clone(&waiting));
            let hasher = Arc::clone(&hasher);
            let name = format!("passwords-{index}");
            let body = move || work(&taken, &waiting, &hasher);
            thread::Builder::new().name(name).spawn(body).map_err(OpenError::Thread)
        };
        let threads = (0..count).map(start).collect::<Result<_, _>>()?;
        Ok((Self { jobs, waiting, hasher }, threads))
    }

    /// Has `work` done where hashing belongs; too much of it is refused.
    pub(super) fn push(&self, way: Way, work: impl FnOnce(&Hasher, Way) + Send + 'static) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= limits::PASSWORDS_WAITING_MAX {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return way.answer(Err(Fault::Overloaded));
        }
        // If the threads have ended the way answers for itself.
        let _ended = self.jobs.send(Some((Box::new(work), way)));
    }

    /// Tells one thread to end after what waits.
    pub(super) fn stop_one(&self) {
        let _ended = self.jobs.send(None);
    }

    /// How many hashes were made or checked.
    pub(super) fn hashed(&self) -> u64 {
        self.hasher.hashed()
    }
}

fn work(jobs: &Mutex<Receiver<Option<(Work, Way)>>>, waiting: &AtomicUsize, hasher: &Hasher) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Some((work, way))) = job else { return };
        waiting.fetch_sub(1, Ordering::Relaxed);
        work(hasher, way);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_argon2id_as_advised_and_knows_its_password_alone() {
        let hasher = Hasher::new().unwrap();
        let password = Secret::from("correct horse");
        let hash = hasher.hash(&password).unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, hasher.hash(&password).unwrap(), "each has a salt of its own");
        assert!(hasher.is_right(&password, Some(&hash)));
        assert!(!hasher.is_right(&Secret::from("correct hors"), Some(&hash)));
        assert!(!hasher.is_right(&password, Some("no hash at all")));
    }

    #[test]
    fn nobodys_password_costs_a_hash_too_and_is_never_right() {
        let hasher = Hasher::new().unwrap();
        assert!(!hasher.is_right(&Secret::from("whatever"), None));
        assert!(!hasher.is_right(&Secret::new("x".repeat(5000)), None));
        assert_eq!(hasher.hashed(), 2);
    }
}

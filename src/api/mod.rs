//! The HTTP API: accounts, contacts, groups and messages for programs that speak JSON.
//!
//! Owner: a small runtime with threads of its own ([`limits::API_THREADS`]), never a shard's. A
//! request passes `front` (bounds and log), `once` (a repeated POST gets its first answer again)
//! and a handler, which asks the directory or a shard through their bounded queues and waits for
//! the answer. Nothing is kept here but rate limits and the answers to repeats that hold secrets.
//! `docs/http-api.md` is for its users; `docs/openapi.json` is made from `routes`.
//!
//! Invariants: an id in a path or body is held against who asks, in the directory or at its home;
//! no secret gets into a log; every answer that is no success is a `problem`.

mod accounts;
mod admin;
mod ask;
mod body;
mod caller;
mod front;
mod groups;
mod health;
mod id;
mod limit;
mod members;
mod messages;
mod once;
mod page;
mod people;
mod problem;
mod reports;
mod routes;
mod secret;
mod serve;
mod sessions;
mod stats;
mod webhook;

pub use routes::operations;
pub use webhook::Webhook;

use crate::auth::Keys;
use crate::directory::Directory;
use crate::limits;
use crate::shard::{Desk, Pressure};
use axum::body::Bytes;
use caller::AdminToken;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::{self, Runtime};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

/// How the API behaves.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// A line per request on standard error.
    pub access_log: bool,
    /// The operator's proxy says in `X-Forwarded-For` who asks.
    pub behind_proxy: bool,
    /// The admin token; none: there is no operator here.
    pub admin_token: Option<Vec<u8>>,
    /// Whom to tell of what happens.
    pub webhook: Option<Webhook>,
}

/// Whom the API asks.
#[derive(Debug)]
pub struct Parts {
    /// Accounts and what belongs to them.
    pub directory: Directory,
    /// The ways into the shards.
    pub desk: Desk,
    /// The keys that sign access tokens.
    pub keys: Arc<Keys>,
    /// What each shard says of itself.
    pub pressures: Vec<Arc<Pressure>>,
}

/// What all requests share.
#[derive(Debug)]
struct App {
    settings: Settings,
    directory: Directory,
    desk: Desk,
    keys: Arc<Keys>,
    pressures: Vec<Arc<Pressure>>,
    admin: Option<AdminToken>,
    places: Semaphore,
    buckets: limit::Buckets,
    secrets: once::Secrets,
    requests: AtomicU64,
    document: OnceLock<Bytes>,
    /// Tells request ids of two starts apart.
    boot: u32,
}

/// The running API.
#[derive(Debug)]
pub struct Api {
    runtime: Runtime,
    stop: oneshot::Sender<Duration>,
    served: JoinHandle<()>,
    address: SocketAddr,
}

impl Api {
    /// Serves on a listener that was bound before.
    ///
    /// # Errors
    /// Threads can't be started, or the listener can't be used.
    pub fn start(
        listener: TcpListener,
        mut settings: Settings,
        parts: Parts,
    ) -> Result<Self, io::Error> {
        let mut boot = [0; 4];
        getrandom::fill(&mut boot).map_err(io::Error::other)?;
        let token = settings.admin_token.take();
        let webhook = settings.webhook.take();
        let app = Arc::new(App {
            settings,
            directory: parts.directory,
            desk: parts.desk,
            keys: parts.keys,
            pressures: parts.pressures,
            admin: token.as_deref().map(AdminToken::new),
            places: Semaphore::new(limits::API_REQUESTS_MAX),
            buckets: limit::Buckets::default(),
            secrets: once::Secrets::default(),
            requests: AtomicU64::new(1),
            document: OnceLock::new(),
            boot: u32::from_le_bytes(boot),
        });
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(limits::API_THREADS)
            .max_blocking_threads(1)
            .thread_name("api")
            .enable_all()
            .build()?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        if let Some(webhook) = webhook {
            runtime.spawn(webhook::tell(Arc::clone(&app), webhook));
        }
        let (stop, stopped) = oneshot::channel();
        let served = runtime.spawn(serve::serve(listener, routes::router(&app), stopped));
        Ok(Self { runtime, stop, served, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no further connection, answers what is under way, and ends after `drain` at the
    /// latest.
    pub fn stop(self, drain: Duration) {
        let Self { runtime, stop, served, .. } = self;
        if stop.send(drain).is_ok() {
            let _its_panic_was_printed = runtime.block_on(served);
        }
        runtime.shutdown_background();
    }
}

/// The OpenAPI document, as it is served and kept in `docs/openapi.json`.
#[must_use]
pub fn openapi() -> String {
    health::text()
}

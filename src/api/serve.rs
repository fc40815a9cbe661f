//! Accepts connections and speaks HTTP/1.1 on them, within bounds of number, size and time.
//!
//! Owner: the API's own threads. A connection that says nothing ends after
//! [`limits::API_HEAD_MS`], between two requests as well. At a stop requests under way are
//! answered, and the connections closed behind them.

use crate::limits;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tower::util::MapRequest;

/// The address at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerAddress(pub(super) SocketAddr);

/// Serves until told to stop, then ends within `drain`.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    mut stop: oneshot::Receiver<Duration>,
) {
    let places = Arc::new(Semaphore::new(limits::API_CONNS_MAX));
    let sources = Sources::default();
    let graceful = GracefulShutdown::new();
    let http = http();
    let drain = loop {
        let accepted = tokio::select! {
            time = &mut stop => break time.unwrap_or_default(),
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, peer, place)) = accepted else { continue };
        let Some(source) = sources.enter(peer.ip()) else { continue };
        let router = router.clone();
        let service = MapRequest::new(router, move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(PeerAddress(peer));
            request.map(Body::new)
        });
        let conn = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let conn = graceful.watch(conn);
        tokio::spawn(async move {
            // A peer that breaks off, or breaks the rules of HTTP, has been told what can be told.
            let _ended = conn.await;
            drop((place, source));
        });
    };
    drop(listener);
    let _the_rest_is_cut_off = tokio::time::timeout(drain, graceful.shutdown()).await;
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits::API_HEAD_MS))
        .max_headers(limits::API_HEADERS_MAX)
        .max_buf_size(limits::API_HEAD_BYTES_MAX);
    http
}

/// The next connection, when there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            let _only_slower_without = stream.set_nodelay(true);
            Some((stream, peer, place))
        }
        Err(_) => {
            // Out of descriptors, or the peer has gone: either passes.
            tokio::time::sleep(Duration::from_millis(limits::API_ACCEPT_PAUSE_MS)).await;
            None
        }
    }
}

/// How many connections each source has.
#[derive(Clone, Debug, Default)]
struct Sources(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A connection of a source; counted until dropped.
struct Source {
    sources: Sources,
    source: IpAddr,
}

impl Sources {
    fn enter(&self, address: IpAddr) -> Option<Source> {
        let source = source_of(address);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(source).or_default();
        if *count >= limits::API_CONNS_PER_SOURCE_MAX {
            return None;
        }
        *count += 1;
        Some(Source { sources: self.clone(), source })
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let mut counts = self.sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

/// Whom an address counts for: an IPv4 address itself, an IPv6 address its /64.
pub(super) fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_gets_only_so_many_connections_and_gets_them_back() {
        let sources = Sources::default();
        let address: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
        let mut held: Vec<_> =
            (0..limits::API_CONNS_PER_SOURCE_MAX).map(|_| sources.enter(address)).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(sources.enter(neighbour).is_none(), "the same /64");
        assert!(sources.enter("2001:db8:0:1::1".parse().unwrap()).is_some());
        held.pop();
        assert!(sources.enter(neighbour).is_some());
        held.clear();
        assert!(sources.0.lock().unwrap().is_empty());
    }
}

//! Step 1: a connection arrives. It gets a place, a deadline for its `Hello`, and a share of what
//! strangers may hold; whoever waited longest without a `Hello` makes room.

use crate::mem::Token;
use crate::path::Rules;
use crate::state::Tables;
use crate::state::conn::{Conn, Phase};
use std::net::IpAddr;
use wire::{Parser, Parting};

/// Gives a new connection its place. None: the table is full, close it.
pub fn accept(tables: &mut Tables, rules: &Rules, source: IpAddr, now_ms: u64) -> Option<Token> {
    tables.counters.accepted += 1;
    let Ok(token) = tables.conns.insert(Conn::new(now_ms, Parser::server())) else {
        tables.counters.conns_refused += 1;
        return None;
    };
    let handle = tables.sources.enter(source, token);
    if let Some(conn) = tables.conns.get_mut(token) {
        conn.source = handle;
    }
    let maxima = (rules.unknown_conns_max, rules.unknown_conns_per_source_max);
    let conns = &tables.conns;
    let is_greeting = |other: Token| {
        other != token && conns.get(other).is_some_and(|conn| conn.phase == Phase::Greeting)
    };
    if let Some(oldest) = tables.sources.surplus(source, maxima, is_greeting) {
        tables.counters.evicted += 1;
        tables.doomed.push((oldest, Parting::Evicted));
    }
    Some(token)
}

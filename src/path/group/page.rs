//! A page of a group's stream, for who is behind or scrolls: asked at the member's home, filled at
//! the group's home out of the log.
//!
//! Only what is durable, and only what stands within the asker's membership.

use super::change::Change;
use crate::canary::{self, Canary};
use crate::limits;
use crate::log::{Kind, Reader, Record};
use crate::mem::Token;
use crate::state::Tables;
use crate::state::groups::{Group, Page, Piece};
use crate::state::inbox::Entry;
use wire::{Fetched, Item, MessageId, Refusal, Relation, RequestRefused, ServerFrame};

/// A question; its limit is bounded here.
#[must_use]
pub fn ask(conn: Token, user: u64, fetch: &wire::Fetch, group: u64) -> Page {
    let limit = if fetch.limit == 0 { wire::PAGE_ITEMS } else { fetch.limit };
    Page {
        conn,
        user,
        request: fetch.request,
        group,
        from: fetch.from,
        forwards: fetch.forwards,
        limit: limit.min(wire::PAGE_ITEMS_MAX),
        items: Vec::new(),
        payloads: Vec::new(),
        more: false,
        up_to: 0,
        refusal: None,
    }
}

/// Whether one more record fits.
fn has_room(page: &Page, entry: &Entry) -> bool {
    let fits = page.payloads.len() + entry.bytes() as usize <= limits::GROUP_PAGE_BYTES_MAX;
    page.items.len() < page.limit as usize && (fits || page.items.is_empty())
}

fn add(page: &mut Page, record: &Record<'_>) {
    let Record { sender, device, client_id, position, time_ms, .. } = *record;
    let is_change = record.kind == Kind::Group;
    page.items.push(Piece {
        position,
        id: MessageId { sender, device, client_id },
        time_ms,
        kind: if is_change { 0 } else { record.body_kind },
        relation: record.relation.map(|it| Relation {
            kind: it.kind,
            target: MessageId { sender: it.sender, device: it.device, client_id: it.client_id },
        }),
        change: Change::of(record).filter(|_| is_change).map(|change| change.told()),
        bytes: record.payload.len(),
    });
    page.payloads.extend_from_slice(record.payload);
}

/// Answers a question, at the group's home.
pub fn fill<R: Reader>(tables: &mut Tables, reader: &mut R, page: &mut Page) {
    let Some(group) = tables.groups.of(page.group).filter(|group| group.may_ask(page.user)) else {
        page.refusal = Some(Refusal::NotMember);
        return;
    };
    let spans = group.spans_of(page.user);
    let filled = if page.forwards {
        forwards(group, &spans, reader, page)
    } else {
        let below = if page.from == 0 { u64::MAX } else { page.from };
        let entries = spans.iter().rev().flat_map(|&(since, until)| {
            let newest = group.before(below.min(until.saturating_add(1)));
            newest.take_while(move |entry| entry.position >= since)
        });
        fill_from(entries, reader, page).map(|_| ())
    };
    if filled.is_err() {
        tables.counters.unreadable += 1;
        page.refusal = Some(Refusal::StoreFailed);
    }
}

/// A record that should be there can't be read.
struct Unreadable;

fn forwards<R: Reader>(
    group: &Group,
    spans: &[(u64, u64)],
    reader: &mut R,
    page: &mut Page,
) -> Result<(), Unreadable> {
    let from = page.from;
    let readable = spans.iter().flat_map(|&(since, until)| {
        let oldest = group.after(from.max(since.saturating_sub(1)));
        oldest.take_while(move |entry| entry.position <= until)
    });
    let entries = canary::swapped(Canary::SwapGroupPage, readable);
    // Whoever left learns nothing of what came later, not even that it came.
    let last = spans.iter().map(|&(_, until)| until.min(group.tail)).max().unwrap_or(0);
    page.up_to = match fill_from(entries, reader, page)? {
        Ends::Full => page.items.last().map_or(from, |item| item.position),
        Ends::Undurable(position) => position.saturating_sub(1),
        Ends::All => last,
    };
    page.up_to = page.up_to.max(from.min(last));
    Ok(())
}

/// Where a walk ended.
enum Ends {
    /// The page is full, and there is more.
    Full,
    /// At a record that is on its way to the disk.
    Undurable(u64),
    /// There is nothing more.
    All,
}

fn fill_from<'a, R: Reader>(
    entries: impl Iterator<Item = &'a Entry>,
    reader: &mut R,
    page: &mut Page,
) -> Result<Ends, Unreadable> {
    for entry in entries {
        let Some(at) = entry.at() else {
            if page.forwards {
                return Ok(Ends::Undurable(entry.position));
            }
            continue;
        };
        if !has_room(page, entry) {
            page.more = true;
            return Ok(Ends::Full);
        }
        if canary::is(Canary::LoseFromPage) && entry.is_message() && entry.position % 5 == 4 {
            continue;
        }
        let found = reader.read(at).filter(|record| record.position == entry.position);
        add(page, &found.ok_or(Unreadable)?);
    }
    Ok(Ends::All)
}

/// Writes the answer to who asked, at the asker's home.
pub fn write(tables: &mut Tables, page: &Page) {
    let Some(conn) = tables.conns.get(page.conn) else { return };
    let congested = tables.outboxes.waiting_bytes(conn) > limits::OUTBOX_BYTES_HIGH;
    // Who asks faster than it reads: what it has not read must not grow.
    let refusal = page.refusal.or_else(|| congested.then_some(Refusal::Overloaded));
    if let Some(reason) = refusal {
        return refuse(tables, page.conn, page.request, reason);
    }
    let mut rest = page.payloads.as_slice();
    for item in &page.items {
        let (payload, others) = rest.split_at(item.bytes.min(rest.len()));
        rest = others;
        let frame = ServerFrame::Item(Item {
            request: page.request,
            number: item.position,
            id: item.id,
            position: item.position,
            time_ms: item.time_ms,
            kind: item.kind,
            payload,
            relation: item.relation,
            deleted: false,
            change: item.change,
        });
        tables.write(page.conn, &frame);
    }
    let count = u32::try_from(page.items.len()).unwrap_or(u32::MAX);
    let (request, more, up_to) = (page.request, page.more, page.up_to);
    tables.write(page.conn, &ServerFrame::Fetched(Fetched { request, count, more, up_to }));
    // What was fetched may be acked, although nobody told this shard of it before.
    if let Some(circle) = tables.circles.find(page.group)
        && let Some(circle) = tables.circles.circle_mut(circle)
    {
        circle.head = circle.head.max(page.up_to);
    }
}

/// Refuses a question.
pub fn refuse(tables: &mut Tables, conn: Token, request: u64, reason: Refusal) {
    let retriable = reason.retriable();
    let retry_after_ms = if retriable { limits::RETRY_AFTER_MS } else { 0 };
    let refused = RequestRefused { request, reason, retriable, retry_after_ms };
    tables.write(conn, &ServerFrame::RequestRefused(refused));
}

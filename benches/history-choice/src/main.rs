//! What keeping, paging and deleting history costs with each embedded store, and whether a deleted
//! payload can still be found in the files.
//!
//! Usage: `history-choice STORE FOLDER`, STORE being `sqlite`, `redb` or `fjall`, and
//! for the first two also with `-outside`: the payloads in a file of their own, once, the store
//! holds where they are.
//!
//! The pattern is the follower's: batches of 1,000 messages between 5,000 pairs of people, each
//! written to two conversations with its message id in an index; then pages of 50 from random
//! conversations; then every tenth message is deleted on both sides.

use std::path::Path;
use std::time::Instant;

mod fjall_store;
mod outside;
mod redb_store;
mod sqlite_store;

const MESSAGES: u64 = 300_000;
const BATCH: u64 = 1_000;
const PAIRS: u64 = 5_000;
const PAYLOAD_BYTES: usize = 150;
const PAGES: u64 = 20_000;
const PAGE: usize = 50;

type Fault = Box<dyn std::error::Error>;

/// One side of a message.
struct Item<'a> {
    conversation: u32,
    number: u32,
    device: u32,
    client_id: u64,
    payload: &'a [u8],
}

/// What every candidate does.
trait Store {
    fn insert(&mut self, items: &[Item<'_>]) -> Result<(), Fault>;
    /// Hands out the payloads of a page, backwards from the newest.
    fn page(&mut self, conversation: u32, each: &mut dyn FnMut(&[u8])) -> Result<(), Fault>;
    /// Removes by message id.
    fn delete(&mut self, conversation: u32, device: u32, client_id: u64) -> Result<(), Fault>;
    fn commit_deletes(&mut self) -> Result<(), Fault>;
    /// Whatever the store offers to get deleted bytes out of its files.
    fn scrub(&mut self) -> Result<(), Fault>;
}

fn main() -> Result<(), Fault> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, name, folder] = &arguments[..] else {
        return Err(
            "say: history-choice sqlite|redb|fjall|sqlite-outside|redb-outside FOLDER".into()
        );
    };
    let folder = Path::new(folder).join(name);
    let _none_before = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    match name.as_str() {
        "sqlite" => run(&folder, &mut sqlite_store::open(&folder)?),
        "redb" => run(&folder, &mut redb_store::open(&folder)?),
        "fjall" => run(&folder, &mut fjall_store::open(&folder)?),
        "sqlite-outside" => {
            run(&folder, &mut outside::open(&folder, sqlite_store::open(&folder)?)?)
        }
        "redb-outside" => run(&folder, &mut outside::open(&folder, redb_store::open(&folder)?)?),
        other => Err(format!("no store {other}").into()),
    }
}

fn run(folder: &Path, store: &mut dyn Store) -> Result<(), Fault> {
    let messages = fill(store)?;
    println!("{:>9} bytes on disk after writing", disk(folder)?);
    let start = Instant::now();
    let mut random = 99;
    let mut bytes = 0;
    for _ in 0..PAGES {
        let page = conversation(&messages, next(&mut random));
        store.page(page, &mut |payload| bytes += payload.len())?;
    }
    let pages = PAGES as f64 / start.elapsed().as_secs_f64();
    println!(
        "{pages:>9.0} pages a second, {} items each",
        bytes as u64 / PAYLOAD_BYTES as u64 / PAGES
    );
    let start = Instant::now();
    let deleted: Vec<u64> = (0..MESSAGES).step_by(10).collect();
    for (nth, &message) in deleted.iter().enumerate() {
        for side in messages[message as usize] {
            store.delete(side, 1, message + 1)?;
        }
        if (nth + 1) % BATCH as usize == 0 || nth + 1 == deleted.len() {
            store.commit_deletes()?;
        }
    }
    let rate = deleted.len() as f64 / start.elapsed().as_secs_f64();
    println!("{rate:>9.0} deletions a second");
    println!("{:>9} of {} deleted payloads found in the files", found(folder)?, deleted.len());
    let start = Instant::now();
    store.scrub()?;
    println!("{:>9.3} s to scrub", start.elapsed().as_secs_f64());
    println!("{:>9} of {} deleted payloads found in the files", found(folder)?, deleted.len());
    println!("{:>9} bytes on disk", disk(folder)?);
    let start = Instant::now();
    let payload = payload(MESSAGES);
    let item = Item {
        conversation: 1,
        number: 1 << 30,
        device: 1,
        client_id: MESSAGES + 1,
        payload: &payload,
    };
    store.insert(&[item])?;
    store.delete(1, 1, MESSAGES + 1)?;
    store.commit_deletes()?;
    store.scrub()?;
    println!("{:>9.3} s to write, delete and scrub one more", start.elapsed().as_secs_f64());
    Ok(())
}

/// Writes all messages; returns the two conversations of each.
fn fill(store: &mut dyn Store) -> Result<Vec<[u32; 2]>, Fault> {
    let mut random = 7;
    let mut last = vec![0_u32; 2 * PAIRS as usize];
    let mut messages = Vec::new();
    let start = Instant::now();
    for batch in 0..MESSAGES / BATCH {
        let mut payloads = Vec::new();
        for message in batch * BATCH..(batch + 1) * BATCH {
            let pair = (next(&mut random) % PAIRS) as u32;
            messages.push([pair * 2, pair * 2 + 1]);
            payloads.push(payload(message));
        }
        let mut items = Vec::new();
        for (nth, payload) in payloads.iter().enumerate() {
            let message = batch * BATCH + nth as u64;
            for conversation in messages[message as usize] {
                last[conversation as usize] += 1;
                let number = last[conversation as usize];
                items.push(Item {
                    conversation,
                    number,
                    device: 1,
                    client_id: message + 1,
                    payload,
                });
            }
        }
        store.insert(&items)?;
    }
    let rate = MESSAGES as f64 / start.elapsed().as_secs_f64();
    println!("{rate:>9.0} messages a second written, CPU {:.2} s", cpu_s());
    Ok(messages)
}

fn conversation(messages: &[[u32; 2]], random: u64) -> u32 {
    messages[(random % MESSAGES) as usize][0]
}

/// A payload that can be recognised by its beginning.
fn payload(message: u64) -> Vec<u8> {
    let mut payload =
        format!("<{}{message:012}>", if message % 10 == 0 { "gone" } else { "kept" }).into_bytes();
    let mut random = message + 1;
    while payload.len() < PAYLOAD_BYTES {
        payload.push((next(&mut random) >> 33) as u8);
    }
    payload
}

fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

fn files(folder: &Path, each: &mut dyn FnMut(&Path)) -> Result<(), Fault> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files(&path, each)? } else { each(&path) }
    }
    Ok(())
}

fn disk(folder: &Path) -> Result<u64, Fault> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    files(folder, &mut |path| bytes += std::fs::metadata(path).map_or(0, |m| m.blocks() * 512))?;
    Ok(bytes)
}

/// How many deleted payloads the files still hold.
fn found(folder: &Path) -> Result<usize, Fault> {
    let mut seen = std::collections::HashSet::new();
    files(folder, &mut |path| {
        let bytes = std::fs::read(path).unwrap_or_default();
        for at in memchr(&bytes, b"<gone") {
            seen.insert(bytes[at + 5..].get(..12).map(<[u8]>::to_vec));
        }
    })?;
    Ok(seen.len())
}

fn memchr<'a>(bytes: &'a [u8], what: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    bytes.windows(what.len()).enumerate().filter(move |(_, w)| *w == what).map(|(at, _)| at)
}

fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

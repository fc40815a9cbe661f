//! What a message carries, so that whoever receives it can judge it.
//!
//! ```text
//! "MYLG", run u64, from u32, to u32, sequence u32, intended_us u64, flags u8, crc u32, body
//! ```
//!
//! Numbers are little-endian; the CRC-32C covers everything but itself. Pure; not here: counting.

/// Bytes before the body.
pub(crate) const HEAD_BYTES: usize = 37;
const MAGIC: [u8; 4] = *b"MYLG";
/// Where the CRC stands: the last field of the head.
const CRC_AT: usize = HEAD_BYTES - 4;
/// The latency of this message is not counted: its recipient is away, or reads slowly, on purpose.
const UNTIMED: u8 = 1;

/// The head of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    /// Which run; others' messages may still wait on a server.
    pub(crate) run: u64,
    /// Number of the sender.
    pub(crate) from: u32,
    /// Number of the recipient.
    pub(crate) to: u32,
    /// The sender's count of messages to this recipient, from 1.
    pub(crate) sequence: u32,
    /// When it was meant to be sent, on the run's clock.
    pub(crate) intended_us: u64,
    /// Whether its latency counts.
    pub(crate) timed: bool,
}

/// What a payload turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Judged {
    Whole(Head),
    /// The checksum does not fit. The head as it came, if there is one that looks like ours.
    Corrupt(Option<Head>),
}

/// Writes a payload of `bytes` (at least the head) into `out`, which is cleared.
pub(crate) fn write(head: &Head, bytes: usize, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&head.run.to_le_bytes());
    out.extend_from_slice(&head.from.to_le_bytes());
    out.extend_from_slice(&head.to.to_le_bytes());
    out.extend_from_slice(&head.sequence.to_le_bytes());
    out.extend_from_slice(&head.intended_us.to_le_bytes());
    out.push(if head.timed { 0 } else { UNTIMED });
    out.extend_from_slice(&[0; 4]);
    // Not all the same: a body cut or shifted must not look like a whole one.
    let body = bytes.saturating_sub(HEAD_BYTES);
    let letters = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let start = head.sequence as usize % letters.len();
    out.extend(letters.iter().cycle().skip(start).take(body));
    let crc = checksum(out).to_le_bytes();
    if let Some(place) = out.get_mut(CRC_AT..HEAD_BYTES) {
        place.copy_from_slice(&crc);
    }
}

/// Reads a payload and checks it.
pub(crate) fn judge(payload: &[u8]) -> Judged {
    let Some(head) = read_head(payload) else { return Judged::Corrupt(None) };
    let stored = payload.get(CRC_AT..HEAD_BYTES).and_then(|bytes| bytes.first_chunk::<4>());
    if stored.copied().map(u32::from_le_bytes) == Some(checksum(payload)) {
        Judged::Whole(head)
    } else {
        Judged::Corrupt(Some(head))
    }
}

fn checksum(payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(payload.get(..CRC_AT).unwrap_or_default());
    crc32c::crc32c_append(crc, payload.get(HEAD_BYTES..).unwrap_or_default())
}

fn read_head(payload: &[u8]) -> Option<Head> {
    let (magic, rest) = payload.split_first_chunk::<4>()?;
    let (run, rest) = rest.split_first_chunk::<8>()?;
    let (from, rest) = rest.split_first_chunk::<4>()?;
    let (to, rest) = rest.split_first_chunk::<4>()?;
    let (sequence, rest) = rest.split_first_chunk::<4>()?;
    let (intended_us, rest) = rest.split_first_chunk::<8>()?;
    let (flags, rest) = rest.split_first()?;
    rest.first_chunk::<4>()?;
    (*magic == MAGIC).then(|| Head {
        run: u64::from_le_bytes(*run),
        from: u32::from_le_bytes(*from),
        to: u32::from_le_bytes(*to),
        sequence: u32::from_le_bytes(*sequence),
        intended_us: u64::from_le_bytes(*intended_us),
        timed: flags & UNTIMED == 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head =
        Head { run: 7, from: 1, to: 2, sequence: 3, intended_us: 1 << 40, timed: true };

    #[test]
    fn a_head_comes_back() {
        let mut payload = Vec::new();
        for (bytes, timed) in [(0, true), (HEAD_BYTES, false), (150, true)] {
            let head = Head { timed, ..HEAD };
            write(&head, bytes, &mut payload);
            assert_eq!(payload.len(), bytes.max(HEAD_BYTES));
            assert_eq!(judge(&payload), Judged::Whole(head));
        }
    }

    #[test]
    fn every_changed_bit_shows() {
        let mut payload = Vec::new();
        write(&HEAD, 60, &mut payload);
        for bit in 0..payload.len() * 8 {
            let mut changed = payload.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(judge(&changed), Judged::Corrupt(_)), "bit {bit}");
        }
        for length in 0..payload.len() {
            assert!(matches!(judge(&payload[..length]), Judged::Corrupt(_)), "cut to {length}");
        }
    }
}

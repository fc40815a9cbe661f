//! Which partition an id belongs to: a fixed function, the same on every host and for ever.
//!
//! Owner: nobody, it is pure. Partitions are what moves between shards (and one day hosts), so a
//! change here would misplace everything ever stored: the test vectors of `docs/log-format.md`
//! hold it still. Which shard owns a partition is deliberately not here.

/// How many partitions ids are dealt into.
pub const PARTITIONS: u16 = 1024;

/// Added before mixing, so that partitions are not those of any other use of the same mixer.
const SEED: u64 = 0x6d79_7269_6164_2e31;

/// The partition of a user or group: `0..PARTITIONS`.
#[must_use]
pub const fn partition_of(id: u64) -> u16 {
    let mut mixed = id ^ SEED;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    #[allow(clippy::cast_possible_truncation, reason = "ten bits are left")]
    let partition = (mixed >> 54) as u16;
    partition
}

const _: () = assert!(PARTITIONS as u64 == 1 << (64 - 54));

#[cfg(test)]
mod tests {
    use super::{PARTITIONS, partition_of};

    /// The vectors printed in the document are the function.
    #[test]
    fn test_vectors_of_the_document_hold() {
        let document = include_str!("../../docs/log-format.md");
        let mut vectors = 0;
        let rows = document.split("<!-- partition vectors -->").nth(1).expect("marker");
        for row in rows.lines().filter(|line| line.starts_with("| `")) {
            let mut cells = row.split('`').skip(1).step_by(2);
            let id: u64 = cells.next().expect("id").parse().expect("number");
            let partition: u16 = cells.next().expect("partition").parse().expect("number");
            assert_eq!(partition_of(id), partition, "partition of {id}");
            vectors += 1;
        }
        assert!(vectors >= 8, "only {vectors} vectors found");
    }

    #[test]
    fn consecutive_ids_spread_evenly() {
        let mut counts = vec![0_u32; usize::from(PARTITIONS)];
        for id in 0..1_024_000_u64 {
            counts[usize::from(partition_of(id))] += 1;
        }
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(*least > 850 && *most < 1150, "between {least} and {most} of 1000");
    }
}

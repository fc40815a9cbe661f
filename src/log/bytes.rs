//! Numbers in bytes, little-endian. The caller has checked that there is room for them.

pub(super) fn put_u32(bytes: &mut [u8], offset: usize, value: u32) {
    bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
}

pub(super) fn put_u64(bytes: &mut [u8], offset: usize, value: u64) {
    bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
}

/// The number at `offset`; the caller has checked that it is there.
pub(super) fn take_u32(bytes: &[u8], offset: usize) -> u32 {
    let mut number = [0_u8; 4];
    number.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(number)
}

/// The number at `offset`; the caller has checked that it is there.
pub(super) fn take_u64(bytes: &[u8], offset: usize) -> u64 {
    let mut number = [0_u8; 8];
    number.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(number)
}

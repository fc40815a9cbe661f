//! Limits of tokens and of the keys they are checked with.

/// Shortest HS256 secret: as long as the hash it feeds, so that guessing the one is no easier.
pub const SECRET_BYTES_MIN: usize = 32;
/// Largest key file that is read; a PEM public key is some hundred bytes.
pub const KEY_FILE_BYTES_MAX: u64 = 16 * 1024;
/// Keys of one algorithm: a token that names no key is tried against each of them.
pub const KEYS_PER_ALGORITHM_MAX: usize = 4;
/// Bits of an RSA key: fewer are weak, more cost too much to check.
pub const RSA_BITS_MIN: usize = 2_048;
/// See [`RSA_BITS_MIN`].
pub const RSA_BITS_MAX: usize = 4_096;
/// How far `nbf` may lie ahead: clocks of issuer and host differ. `exp` is exact.
pub const TOKEN_LEEWAY_S: u64 = 30;
/// Life of a token that `myriad token` mints unless told otherwise.
pub const TOKEN_TTL_S: u64 = 24 * 3600;
/// Longest life `myriad token` grants: a year.
pub const TOKEN_TTL_S_MAX: u64 = 365 * 24 * 3600;

//! Frames and framing. No I/O.

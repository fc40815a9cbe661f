//! Drives and checks chat servers.

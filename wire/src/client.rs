//! The client's half of the rules, as a state machine without I/O.

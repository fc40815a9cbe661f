//! The closed lists of reasons: why a `Send` is refused, why the server says goodbye.
//!
//! Numbers are the schema's and never change their meaning; names are what logs, metrics and
//! `docs/protocol.md` say; the advice tells a person what to do. Deliberately not here: reasons
//! why bytes are no frame (`FrameError` in `framing.rs`), each of which maps to a [`Parting`].

/// Defines an enum whose numbers, names and advice stand side by side, and the readers of them.
macro_rules! closed_list {
    (
        $(#[$list_doc:meta])*
        $list:ident {
            $( $(#[$doc:meta])* $variant:ident = $code:literal, $name:literal, $advice:literal; )+
        }
    ) => {
        $(#[$list_doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum $list {
            $( $(#[$doc])* $variant = $code, )+
        }

        impl $list {
            /// Every reason, in the order of the numbers.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];

            /// The schema's number.
            pub fn code(self) -> u8 {
                self as u8
            }

            /// The reason of a schema number; `None` for 0 and for numbers of a newer schema.
            pub fn from_code(code: u8) -> Option<Self> {
                match code {
                    $( $code => Some(Self::$variant), )+
                    _ => None,
                }
            }

            /// The name in logs, metrics and documents (`snake_case`).
            pub fn name(self) -> &'static str {
                match self {
                    $( Self::$variant => $name, )+
                }
            }

            /// What the client, or the person before it, can do about it.
            pub fn advice(self) -> &'static str {
                match self {
                    $( Self::$variant => $advice, )+
                }
            }
        }

        impl std::fmt::Display for $list {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

closed_list! {
    /// Why a `Send` was refused. A retriable refusal does not spend its `client_id`.
    Refusal {
        /// The id is at or below what the client itself called confirmed.
        StaleId = 1, "stale_id",
            "this client_id was confirmed already; number new messages from next_client_id";
        /// The id was used for other content.
        IdReused = 2, "id_reused",
            "this client_id belongs to another message; number new messages from next_client_id";
        /// The id is more than 64 above the confirmed base.
        WindowFull = 3, "window_full",
            "64 ids are unconfirmed; confirm answers, or raise the base over ids never used";
        /// Nobody by this id ever logged in.
        UnknownUser = 4, "unknown_user",
            "no such user; check the id";
        /// The payload is above the limit of `Welcome`.
        PayloadTooLarge = 5, "payload_too_large",
            "keep payloads within Welcome.limits.payload_bytes_max; send media by reference";
        /// The recipient's inbox, or this sender's share of it, is full.
        InboxFull = 6, "inbox_full",
            "too much is waiting for the recipient; try again when they have been online";
        /// The server has no room for it at the moment.
        Overloaded = 7, "overloaded",
            "try again after retry_after_ms";
        /// The server's disk is full.
        DiskFull = 8, "disk_full",
            "the server cannot keep new messages now; try again later and tell the operator";
        /// The server's log failed and is read-only.
        StoreFailed = 9, "store_failed",
            "the server cannot keep new messages until it is restarted; try again later";
        /// An earlier message of this device was refused and waits to be sent again.
        Held = 10, "held",
            "send the earlier refused message again first, or confirm its id to give it up";
        /// The server does not do this (yet).
        NotSupported = 11, "not_supported",
            "this server does not support it; do not try again";
        /// A field holds what it must not.
        Invalid = 12, "invalid",
            "the frame contradicts the protocol; correct the client";
        /// The sender is not in the group, or there is no such group.
        NotMember = 13, "not_member",
            "you are not a member of this group; ask one of its admins";
        /// The operator suspended the sender.
        Suspended = 14, "suspended",
            "the operator suspended this account; ask them";
        /// More messages than the server takes of one sender in the time.
        RateLimited = 15, "rate_limited",
            "too many messages in this time; try again after retry_after_ms";
    }
}

impl Refusal {
    /// Whether sending the same id again can succeed.
    pub fn retriable(self) -> bool {
        matches!(
            self,
            Self::WindowFull
                | Self::InboxFull
                | Self::Overloaded
                | Self::DiskFull
                | Self::StoreFailed
                | Self::Held
                | Self::RateLimited
        )
    }
}

closed_list! {
    /// Why the server says goodbye and closes.
    Parting {
        /// The server stops or restarts.
        Shutdown = 1, "shutdown",
            "the server is stopping; connect again after retry_after_ms, with jitter";
        /// The server sheds load.
        Overloaded = 2, "overloaded",
            "the server has too much to do; connect again after retry_after_ms, with jitter";
        /// No room for another session.
        Full = 3, "full",
            "the server holds as many sessions as it may; connect again after retry_after_ms";
        /// The same user and device logged in elsewhere.
        Replaced = 4, "replaced",
            "this device logged in again; do not reconnect unless the person asks";
        /// The token is malformed, has a wrong signature or names another device.
        TokenInvalid = 5, "token_invalid",
            "get a new token; the same one will be refused again";
        /// The token's time is over.
        TokenExpired = 6, "token_expired",
            "get a new token; send Renew before the old one expires";
        /// Something else came before a valid `Hello`.
        HelloExpected = 7, "hello_expected",
            "the first frame must be Hello; wait for Welcome before sending more than 4 KiB";
        /// No `Hello` within 10 s.
        HelloTimeout = 8, "hello_timeout",
            "send Hello within 10 seconds and 8 KiB of connecting";
        /// A `Hello` on a session that has one.
        SecondHello = 9, "second_hello",
            "say Hello once per connection; use Renew for a newer token";
        /// Nothing was heard for 2.5 heartbeats.
        Silent = 10, "silent",
            "send any frame at least once per Welcome.heartbeat_ms";
        /// Nothing was acked for 30 s while something waited for it.
        AckTimeout = 11, "ack_timeout",
            "send Ack for what was delivered; connect again to resume";
        /// The client does not read what it asked for.
        TooSlow = 12, "too_slow",
            "read from the connection; connect again to resume";
        /// Bytes that are no frame of this protocol.
        BadFrame = 13, "bad_frame",
            "the bytes break the protocol; correct the client";
        /// A frame above the limit.
        FrameTooLarge = 14, "frame_too_large",
            "the frame is larger than the server takes; see Welcome.limits.payload_bytes_max";
        /// This device was dropped because the user has too many.
        TooManyDevices = 15, "too_many_devices",
            "another device of the user took this one's place; log in again to become one anew";
        /// The server's log failed.
        StoreFailed = 16, "store_failed",
            "the server cannot serve until it is restarted; connect again later";
        /// Not logged in and oldest when room was needed.
        Evicted = 17, "evicted",
            "too many connections wait to log in; connect again with jitter and say Hello at once";
        /// More frames than the server takes in the time.
        TooManyFrames = 18, "too_many_frames",
            "send fewer frames: coalesce Acks, Reads and Typing";
        /// The operator suspended the account.
        Suspended = 19, "suspended",
            "the operator suspended this account; ask them, and do not reconnect";
        /// This device was logged out.
        LoggedOut = 20, "logged_out",
            "this device was logged out; log in again, its tokens will be refused";
        /// The account is gone.
        AccountDeleted = 21, "account_deleted",
            "this account was deleted; forget what is kept of it";
    }
}

impl Parting {
    /// The WebSocket close code that goes with the goodbye. Reasons without a registered code use
    /// 4000 plus their number, so that a browser that sees only the code still knows why.
    pub fn close_code(self) -> u16 {
        match self {
            Self::Shutdown => 1001,
            Self::BadFrame => 1002,
            Self::TooManyFrames => 1008,
            Self::FrameTooLarge => 1009,
            Self::StoreFailed => 1011,
            Self::Overloaded | Self::Full | Self::Evicted => 1013,
            other => 4000 + u16::from(other.code()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_and_names_are_unique_and_come_back() {
        let names: HashSet<_> = Refusal::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Refusal::ALL.len());
        let names: HashSet<_> = Parting::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Parting::ALL.len());
        for (index, reason) in Refusal::ALL.iter().enumerate() {
            assert_eq!(usize::from(reason.code()), index + 1);
            assert_eq!(Refusal::from_code(reason.code()), Some(*reason));
        }
        for (index, reason) in Parting::ALL.iter().enumerate() {
            assert_eq!(usize::from(reason.code()), index + 1);
            assert_eq!(Parting::from_code(reason.code()), Some(*reason));
        }
        assert_eq!(Refusal::from_code(0), None);
        assert_eq!(Parting::from_code(0), None);
        assert_eq!(Refusal::from_code(16), None);
        assert_eq!(Parting::from_code(22), None);
    }

    #[test]
    fn close_codes_may_travel_on_the_wire() {
        for reason in Parting::ALL {
            assert!(crate::websocket::close_code_is_valid(reason.close_code()), "{reason}");
        }
    }

    #[test]
    fn names_and_numbers_are_those_of_the_schema() {
        let schema = include_str!("../proto/myriad.proto");
        for reason in Refusal::ALL {
            let name = reason.name().to_uppercase();
            let line = format!("REFUSAL_{name} = {};", reason.code());
            assert!(schema.contains(&line), "{line}");
        }
        for reason in Parting::ALL {
            let name = reason.name().to_uppercase();
            let line = format!("PARTING_{name} = {};", reason.code());
            assert!(schema.contains(&line), "{line}");
        }
    }
}

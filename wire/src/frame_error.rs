//! Why the bytes of a connection are not what the protocol says: a closed list.
//!
//! Each reason knows the WebSocket close code, the `Goodbye` reason, the HTTP answer if the
//! connection was not open yet, and advice for the person who wrote the other end. No owner
//! thread. Deliberately not here: frames that are framed well and hold nonsense (`DecodeError`).

use crate::reasons::Parting;

/// Defines the reasons and their answers side by side.
///
/// `opening` reasons come before the transport is open and are answered in HTTP, so that a person
/// with a browser or `curl` reads why; `framing` reasons come after and have a close code.
macro_rules! frame_errors {
    (
        opening { $(
            $(#[$o_doc:meta])*
            $opening:ident = $status:literal, $headers:literal, $o_advice:literal;
        )+ }
        framing { $(
            $(#[$f_doc:meta])*
            $framing:ident = $close_code:literal, $f_advice:literal;
        )+ }
    ) => {
        /// Why the bytes of a connection can't be read on; the connection is to be closed.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
        pub enum FrameError {
            $( $(#[$o_doc])* #[error($o_advice)] $opening, )+
            $( $(#[$f_doc])* #[error($f_advice)] $framing, )+
        }

        impl FrameError {
            /// Every reason.
            pub const ALL: &'static [Self] = &[ $( Self::$opening, )+ $( Self::$framing, )+ ];

            /// The WebSocket close code; on a connection that is not open yet, 1002.
            pub fn close_code(self) -> u16 {
                match self {
                    $( Self::$opening => 1002, )+
                    $( Self::$framing => $close_code, )+
                }
            }

            /// The whole HTTP answer if the connection was not open yet; close after it.
            pub fn http_response(self) -> Option<&'static str> {
                match self {
                    $( Self::$opening => Some(concat!(
                        "HTTP/1.1 ", $status, "\r\n", $headers,
                        "Connection: close\r\n",
                        "Content-Type: text/plain; charset=utf-8\r\n",
                        "Cache-Control: no-store\r\n\r\n",
                        $o_advice, "\n",
                    )), )+
                    $( Self::$framing => None, )+
                }
            }

            /// What is wrong and what to do, for a person.
            pub fn advice(self) -> &'static str {
                match self {
                    $( Self::$opening => $o_advice, )+
                    $( Self::$framing => $f_advice, )+
                }
            }
        }
    };
}

frame_errors! {
    opening {
        /// Neither the TCP preamble nor HTTP.
        UnknownPreamble = "400 Bad Request", "",
            "the first bytes are neither `MYR` and version 1 nor an HTTP request";
        /// `MYR` and a version this server does not speak.
        UnknownVersion = "400 Bad Request", "",
            "this server speaks version 1 of the TCP framing: open with the bytes 4D 59 52 01";
        /// A TLS handshake on a listener without TLS.
        TlsOnPlaintext = "400 Bad Request", "",
            "this listener speaks plaintext: use ws:// or plain TCP, or a listener with TLS";
        /// The request head is above `HANDSHAKE_BYTES_MAX` or has more than 32 fields.
        HeadTooLarge = "431 Request Header Fields Too Large", "",
            "keep the request head within 8 KiB and 32 fields";
        /// Not HTTP/1.1.
        HttpMalformed = "400 Bad Request", "",
            "the request is not well-formed HTTP/1.1 with one Host field";
        /// Another method than GET.
        NotGet = "405 Method Not Allowed", "Allow: GET\r\n",
            "upgrade to a WebSocket with GET";
        /// Another path than `/v1/chat` and `/`.
        UnknownPath = "404 Not Found", "",
            "the WebSocket lives at /v1/chat";
        /// Credentials in the URL, where logs keep them.
        TokenInUrl = "400 Bad Request", "",
            "never put a token into a URL: send it in the Hello frame";
        /// A request that announces a body.
        BodyAnnounced = "400 Bad Request", "",
            "a WebSocket upgrade has no body";
        /// A plain HTTP request.
        NotAnUpgrade = "426 Upgrade Required",
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            "this is a Myriad chat server: connect with a WebSocket client (Upgrade: websocket)";
        /// Not version 13 of WebSocket.
        WrongWebSocketVersion = "426 Upgrade Required",
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            "this server speaks version 13 of WebSocket (RFC 6455)";
        /// No `Sec-WebSocket-Key`, two of them, or not 16 bytes in base64.
        BadKey = "400 Bad Request", "",
            "Sec-WebSocket-Key must be 16 bytes in base64, once";
        /// The subprotocol is not offered.
        NoSubprotocol = "400 Bad Request", "",
            "offer the subprotocol: Sec-WebSocket-Protocol: myriad.v1";
        /// A browser page from a place that is not on the list.
        OriginRefused = "403 Forbidden", "",
            "pages of this Origin may not connect; the operator can allow it in `origins`";
    }
    framing {
        /// A frame or message above the caller's bound.
        FrameTooLarge = 1009,
            "the frame is larger than the server takes";
        /// An RSV bit is set though no extension was agreed on.
        ReservedBits = 1002,
            "reserved bits must be 0: no extension was agreed on";
        /// An opcode RFC 6455 does not define.
        UnknownOpcode = 1002,
            "the WebSocket opcode is not one of RFC 6455";
        /// A text message.
        TextMessage = 1003,
            "Myriad speaks binary messages (protobuf), not text";
        /// A client frame without a mask.
        Unmasked = 1002,
            "clients must mask every WebSocket frame";
        /// A server frame with a mask.
        Masked = 1002,
            "servers must not mask WebSocket frames";
        /// A length in more bytes than needed, or with its top bit set.
        LengthMalformed = 1002,
            "WebSocket lengths must be minimal and below 2^63";
        /// A control frame in fragments.
        ControlFragmented = 1002,
            "control frames must not be fragmented";
        /// A control frame of more than 125 bytes.
        ControlTooLong = 1002,
            "control frames carry at most 125 bytes";
        /// A continuation of nothing.
        ContinuationUnexpected = 1002,
            "a continuation frame needs a fragmented message before it";
        /// A new message inside a fragmented one.
        MessageInterrupted = 1002,
            "finish the fragmented message before starting another";
        /// A close payload of one byte.
        CloseMalformed = 1002,
            "a close frame carries nothing or a code of two bytes and a reason";
        /// A close code that must not travel.
        CloseCodeInvalid = 1002,
            "the close code is reserved or undefined";
        /// A close reason that is not UTF-8.
        CloseReasonNotText = 1007,
            "the close reason must be UTF-8";
    }
}

impl FrameError {
    /// The `Goodbye` reason that goes with it.
    pub fn parting(self) -> Parting {
        match self {
            Self::FrameTooLarge | Self::HeadTooLarge => Parting::FrameTooLarge,
            _ => Parting::BadFrame,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_an_answer() {
        for error in FrameError::ALL {
            assert!(crate::websocket::close_code_is_valid(error.close_code()), "{error:?}");
            assert_eq!(error.to_string(), error.advice());
            if let Some(response) = error.http_response() {
                let (head, body) = response.split_once("\r\n\r\n").unwrap();
                assert!(head.starts_with("HTTP/1.1 4"), "{head}");
                assert!(head.contains("Connection: close"), "{head}");
                assert_eq!(body.trim_end(), error.advice());
            }
        }
    }
}

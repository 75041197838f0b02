//! Codes with which the server closes a WebSocket.

/// A code with which the server closes a WebSocket, with its default reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseCode {
    /// Code of RFC 6455, section 7.4.
    pub code: u16,
    /// Stable name for programs.
    pub name: &'static str,
    /// What happened, one sentence.
    pub reason: &'static str,
    /// Whether the same device may connect again without a change.
    pub retry: bool,
}

/// Codes with which the server closes a WebSocket.
pub mod close {
    use super::CloseCode;

    const fn code(code: u16, name: &'static str, retry: bool, reason: &'static str) -> CloseCode {
        CloseCode { code, name, reason, retry }
    }

    /// The stream ended as announced, or the client closed.
    pub const NORMAL: CloseCode = code(1000, "normal", false, "the stream has ended");
    /// The server is restarting.
    pub const GOING_AWAY: CloseCode =
        code(1001, "going_away", true, "the server is restarting; connect again");
    /// A message does not follow the protocol.
    pub const MALFORMED: CloseCode =
        code(4400, "malformed", false, "the message does not follow the protocol");
    /// The token was revoked, or has expired.
    pub const UNAUTHORIZED: CloseCode = code(4401, "unauthorized", false, "the token is not valid any more");
    /// The stream to resume or the patient does not exist.
    pub const UNKNOWN: CloseCode = code(4404, "unknown", false, "the stream does not exist or has ended");
    /// The client sent nothing for too long.
    pub const SILENT: CloseCode = code(4408, "silent", true, "nothing was received for too long");
    /// Another device sends this channel of the patient.
    pub const CONFLICT: CloseCode =
        code(4409, "conflict", true, "another device sends a channel with this label for this patient");
    /// A message is too large.
    pub const TOO_LARGE: CloseCode = code(4413, "too_large", false, "the message is too large");
    /// More is sent than the window allows, or than the server accepts from all devices.
    pub const WINDOW: CloseCode =
        code(4429, "window", true, "more messages are sent and not acknowledged than the window allows");
    /// The broker is unavailable or full, or the server has too many streams.
    pub const UNAVAILABLE: CloseCode =
        code(4503, "unavailable", true, "the server cannot store data now; resume later");

    /// All codes, in ascending order.
    pub const ALL: [CloseCode; 10] = [
        NORMAL,
        GOING_AWAY,
        MALFORMED,
        UNAUTHORIZED,
        UNKNOWN,
        SILENT,
        CONFLICT,
        TOO_LARGE,
        WINDOW,
        UNAVAILABLE,
    ];
}

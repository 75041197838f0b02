//! Text messages between devices and the gateway.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::stream::{Channel, Device, DeviceNumeric};
use crate::ids::StreamId;
use crate::time::Timestamp;

/// device -> gateway: text messages of the device protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum DeviceMessage {
    /// The first message of a connection.
    Open {
        /// The stream to continue; absent for a new stream.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resume: Option<StreamId>,
        /// The device.
        device: Device,
        /// The channels; the same as before if a stream is continued.
        channels: Vec<Channel>,
        /// Clock of the device when it sends this message, microseconds since 1970.
        device_time_us: i64,
    },
    /// Measured values.
    Numerics {
        /// Sequence number in the stream, shared with frames.
        sequence: u64,
        /// The values.
        values: Vec<DeviceNumeric>,
    },
    /// The stream ends; it cannot be resumed. The server acknowledges what is outstanding and closes.
    End {},
}

/// gateway -> device: text messages of the device protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DeviceReply {
    /// The stream is open.
    Opened {
        /// The stream; a device stores it to resume.
        stream: StreamId,
        /// The next sequence number: everything before it is durable.
        next_sequence: u64,
        /// Largest number of frames and numerics that are sent and not yet acknowledged.
        window: u32,
        /// Longest frame, in bytes.
        max_frame_bytes: u32,
        /// Time of the server.
        server_time: Timestamp,
    },
    /// Everything up to and including this sequence number is durable.
    Ack {
        /// The sequence number.
        sequence: u64,
    },
    /// Something that the device or its operator should know. The stream continues.
    Notice {
        /// Stable code for programs, such as `clock_jump`.
        code: String,
        /// Message for people, one sentence.
        message: String,
    },
}

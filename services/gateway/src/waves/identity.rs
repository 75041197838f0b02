//! Ids of streams. An id contains its time and a hash of what is fixed for the life of the stream, so that a device cannot
//! resume a stream with another patient, device or channels, even at a gateway that has never seen the stream.

use proto_json::waveform::{Channel, Device, StreamId};
use proto_json::{BlobHash, Mrn, Timestamp};
use uuid::{Builder, Uuid};

/// Returns a new id: a UUID version 7 that ends in a hash of patient, device and channels.
pub(super) fn new_stream(mrn: Mrn, device: &Device, channels: &[Channel]) -> StreamId {
    let mut bytes = *Uuid::now_v7().as_bytes();
    // Fresh random bits in place of those that make way for the hash.
    (bytes[6], bytes[7]) = (bytes[14], bytes[15]);
    with_hash(bytes, mrn, device, channels)
}

/// Returns whether the stream has this patient, device and channels.
pub(super) fn is_of(stream: StreamId, mrn: Mrn, device: &Device, channels: &[Channel]) -> bool {
    with_hash(*stream.as_uuid().as_bytes(), mrn, device, channels) == stream
}

/// Returns when the stream was opened for the first time.
pub(super) fn opened_at(stream: StreamId) -> Timestamp {
    let [a, b, c, d, e, f, ..] = *stream.as_uuid().as_bytes();
    let millis = i64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    Timestamp::from_millis(millis).unwrap_or_else(|_| Timestamp::now())
}

fn with_hash(mut bytes: [u8; 16], mrn: Mrn, device: &Device, channels: &[Channel]) -> StreamId {
    // Serialization of these types cannot fail; without text the id would only be less specific.
    let fixed = serde_json::to_vec(&(mrn, device, channels)).unwrap_or_default();
    let hash = BlobHash::of(&fixed);
    bytes[8..].copy_from_slice(&hash.as_bytes()[..8]);
    let uuid =
        Builder::from_bytes(bytes).with_version(uuid::Version::SortRand).with_variant(uuid::Variant::RFC4122);
    StreamId::from_uuid(uuid.into_uuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_belongs_to_one_patient_device_and_set_of_channels() {
        let mrn = |mrn| Mrn::new(mrn).unwrap();
        let device = |serial: &str| Device { name: "Sim".to_owned(), serial: serial.to_owned() };
        let channels = |scale: f64| {
            let json = serde_json::json!([{ "label": "II", "code": "MDC_ECG_LEAD_II", "unit": "mV",
                "rate": { "numerator": 250, "denominator": 1 }, "scale": scale, "offset": 0.0 }]);
            serde_json::from_value::<Vec<Channel>>(json).unwrap()
        };
        let before = Timestamp::now();
        let stream = new_stream(mrn(7), &device("1"), &channels(0.005));
        assert!(is_of(stream, mrn(7), &device("1"), &channels(0.005)));
        assert!(!is_of(stream, mrn(8), &device("1"), &channels(0.005)));
        assert!(!is_of(stream, mrn(7), &device("2"), &channels(0.005)));
        assert!(!is_of(stream, mrn(7), &device("1"), &channels(0.001)));
        assert!(!is_of(StreamId::generate(), mrn(7), &device("1"), &channels(0.005)));
        assert!(opened_at(stream) >= before && opened_at(stream) <= Timestamp::now());
        assert_eq!(stream.as_uuid().get_version_num(), 7);
        assert_ne!(stream, new_stream(mrn(7), &device("1"), &channels(0.005)));
    }
}

//! Which alarms sound at this station.

use std::collections::HashMap;

use alarm_sound::SoundPriority;
use proto_json::{RecordId, Timestamp};

use super::severity::Severity;

/// The sound of a severity. Technical alarms sound like alarms of low priority.
#[must_use]
pub fn sound_priority(severity: Severity) -> SoundPriority {
    match severity {
        Severity::Technical | Severity::Low => SoundPriority::Low,
        Severity::Medium => SoundPriority::Medium,
        Severity::High => SoundPriority::High,
    }
}

/// A pause of the sound at this station: of the station's own alarms, and of the alarms of patients that sounded when it began.
///
/// The server pauses the sound of an alarm at all stations. This pause works without the server, too, so that the sound of a
/// station that has lost its connection can be paused. An alarm that is raised later sounds nevertheless.
#[derive(Debug, Default)]
pub struct LocalPause {
    station_until: Option<Timestamp>,
    alarms: HashMap<RecordId, Timestamp>,
}

impl LocalPause {
    /// Pauses the sound of these alarms until a time, and of the station's own alarms if `with_station`.
    pub fn pause(
        &mut self,
        alarms: impl IntoIterator<Item = RecordId>,
        until: Timestamp,
        with_station: bool,
    ) {
        if with_station {
            self.station_until = Some(until);
        }
        self.alarms.extend(alarms.into_iter().map(|id| (id, until)));
    }

    /// Whether the sound of an alarm is paused here.
    #[must_use]
    pub fn includes(&self, id: RecordId, now: Timestamp) -> bool {
        self.left_ms(id, now).is_some()
    }

    /// How long the sound of an alarm is still paused here, in milliseconds.
    #[must_use]
    pub fn left_ms(&self, id: RecordId, now: Timestamp) -> Option<i64> {
        let left = self.alarms.get(&id)?.millis_since(now);
        (left > 0).then_some(left)
    }

    /// Until when the sound of the station's own alarms is paused, if it is.
    #[must_use]
    pub fn station_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.station_until.filter(|until| *until > now)
    }

    /// Ends the pause of the station's own alarms: the next one sounds.
    pub fn end_station(&mut self) {
        self.station_until = None;
    }

    /// Forgets pauses that are over.
    pub fn expire(&mut self, now: Timestamp) {
        self.alarms.retain(|_, until| *until > now);
    }
}

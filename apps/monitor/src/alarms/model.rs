//! The alarms of all patients, as the server has reported them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto_json::alarms::{Alarm, AlarmRule, AlarmState};
use proto_json::{Mrn, RecordId, Timestamp};

use super::severity::Severity;

/// The maximum number of ended alarms that are kept.
const MAX_ENDED: usize = 2000;

/// Which alarms a list shows by their state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StateFilter {
    /// All alarms.
    #[default]
    All,
    /// Alarms that nobody has acknowledged.
    Unacknowledged,
    /// Alarms that somebody has acknowledged.
    Acknowledged,
}

/// Which alarms a list shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filter {
    /// By state.
    pub state: StateFilter,
    /// By severity; `None` for all.
    pub severity: Option<Severity>,
}

impl Filter {
    /// Whether the list shows this alarm.
    #[must_use]
    pub fn includes(&self, alarm: &Alarm) -> bool {
        let is_acknowledged = alarm.acknowledged.is_some();
        self.includes_severity(alarm.priority.into())
            && match self.state {
                StateFilter::All => true,
                StateFilter::Unacknowledged => !is_acknowledged,
                StateFilter::Acknowledged => is_acknowledged,
            }
    }

    /// Whether the list shows alarms of this severity.
    #[must_use]
    pub fn includes_severity(&self, severity: Severity) -> bool {
        self.severity.is_none_or(|wanted| wanted == severity)
    }
}

/// The open alarms of all patients, and the latest ended ones.
#[derive(Debug, Default)]
pub struct Alarms {
    open: BTreeMap<Mrn, BTreeMap<RecordId, Alarm>>,
    /// Newest first.
    ended: VecDeque<Alarm>,
    unavailable: Option<String>,
}

impl Alarms {
    /// Replaces the open alarms. Returns the patients whose alarms have changed.
    pub fn replace(&mut self, alarms: Vec<Alarm>) -> BTreeSet<Mrn> {
        self.unavailable = None;
        let mut open: BTreeMap<Mrn, BTreeMap<RecordId, Alarm>> = BTreeMap::new();
        for alarm in alarms {
            open.entry(alarm.mrn).or_default().insert(alarm.id, alarm);
        }
        let before = std::mem::replace(&mut self.open, open);
        let patients: BTreeSet<Mrn> = before.keys().chain(self.open.keys()).copied().collect();
        patients.into_iter().filter(|mrn| before.get(mrn) != self.open.get(mrn)).collect()
    }

    /// Removes all alarms: another server is connected.
    pub fn clear(&mut self) {
        *self = Alarms::default();
    }

    /// The alarms cannot be loaded, for this reason.
    pub fn set_unavailable(&mut self, reason: String) {
        self.unavailable = Some(reason);
    }

    /// Why the alarms cannot be loaded.
    #[must_use]
    pub fn unavailable(&self) -> Option<&str> {
        self.unavailable.as_deref()
    }

    /// Takes over an alarm if it is newer than the known version. Returns whether it was.
    pub fn apply(&mut self, alarm: Alarm) -> bool {
        let known = self.get(alarm.id).or_else(|| self.ended.iter().find(|ended| ended.id == alarm.id));
        if known.is_some_and(|known| known.version >= alarm.version) {
            return false;
        }
        // The alarm of a merged patient belongs to another one.
        if let Some(mrn) = self.get(alarm.id).map(|known| known.mrn)
            && let Some(alarms) = self.open.get_mut(&mrn)
        {
            alarms.remove(&alarm.id);
            if alarms.is_empty() {
                self.open.remove(&mrn);
            }
        }
        if alarm.state == AlarmState::Ended {
            self.add_ended(alarm);
        } else {
            // After a restored backup, an ended alarm may be open again.
            self.ended.retain(|ended| ended.id != alarm.id);
            self.open.entry(alarm.mrn).or_default().insert(alarm.id, alarm);
        }
        true
    }

    /// Takes over ended alarms that were loaded.
    pub fn add_history(&mut self, alarms: Vec<Alarm>) {
        for alarm in alarms {
            if alarm.state == AlarmState::Ended {
                self.add_ended(alarm);
            }
        }
    }

    fn add_ended(&mut self, alarm: Alarm) {
        if let Some(known) = self.ended.iter_mut().find(|ended| ended.id == alarm.id) {
            if known.version < alarm.version {
                *known = alarm;
            }
            return;
        }
        let key = |alarm: &Alarm| (alarm.raised_at, alarm.id);
        let at = self.ended.partition_point(|ended| key(ended) > key(&alarm));
        self.ended.insert(at, alarm);
        self.ended.truncate(MAX_ENDED);
    }

    /// The open alarms of a patient, in the order in which they are shown: what needs attention first, then by severity, then
    /// the newest first.
    #[must_use]
    pub fn of(&self, mrn: Mrn) -> Vec<&Alarm> {
        let mut alarms: Vec<&Alarm> = self.open.get(&mrn).into_iter().flat_map(BTreeMap::values).collect();
        alarms.sort_by_key(|alarm| std::cmp::Reverse(shown_key(alarm)));
        alarms
    }

    /// The open alarm of a patient that is shown where there is space for one.
    #[must_use]
    pub fn first(&self, mrn: Mrn) -> Option<&Alarm> {
        self.open.get(&mrn)?.values().max_by_key(|alarm| shown_key(alarm))
    }

    /// The number of open alarms of a patient.
    #[must_use]
    pub fn count(&self, mrn: Mrn) -> usize {
        self.open.get(&mrn).map_or(0, BTreeMap::len)
    }

    /// An open alarm.
    #[must_use]
    pub fn get(&self, id: RecordId) -> Option<&Alarm> {
        self.open.values().find_map(|alarms| alarms.get(&id))
    }

    /// The highest severity of the open alarms of a patient.
    #[must_use]
    pub fn severity(&self, mrn: Mrn) -> Option<Severity> {
        self.open.get(&mrn)?.values().map(|alarm| alarm.priority.into()).max()
    }

    /// The severity of the current heart rate of a patient: that of an open alarm of the heart rate whose condition is present.
    #[must_use]
    pub fn rate_severity(&self, mrn: Mrn) -> Option<Severity> {
        let concerns_rate = |alarm: &&Alarm| {
            matches!(
                alarm.rule,
                AlarmRule::Asystole
                    | AlarmRule::HeartRateExtremeLow
                    | AlarmRule::HeartRateExtremeHigh
                    | AlarmRule::HeartRateLow
                    | AlarmRule::HeartRateHigh
            ) && alarm.state != AlarmState::Latched
        };
        self.open.get(&mrn)?.values().filter(concerns_rate).map(|alarm| alarm.priority.into()).max()
    }

    /// All open alarms.
    pub fn iter(&self) -> impl Iterator<Item = &Alarm> {
        self.open.values().flat_map(BTreeMap::values)
    }

    /// The number of patients with open alarms.
    pub fn patients(&self) -> impl Iterator<Item = Mrn> {
        self.open.keys().copied()
    }

    /// The ended alarms that are known, newest first.
    pub fn ended(&self) -> impl Iterator<Item = &Alarm> {
        self.ended.iter()
    }
}

/// Whether an alarm waits for an acknowledgement.
#[must_use]
pub fn needs_attention(alarm: &Alarm) -> bool {
    matches!(alarm.state, AlarmState::Raised | AlarmState::Latched)
}

/// Whether an alarm flashes. A pause of the sound does not change that.
#[must_use]
pub fn flashes(alarm: &Alarm) -> bool {
    needs_attention(alarm) && Severity::from(alarm.priority) >= Severity::Medium
}

/// How long the sound of an alarm is still paused at all stations, in milliseconds.
#[must_use]
pub fn paused_ms(alarm: &Alarm, now: Timestamp) -> Option<i64> {
    let left = alarm.audio_paused_until.filter(|_| needs_attention(alarm))?.millis_since(now);
    (left > 0).then_some(left)
}

fn shown_key(alarm: &Alarm) -> (bool, Severity, Timestamp, RecordId) {
    let severity = Severity::from(alarm.priority);
    // A technical alarm does not hide an acknowledged alarm about the patient.
    (needs_attention(alarm) && severity > Severity::Technical, severity, alarm.raised_at, alarm.id)
}

//! Limits and delays: their defaults, which ones apply to a patient, and which ones can be used.
//!
//! The limits of a patient are those of the patient, then of the ward, then of the site, then the defaults. IEC 60601-1-8,
//! clauses 6.4 to 6.6, requires defaults that the responsible organization can change and that survive a restart; a limit
//! cannot be switched off by accident, because an absent value is replaced by the next one.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use proto_json::Mrn;
use proto_json::WardId;
use proto_json::alarms::{AlarmLimits, LimitScope};
use store::alarms::ScopeLimits;

/// Limits for an adult at rest.
pub const DEFAULTS: AlarmLimits = AlarmLimits {
    heart_rate_low: Some(50),
    heart_rate_high: Some(120),
    heart_rate_extreme_low: Some(35),
    heart_rate_extreme_high: Some(150),
    heart_rate_delay_s: Some(10),
    asystole_s: Some(4.0),
    pause_s: Some(3.0),
    atrial_fibrillation: Some(false),
    spo2_low: Some(90),
    respiration_low: Some(8),
    respiration_high: Some(30),
};

const HEART_RATES: RangeInclusive<u16> = 10..=350;
const DELAYS_S: RangeInclusive<u16> = 0..=60;
/// IEC 60601-2-27, clause 201.12.1.101.15, requires an alarm within 10 s of cardiac standstill.
const ASYSTOLE_S: RangeInclusive<f64> = 2.5..=8.0;
const PAUSE_S: RangeInclusive<f64> = 1.5..=6.0;
const SATURATIONS: RangeInclusive<u16> = 50..=100;
const RESPIRATIONS: RangeInclusive<u16> = 1..=150;

/// The limits that apply to a patient; no value is absent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effective {
    /// Beats per minute.
    pub heart_rate_low: u16,
    /// Beats per minute.
    pub heart_rate_high: u16,
    /// Beats per minute.
    pub heart_rate_extreme_low: u16,
    /// Beats per minute.
    pub heart_rate_extreme_high: u16,
    /// Seconds.
    pub heart_rate_delay_s: u16,
    /// Seconds.
    pub asystole_s: f64,
    /// Seconds.
    pub pause_s: f64,
    /// Whether the onset raises an alarm.
    pub atrial_fibrillation: bool,
    /// Percent.
    pub spo2_low: u16,
    /// Breaths per minute.
    pub respiration_low: u16,
    /// Breaths per minute.
    pub respiration_high: u16,
}

/// Why limits cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LimitsError {
    /// A value is out of its range.
    #[error("{what} must be from {low} to {high} {unit}, not {given}")]
    OutOfRange {
        /// What the value limits.
        what: &'static str,
        /// Smallest permitted value.
        low: f64,
        /// Largest permitted value.
        high: f64,
        /// Unit of the values.
        unit: &'static str,
        /// The value.
        given: f64,
    },
    /// No value is within two limits, or a limit is on the wrong side of another one.
    #[error("{lower} ({low}) must be below {upper} ({high}){of}")]
    Crossed {
        /// The limit that must be lower.
        lower: &'static str,
        /// Its value.
        low: f64,
        /// The limit that must be higher.
        upper: &'static str,
        /// Its value.
        high: f64,
        /// The scope in which they cross, if it is another one than the changed one; empty otherwise.
        of: String,
    },
}

impl Effective {
    /// Completes limits with the defaults.
    #[must_use]
    pub fn of(limits: AlarmLimits) -> Effective {
        fn of<T>(value: Option<T>, default: Option<T>, fallback: T) -> T {
            value.or(default).unwrap_or(fallback)
        }
        Effective {
            heart_rate_low: of(limits.heart_rate_low, DEFAULTS.heart_rate_low, 50),
            heart_rate_high: of(limits.heart_rate_high, DEFAULTS.heart_rate_high, 120),
            heart_rate_extreme_low: of(limits.heart_rate_extreme_low, DEFAULTS.heart_rate_extreme_low, 35),
            heart_rate_extreme_high: of(
                limits.heart_rate_extreme_high,
                DEFAULTS.heart_rate_extreme_high,
                150,
            ),
            heart_rate_delay_s: of(limits.heart_rate_delay_s, DEFAULTS.heart_rate_delay_s, 10),
            asystole_s: of(limits.asystole_s, DEFAULTS.asystole_s, 4.0),
            pause_s: of(limits.pause_s, DEFAULTS.pause_s, 3.0),
            atrial_fibrillation: of(limits.atrial_fibrillation, DEFAULTS.atrial_fibrillation, false),
            spo2_low: of(limits.spo2_low, DEFAULTS.spo2_low, 90),
            respiration_low: of(limits.respiration_low, DEFAULTS.respiration_low, 8),
            respiration_high: of(limits.respiration_high, DEFAULTS.respiration_high, 30),
        }
    }

    /// Returns the limits in the form of the API.
    #[must_use]
    pub fn limits(&self) -> AlarmLimits {
        AlarmLimits {
            heart_rate_low: Some(self.heart_rate_low),
            heart_rate_high: Some(self.heart_rate_high),
            heart_rate_extreme_low: Some(self.heart_rate_extreme_low),
            heart_rate_extreme_high: Some(self.heart_rate_extreme_high),
            heart_rate_delay_s: Some(self.heart_rate_delay_s),
            asystole_s: Some(self.asystole_s),
            pause_s: Some(self.pause_s),
            atrial_fibrillation: Some(self.atrial_fibrillation),
            spo2_low: Some(self.spo2_low),
            respiration_low: Some(self.respiration_low),
            respiration_high: Some(self.respiration_high),
        }
    }

    /// Checks ranges and order.
    ///
    /// # Errors
    /// [`LimitsError`] states the first value that cannot be used. `of` is appended to the message of crossed limits.
    pub fn check(&self, of: &str) -> Result<(), LimitsError> {
        const BPM: &str = "beats per minute";
        for (what, value) in [
            ("the low limit of the heart rate", self.heart_rate_low),
            ("the high limit of the heart rate", self.heart_rate_high),
            ("the extreme low limit of the heart rate", self.heart_rate_extreme_low),
            ("the extreme high limit of the heart rate", self.heart_rate_extreme_high),
        ] {
            in_range(what, value.into(), bounds(&HEART_RATES), BPM)?;
        }
        in_range(
            "the delay of the heart rate",
            self.heart_rate_delay_s.into(),
            bounds(&DELAYS_S),
            "seconds",
        )?;
        in_range(
            "the time to asystole",
            self.asystole_s,
            (*ASYSTOLE_S.start(), *ASYSTOLE_S.end()),
            "seconds",
        )?;
        in_range("the length of a pause", self.pause_s, (*PAUSE_S.start(), *PAUSE_S.end()), "seconds")?;
        in_range("the limit of the saturation", self.spo2_low.into(), bounds(&SATURATIONS), "percent")?;
        for (what, value) in [
            ("the low limit of the respiration", self.respiration_low),
            ("the high limit of the respiration", self.respiration_high),
        ] {
            in_range(what, value.into(), bounds(&RESPIRATIONS), "breaths per minute")?;
        }
        let rate = |name: &'static str, value: u16| (name, f64::from(value));
        let pairs = [
            (
                rate("the extreme low limit of the heart rate", self.heart_rate_extreme_low),
                rate("the low limit", self.heart_rate_low),
            ),
            (
                rate("the low limit of the heart rate", self.heart_rate_low),
                rate("the high limit", self.heart_rate_high),
            ),
            (
                rate("the high limit of the heart rate", self.heart_rate_high),
                rate("the extreme high limit", self.heart_rate_extreme_high),
            ),
            (
                rate("the low limit of the respiration", self.respiration_low),
                rate("the high limit", self.respiration_high),
            ),
            (("the length of a pause", self.pause_s), ("the time to asystole", self.asystole_s)),
        ];
        for ((lower, low), (upper, high)) in pairs {
            if low >= high {
                return Err(LimitsError::Crossed { lower, low, upper, high, of: of.to_owned() });
            }
        }
        Ok(())
    }
}

fn bounds(range: &RangeInclusive<u16>) -> (f64, f64) {
    (f64::from(*range.start()), f64::from(*range.end()))
}

fn in_range(
    what: &'static str,
    given: f64,
    (low, high): (f64, f64),
    unit: &'static str,
) -> Result<(), LimitsError> {
    if (low..=high).contains(&given) {
        Ok(())
    } else {
        Err(LimitsError::OutOfRange { what, low, high, unit, given })
    }
}

/// The stored limits of all scopes.
#[derive(Debug, Clone, Default)]
pub struct AllLimits(BTreeMap<LimitScope, ScopeLimits>);

impl AllLimits {
    /// The limits that are stored.
    #[must_use]
    pub fn new(stored: Vec<ScopeLimits>) -> Self {
        AllLimits(stored.into_iter().map(|limits| (limits.scope, limits)).collect())
    }

    /// What a scope sets, if it sets anything.
    #[must_use]
    pub fn stored(&self, scope: LimitScope) -> Option<&ScopeLimits> {
        self.0.get(&scope)
    }

    fn set_by(&self, scope: LimitScope) -> AlarmLimits {
        self.stored(scope).map(|stored| stored.limits).unwrap_or_default()
    }

    /// The limits that apply in a scope. `ward` is the ward of a patient, if the patient is in one.
    #[must_use]
    pub fn effective(&self, scope: LimitScope, ward: Option<WardId>) -> Effective {
        let of_ward = |ward: Option<WardId>| {
            ward.map(|ward| self.set_by(LimitScope::Ward { ward })).unwrap_or_default()
        };
        let own = match scope {
            LimitScope::Site => AlarmLimits::default(),
            LimitScope::Ward { ward } => of_ward(Some(ward)),
            LimitScope::Patient { .. } => self.set_by(scope).or(of_ward(ward)),
        };
        Effective::of(own.or(self.set_by(LimitScope::Site)))
    }

    /// Checks whether a scope may set these limits: they, and the limits of all scopes that take values from them, must not
    /// cross. `ward_of` returns the ward of a patient.
    ///
    /// # Errors
    /// [`LimitsError`] states the first value that cannot be used.
    pub fn check(
        &self,
        scope: LimitScope,
        limits: AlarmLimits,
        ward_of: impl Fn(Mrn) -> Option<WardId>,
    ) -> Result<(), LimitsError> {
        let mut changed = self.clone();
        let changed_by =
            proto_json::alarms::AlarmAction { by: String::new(), at: proto_json::Timestamp::now() };
        changed.0.insert(scope, ScopeLimits { scope, limits, version: 0, changed: changed_by });
        let ward = |scope: LimitScope| match scope {
            LimitScope::Patient { mrn } => ward_of(mrn),
            LimitScope::Site | LimitScope::Ward { .. } => None,
        };
        changed.effective(scope, ward(scope)).check("")?;
        for other in changed.0.keys().filter(|other| **other != scope) {
            let of = match other {
                LimitScope::Site => continue,
                LimitScope::Ward { ward } => format!(" for ward {ward}, which has limits of its own"),
                LimitScope::Patient { mrn } => format!(" for patient {mrn}, who has limits of their own"),
            };
            changed.effective(*other, ward(*other)).check(&of)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proto_json::Timestamp;
    use proto_json::alarms::AlarmAction;

    use super::*;

    fn stored(scope: LimitScope, limits: AlarmLimits) -> ScopeLimits {
        let changed = AlarmAction { by: "Ann".to_owned(), at: Timestamp::from_millis(0).unwrap() };
        ScopeLimits { scope, limits, version: 1, changed }
    }

    fn high(rate: u16) -> AlarmLimits {
        AlarmLimits { heart_rate_high: Some(rate), ..AlarmLimits::default() }
    }

    #[test]
    fn limits_of_the_patient_precede_those_of_ward_site_and_defaults() {
        let ward: WardId = "67e55044-10b1-426f-9247-bb680e5fe0c8".parse().unwrap();
        let patient = LimitScope::Patient { mrn: Mrn::new(7).unwrap() };
        let site = AlarmLimits { heart_rate_low: Some(45), spo2_low: Some(88), ..high(125) };
        let all = AllLimits::new(vec![
            stored(LimitScope::Site, site),
            stored(LimitScope::Ward { ward }, AlarmLimits { heart_rate_low: Some(40), ..high(130) }),
            stored(patient, high(140)),
        ]);
        let found = all.effective(patient, Some(ward));
        assert_eq!((found.heart_rate_high, found.heart_rate_low, found.spo2_low), (140, 40, 88));
        assert_eq!(found.respiration_high, 30, "the default");
        let elsewhere = all.effective(patient, None);
        assert_eq!((elsewhere.heart_rate_high, elsewhere.heart_rate_low), (140, 45));
        assert_eq!(all.effective(LimitScope::Site, None).heart_rate_high, 125);
        assert_eq!(Effective::of(AlarmLimits::default()).limits(), DEFAULTS);
        Effective::of(AlarmLimits::default()).check("").unwrap();
    }

    #[test]
    fn crossing_limits_are_rejected_in_the_scope_and_in_scopes_that_depend_on_it() {
        let mrn = Mrn::new(7).unwrap();
        let patient = LimitScope::Patient { mrn };
        let all = AllLimits::new(vec![stored(
            patient,
            AlarmLimits { heart_rate_low: Some(100), ..AlarmLimits::default() },
        )]);
        let check = |scope, limits| all.check(scope, limits, |_| None).map_err(|error| error.to_string());
        check(LimitScope::Site, high(130)).unwrap();
        let message = check(LimitScope::Site, high(90)).unwrap_err();
        assert!(message.contains("for patient 7"), "{message}");
        let message = check(LimitScope::Site, high(40)).unwrap_err();
        assert_eq!(message, "the low limit of the heart rate (50) must be below the high limit (40)");
        let message = check(patient, high(9)).unwrap_err();
        assert_eq!(
            message,
            "the high limit of the heart rate must be from 10 to 350 beats per minute, not 9"
        );
        let asystole = AlarmLimits { asystole_s: Some(2.9), ..AlarmLimits::default() };
        assert!(check(patient, asystole).unwrap_err().contains("the length of a pause (3) must be below"));
        let nan = AlarmLimits { asystole_s: Some(f64::NAN), ..AlarmLimits::default() };
        assert!(check(patient, nan).is_err());
    }
}

//! Runs the rules on what the broker delivers.
//!
//! Every process runs the rules of all patients, so a successor has their state when it takes over. Only the process with the
//! lease of the store writes: it sends changes to the writer and stores the state of the rules once per second.
//!
//! A takeover compares the rules with the stored alarms. A stored alarm that the rules do not know is adopted: it ends when its
//! condition is known to be over. An alarm of the rules that is not stored is raised: its id is the one that the
//! predecessor would have used. Then all open alarms are published again, because the predecessor may have died between
//! storing and publishing.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{SystemSignal, UpdateEvent, VitalsEvent};
use futures::StreamExt;
use futures::stream::BoxStream;
use proto_json::alarms::{Alarm, AlarmEndReason, AlarmPriority, AlarmRule, AlarmState, LimitScope};
use proto_json::{EcgStatus, Fate, HeartRateSource, Mrn, PatientSummary, SystemEvent, Timestamp};
use runtime::Shutdown;
use store::alarms::{AlarmQuery, RuleState};
use store::{PageRequest, StoreError};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use crate::rules::limits::{AllLimits, Effective};
use crate::rules::{Change, Input, Onset, PatientRules, StripResult};
use crate::writer::{self, OpenAlarms, Task};
use crate::{Shared, machine};

/// Validity of the lease, and the interval of its renewal. Together they are below the 3 s of a takeover.
const LEASE: Duration = Duration::from_millis(2_000);
const RENEWAL: Duration = Duration::from_millis(400);
/// A call of the store for the lease ends after this time.
const LEASE_CALL: Duration = Duration::from_millis(1_000);
/// Interval of the rules that depend on time, of expiring audio pauses, and of storing states.
const TICK: Duration = Duration::from_millis(500);
/// Wait before broker or store are called again.
const RETRY: Duration = Duration::from_millis(500);
/// Patients of a page.
const PATIENTS: usize = 500;
/// Ended alarms that are published again after a takeover: at most this many, that ended in this time.
const ENDED: usize = 100;
const ENDED_MS: i64 = 120_000;
/// Rules of a patient without input for this long are forgotten if they hold nothing.
const FORGET: Duration = Duration::from_secs(3_600);

/// What the evaluator receives.
enum Signal {
    Vitals(VitalsEvent),
    Update(UpdateEvent),
    System(SystemSignal),
}

struct Patient {
    rules: PatientRules,
    heard: Instant,
    /// The JSON that is stored; empty if nothing is stored.
    stored: String,
}

struct Evaluator {
    shared: Arc<Shared>,
    patients: HashMap<Mrn, Patient>,
    limits: AllLimits,
    open: Arc<OpenAlarms>,
    tasks: mpsc::UnboundedSender<Task>,
    /// This process has the lease and has taken over.
    is_evaluating: bool,
    /// Start of the uninterrupted reception of vitals.
    since: Timestamp,
    /// Limits may be out of date.
    limits_due: bool,
    /// Strips may have been missed.
    strips_due: bool,
    /// Open alarms may be out of date.
    alarms_due: bool,
    /// Patients that may have been merged, erased or corrected.
    corrected: BTreeSet<Mrn>,
    /// Numbers without a patient: the surviving patient of a merge, or `None` after an erasure.
    gone: HashMap<Mrn, Option<Mrn>>,
}

/// Evaluates until the shutdown begins.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: Shutdown) {
    let (leads, has_lease) = watch::channel(false);
    let (tasks, for_writer) = mpsc::unbounded_channel();
    let (dismissed, mut dismissals) = mpsc::unbounded_channel();
    let open = Arc::new(OpenAlarms::default());
    let holder = Uuid::now_v7();
    let lease = keep_lease(Arc::clone(&shared), holder, leads, shutdown.clone());
    let writer = writer::run(Arc::clone(&shared), Arc::clone(&open), for_writer, dismissed, shutdown.clone());
    let notifying =
        crate::notify::run(Arc::clone(&shared), Arc::clone(&open), has_lease.clone(), shutdown.clone());
    let evaluator = Evaluator {
        shared: Arc::clone(&shared),
        patients: HashMap::new(),
        limits: AllLimits::default(),
        open,
        tasks,
        is_evaluating: false,
        since: Timestamp::now(),
        limits_due: true,
        strips_due: true,
        alarms_due: true,
        corrected: BTreeSet::new(),
        gone: HashMap::new(),
    };
    let evaluating = evaluator.run(has_lease, &mut dismissals, &shutdown);
    tokio::join!(lease, writer, notifying, evaluating);
    if let Err(error) = shared.ports.store.release_alarms(holder).await {
        tracing::debug!(%error, "the lease was not released; it ends by itself");
    }
}

/// Keeps the lease. It counts as lost when it could not be renewed in time.
async fn keep_lease(shared: Arc<Shared>, holder: Uuid, leads: watch::Sender<bool>, shutdown: Shutdown) {
    let mut valid_until: Option<Instant> = None;
    while !shutdown.has_begun() {
        let asked = Instant::now();
        let renewing = tokio::time::timeout(LEASE_CALL, shared.ports.store.lease_alarms(holder, LEASE));
        match shutdown.unless_begun(renewing).await {
            None => break,
            Some(Ok(Ok(true))) => valid_until = Some(asked + LEASE),
            Some(Ok(Ok(false))) => valid_until = None,
            Some(Ok(Err(error))) => tracing::debug!(%error, "the lease of the alarms cannot be renewed"),
            Some(Err(_)) => {
                tracing::debug!("the store does not answer; the lease of the alarms is not renewed")
            }
        }
        let is_valid = valid_until.is_some_and(|until| until > Instant::now());
        leads.send_if_modified(|leads| std::mem::replace(leads, is_valid) != is_valid);
        if shutdown.unless_begun(tokio::time::sleep(RENEWAL)).await.is_none() {
            break;
        }
    }
    leads.send_replace(false);
}

impl Evaluator {
    async fn run(
        mut self,
        mut has_lease: watch::Receiver<bool>,
        dismissals: &mut mpsc::UnboundedReceiver<(Mrn, AlarmRule)>,
        shutdown: &Shutdown,
    ) {
        let Some(mut signals) = self.subscribe(shutdown).await else { return };
        // After the subscriptions are active, so that nothing is missed.
        if !self.restore(shutdown).await {
            return;
        }
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.begun() => break,
                signal = signals.next() => match signal {
                    Some(signal) => {
                        let were_due = self.limits_due;
                        self.take(signal);
                        // New limits apply to the next input. A failure is repeated with the next tick.
                        if self.limits_due && !were_due {
                            self.refresh_limits().await;
                        }
                    }
                    None => match self.subscribe(shutdown).await {
                        Some(again) => {
                            signals = again;
                            self.interrupted();
                        }
                        None => break,
                    },
                },
                Some((mrn, rule)) = dismissals.recv() => self.dismiss(mrn, rule),
                changed = has_lease.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let is_held = *has_lease.borrow_and_update();
                    self.lead(is_held).await;
                }
                _ = ticks.tick() => {
                    let is_held = *has_lease.borrow();
                    self.lead(is_held).await;
                    self.tick().await;
                }
            }
        }
        self.save().await;
        metrics::gauge!("bedside_alarms_evaluating").set(0.0);
    }

    async fn subscribe(&self, shutdown: &Shutdown) -> Option<Pin<Box<BoxStream<'static, Signal>>>> {
        let ports = &self.shared.ports;
        loop {
            let subscribing = async {
                let vitals = ports.waves.subscribe_vitals(None).await?.map(Signal::Vitals);
                let updates = ports.pubsub.subscribe(None).await?.map(Signal::Update);
                let events = ports.pubsub.subscribe_events().await?.map(Signal::System);
                Ok::<_, bus::BusError>(futures::stream::select(
                    vitals,
                    futures::stream::select(updates, events),
                ))
            };
            match shutdown.unless_begun(subscribing).await? {
                Ok(signals) => return Some(Box::pin(signals.boxed())),
                Err(error) => tracing::warn!(%error, "vitals cannot be received; retrying"),
            }
            shutdown.unless_begun(tokio::time::sleep(RETRY)).await?;
        }
    }

    /// Loads limits and the state of the rules. False if the shutdown began.
    async fn restore(&mut self, shutdown: &Shutdown) -> bool {
        let states = loop {
            match shutdown.unless_begun(self.shared.ports.store.rule_states()).await {
                None => return false,
                Some(Ok(states)) => break states,
                Some(Err(error)) => tracing::warn!(%error, "the state of the rules cannot be read; retrying"),
            }
            if shutdown.unless_begun(tokio::time::sleep(RETRY)).await.is_none() {
                return false;
            }
        };
        for RuleState { mrn, state } in states {
            match serde_json::from_str(&state) {
                Ok(rules) => {
                    self.patients.insert(mrn, Patient { rules, heard: Instant::now(), stored: state });
                }
                Err(error) => {
                    tracing::warn!(%error, "a state of rules cannot be read; its delays start again")
                }
            }
        }
        self.since = Timestamp::now();
        true
    }

    /// Input may have been lost.
    fn interrupted(&mut self) {
        self.since = Timestamp::now();
        (self.limits_due, self.strips_due, self.alarms_due) = (true, true, true);
    }

    fn take(&mut self, signal: Signal) {
        match signal {
            Signal::Vitals(VitalsEvent::Vitals(vitals)) => {
                // A device can still send for the number of a merged patient: its heart is that of the surviving one.
                let mrn = match self.gone.get(&vitals.mrn) {
                    Some(Some(into)) => *into,
                    Some(None) => return,
                    None => vitals.mrn,
                };
                if !self.patients.contains_key(&mrn) {
                    self.corrected.insert(mrn);
                }
                self.evaluate(mrn, &Input::Vitals(vitals));
            }
            Signal::Vitals(VitalsEvent::Lagged) => self.since = Timestamp::now(),
            Signal::Update(UpdateEvent::Updated(update)) => self.take_patient(&update.patient),
            Signal::Update(UpdateEvent::Lagged) => self.strips_due = true,
            Signal::Update(UpdateEvent::Disconnected) | Signal::System(SystemSignal::Disconnected) => {}
            Signal::System(SystemSignal::Lagged) => {
                (self.limits_due, self.strips_due, self.alarms_due) = (true, true, true);
            }
            Signal::System(SystemSignal::Event(event)) => match *event {
                SystemEvent::Alarm(update) => {
                    let alarm = update.alarm;
                    if self.open.note(&alarm) && machine::is_dismissed(&alarm) {
                        self.dismiss(alarm.mrn, alarm.rule);
                    }
                }
                SystemEvent::Limits { .. } | SystemEvent::Wards => self.limits_due = true,
                SystemEvent::Patient { mrn } => {
                    self.corrected.insert(mrn);
                }
            },
        }
    }

    fn dismiss(&mut self, mrn: Mrn, rule: AlarmRule) {
        if let Some(patient) = self.patients.get_mut(&mrn) {
            patient.rules.dismiss(rule);
        }
    }

    /// Takes over the latest strip or rate of a patient, and the admission.
    fn take_patient(&mut self, patient: &PatientSummary) {
        let now = Timestamp::now();
        self.shared.wards.note(patient);
        let admitted_at = patient.admission.as_ref().map(|admission| admission.admitted_at);
        // A process that does not evaluate leaves a discharge to its takeover, because it would end no alarm.
        if admitted_at.is_some() || (self.is_evaluating && self.patients.contains_key(&patient.mrn)) {
            self.evaluate(patient.mrn, &Input::Admission(admitted_at, now));
        }
        if let Some(strip) = strip_of(patient) {
            self.evaluate(patient.mrn, &Input::Strip(strip, now));
        }
    }

    fn limits_of(&self, mrn: Mrn) -> Effective {
        self.limits.effective(LimitScope::Patient { mrn }, self.shared.wards.of(mrn))
    }

    fn evaluate(&mut self, mrn: Mrn, input: &Input) {
        let limits = self.limits_of(mrn);
        let patient = self.patients.entry(mrn).or_insert_with(|| Patient {
            rules: PatientRules::default(),
            heard: Instant::now(),
            stored: String::new(),
        });
        if !matches!(input, Input::Time { .. }) {
            patient.heard = Instant::now();
        }
        for change in patient.rules.take(input, &limits) {
            if self.is_evaluating {
                // Fails only at shutdown.
                let _ = self.tasks.send(Task { mrn, change });
            }
        }
    }

    /// Begins or ends to write.
    async fn lead(&mut self, has_lease: bool) {
        if has_lease == self.is_evaluating {
            return;
        }
        if !has_lease {
            tracing::info!("another process evaluates the alarms");
            self.is_evaluating = false;
        } else if let Err(error) = self.take_over().await {
            tracing::warn!(%error, "the alarms cannot be taken over yet");
        }
        metrics::gauge!("bedside_alarms_evaluating").set(f64::from(u8::from(self.is_evaluating)));
    }

    async fn take_over(&mut self) -> Result<(), StoreError> {
        self.load_limits().await?;
        let store = &self.shared.ports.store;
        let stored = store.open_alarms().await?;
        let ended = AlarmQuery { is_open: Some(false), ..AlarmQuery::default() };
        let ended = store
            .alarms(ended, PageRequest { after: None, limit: ENDED, include_errors: false })
            .await?
            .items;
        self.reconcile(&stored);
        self.is_evaluating = true;
        // Discharges and corrections that the predecessor has not noticed.
        (self.alarms_due, self.strips_due) = (false, true);
        tracing::info!(open = stored.len(), "this process evaluates the alarms");
        for (mrn, patient) in &self.patients {
            for (rule, onset) in patient.rules.raised() {
                // The predecessor has stored it, unless the condition returned after a latched alarm.
                let is_stored = self.open.get(*mrn, rule).is_some_and(|open| {
                    open.cleared_at.is_none_or(|cleared_at| cleared_at >= onset.raised_at)
                });
                let is_possible = rule != AlarmRule::NoData || self.shared.wards.of(*mrn).is_some();
                if !is_stored && is_possible {
                    let change = Change::Raised(rule, onset.clone());
                    let _ = self.tasks.send(Task { mrn: *mrn, change });
                }
            }
        }
        let now = Timestamp::now();
        let recent = |alarm: &&Alarm| alarm.ended_at.is_some_and(|at| now.millis_since(at) < ENDED_MS);
        for alarm in stored.iter().chain(ended.iter().filter(recent)) {
            self.shared.publisher.alarm(alarm).await;
        }
        Ok(())
    }

    /// Adopts stored alarms that the rules do not know.
    fn reconcile(&mut self, stored: &[Alarm]) {
        self.open.load(stored);
        for alarm in stored {
            if !matches!(alarm.state, AlarmState::Raised | AlarmState::Acknowledged) {
                continue;
            }
            let onset = Onset {
                onset_at: alarm.onset_at,
                raised_at: alarm.raised_at,
                value: alarm.worst,
                value_at: alarm.worst_at.unwrap_or(alarm.raised_at),
                limit: alarm.limit,
                text: alarm.text.clone(),
                ecg_id: alarm.ecg_id,
                stream: alarm.stream,
            };
            let patient = self.patients.entry(alarm.mrn).or_insert_with(|| Patient {
                rules: PatientRules::default(),
                heard: Instant::now(),
                stored: String::new(),
            });
            patient.rules.adopt(alarm.rule, onset);
        }
    }

    async fn load_limits(&mut self) -> Result<(), StoreError> {
        self.limits = AllLimits::new(self.shared.ports.store.limits().await?);
        self.limits_due = false;
        Ok(())
    }

    async fn refresh_limits(&mut self) {
        if let Err(error) = self.load_limits().await {
            tracing::warn!(%error, "limits cannot be read; the known ones apply");
        }
    }

    async fn tick(&mut self) {
        if self.limits_due {
            self.refresh_limits().await;
        }
        if self.alarms_due && self.is_evaluating {
            match self.shared.ports.store.open_alarms().await {
                Ok(stored) => {
                    self.reconcile(&stored);
                    self.alarms_due = false;
                }
                Err(error) => tracing::warn!(%error, "open alarms cannot be read"),
            }
        }
        if self.strips_due {
            match self.load_strips().await {
                Ok(()) => self.strips_due = false,
                Err(error) => tracing::warn!(%error, "patients cannot be read; strips are evaluated later"),
            }
        }
        self.take_corrections().await;
        let now = Timestamp::now();
        let input = Input::Time { now, since: self.since };
        let mrns: Vec<Mrn> = self.patients.keys().copied().collect();
        for mrn in mrns {
            self.evaluate(mrn, &input);
        }
        self.shared.publisher.retry().await;
        if self.is_evaluating {
            self.expire_pauses(now).await;
            self.save().await;
            self.count();
        }
        self.patients.retain(|_, patient| {
            !patient.rules.is_default() || !patient.stored.is_empty() || patient.heard.elapsed() < FORGET
        });
    }

    async fn load_strips(&mut self) -> Result<(), StoreError> {
        let mut page = PageRequest { after: None, limit: PATIENTS, include_errors: false };
        let mut stored = HashSet::new();
        loop {
            let found = self.shared.ports.patients.patients(None, page).await?;
            for patient in &found.items {
                stored.insert(patient.mrn);
                self.take_patient(patient);
            }
            page.after = found.next;
            if page.after.is_none() {
                break;
            }
        }
        let of_alarms = self.open.all();
        let known = self.patients.keys().copied().chain(of_alarms.iter().map(|alarm| alarm.mrn));
        self.corrected.extend(known.filter(|mrn| !stored.contains(mrn)));
        // An alarm of a record that was corrected.
        self.corrected.extend(of_alarms.iter().filter(|alarm| alarm.ecg_id.is_some()).map(|alarm| alarm.mrn));
        Ok(())
    }

    /// Ends the alarms of patients that do not exist any more, and those of records that were corrected.
    async fn take_corrections(&mut self) {
        for mrn in std::mem::take(&mut self.corrected) {
            if let Err(error) = self.take_correction(mrn).await {
                tracing::warn!(%error, "a corrected patient cannot be read; retrying");
                self.corrected.insert(mrn);
            }
        }
    }

    async fn take_correction(&mut self, mrn: Mrn) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let reason = match shared.ports.corrections.fate(mrn).await? {
            Some(Fate::Merged { into, .. }) => {
                self.gone.insert(mrn, Some(into));
                AlarmEndReason::Merged
            }
            Some(Fate::Erased { .. }) => {
                self.gone.insert(mrn, None);
                AlarmEndReason::Erased
            }
            None => {
                // Also after a merge was undone.
                self.gone.remove(&mrn);
                return self.withdraw_corrected(mrn).await;
            }
        };
        shared.wards.forget(mrn);
        if let Some(patient) = self.patients.remove(&mrn)
            && self.is_evaluating
            && !patient.stored.is_empty()
        {
            let state = RuleState { mrn, state: String::new() };
            shared.ports.store.put_rule_states(vec![state]).await?;
        }
        for alarm in self.open.all().into_iter().filter(|alarm| alarm.mrn == mrn) {
            self.withdraw(&alarm, reason);
        }
        Ok(())
    }

    /// Ends the alarms of a patient whose record was moved or marked as entered in error.
    async fn withdraw_corrected(&mut self, mrn: Mrn) -> Result<(), StoreError> {
        for alarm in self.open.all().into_iter().filter(|alarm| alarm.mrn == mrn) {
            let Some(id) = alarm.ecg_id else { continue };
            let patients = &self.shared.ports.patients;
            let is_wrong = match patients.ecg(id).await? {
                Some(ecg) => ecg.mrn != mrn || ecg.entered_in_error.is_some(),
                // A reported rate.
                None => patients.patient(mrn).await?.is_none(),
            };
            if is_wrong {
                if let Some(patient) = self.patients.get_mut(&mrn) {
                    patient.rules.withdraw(alarm.rule);
                }
                self.withdraw(&alarm, AlarmEndReason::RecordCorrected);
            }
        }
        Ok(())
    }

    fn withdraw(&self, alarm: &Alarm, reason: AlarmEndReason) {
        if self.is_evaluating {
            let change = Change::Withdrawn(alarm.rule, Timestamp::now(), reason);
            let _ = self.tasks.send(Task { mrn: alarm.mrn, change });
        }
    }

    async fn expire_pauses(&self, now: Timestamp) {
        for alarm in self.open.all() {
            let Some(next) = machine::expire_pause(&alarm, now) else { continue };
            match self.shared.ports.store.put_alarm(&next).await {
                Ok(store::alarms::AlarmWrite::Stored) => {
                    self.open.note(&next);
                    self.shared.publisher.alarm(&next).await;
                }
                Ok(store::alarms::AlarmWrite::Conflict(stored)) => {
                    self.open.note(&stored);
                }
                // Only a new alarm.
                Ok(store::alarms::AlarmWrite::Erased) => {}
                Err(error) => {
                    tracing::warn!(%error, "the end of an audio pause cannot be stored; retrying");
                    return;
                }
            }
        }
    }

    /// Stores the states that have changed.
    async fn save(&mut self) {
        if !self.is_evaluating {
            return;
        }
        let mut states = Vec::new();
        for (mrn, patient) in &self.patients {
            let state = if patient.rules.is_default() {
                String::new()
            } else {
                serde_json::to_string(&patient.rules).unwrap_or_default()
            };
            if state != patient.stored {
                states.push(RuleState { mrn: *mrn, state });
            }
        }
        if states.is_empty() {
            return;
        }
        match self.shared.ports.store.put_rule_states(states.clone()).await {
            Ok(()) => {
                for RuleState { mrn, state } in states {
                    if let Some(patient) = self.patients.get_mut(&mrn) {
                        patient.stored = state;
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "the state of the rules cannot be stored; retrying"),
        }
    }

    fn count(&self) {
        let open = self.open.all();
        for priority in AlarmPriority::ALL {
            let count = open.iter().filter(|alarm| alarm.priority == priority).count();
            metrics::gauge!("bedside_alarms_open", "priority" => priority.name()).set(count as f64);
        }
    }
}

/// The latest analysed strip or reported rate of a patient.
fn strip_of(patient: &PatientSummary) -> Option<StripResult> {
    let reported = patient
        .latest_heart_rate
        .as_ref()
        .filter(|rate| rate.source == HeartRateSource::Reported && !rate.clock_wrong);
    let is_analysed = |status| matches!(status, EcgStatus::Analyzed | EcgStatus::Failed);
    let ecg = patient.latest_ecg.as_ref().filter(|ecg| is_analysed(ecg.status) && !ecg.clock_wrong);
    match (ecg, reported) {
        (Some(ecg), reported) if reported.is_none_or(|rate| rate.at <= ecg.at) => Some(StripResult {
            id: ecg.id,
            at: ecg.at,
            rate: ecg.heart_rate,
            has_signal: true,
            quality: ecg.quality,
        }),
        (_, Some(rate)) => Some(StripResult {
            id: rate.id,
            at: rate.at,
            rate: Some(rate.bpm),
            has_signal: false,
            quality: None,
        }),
        _ => None,
    }
}

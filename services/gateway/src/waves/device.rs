//! The WebSocket of a device: `/api/v1/patients/{mrn}/waveforms`.
//!
//! The first message opens or resumes a stream. Then each message is checked and appended to the log of the broker; up to a
//! window of messages are appended at the same time. Acknowledgements are cumulative and follow the order of the
//! sequence numbers.
//!
//! Invariants: the log contains the messages of a stream in the order of their sequence. After a failed append nothing is
//! acknowledged and the connection is closed, so a device resumes with the message that failed.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use bus::{EnqueueError, WaveKind, WaveMessage};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use http_server::{Connection, SchedulingGroup, run_scheduled};
use proto_json::waveform::{
    Channel, Device, DeviceMessage, DeviceNumeric, DeviceReply, Frame, FrameError, FrameLimits,
    MAX_FRAME_BYTES, Numeric, Numerics, StreamDescription, StreamId, check_channels, close,
};
use proto_json::{Mrn, Timestamp};
use tokio::time::Instant;

use crate::admission::{Permit, Reservation};
use crate::app::App;
use crate::auth::tokens::{Client, Permission};
use crate::auth::wards;
use crate::events::{Access, revoked};
use crate::http::params::PathMrn;
use crate::waves::clock::{DeviceClock, Jump};
use crate::waves::pace::Pace;
use crate::waves::registry::{Claim, NotClaimed, Progress, RecentFrame};
use crate::waves::socket::{self, End, Incoming, Socket};
use crate::waves::{identity, now_us};

/// Interval at which the description is repeated.
const DESCRIBE: Duration = Duration::from_secs(10);
/// Time that appended messages have to become durable before the connection is closed.
const DRAIN: Duration = Duration::from_secs(3);
/// Shortest time between two notices with the same code.
const NOTICE: Duration = Duration::from_secs(10);
/// Largest number of messages that are sent and not yet acknowledged.
const MAX_WINDOW: usize = 32;
/// Smallest window, for streams with very large frames.
const MIN_WINDOW: usize = 4;
/// Bytes of all frames in a window, if it is larger than the smallest one.
const WINDOW_BYTES: usize = 2 << 20;
/// Longest gap in the indices of a channel, in microseconds. Beyond it, a device opens a new stream.
const MAX_GAP_US: i64 = 24 * 3_600 * 1_000_000;
/// Largest time from index 0 to the end of a frame, in microseconds. Server times are added to it.
const MAX_START_US: i64 = i64::MAX / 4;
/// How far the segments of a frame may be apart, in microseconds.
const MAX_SPREAD_US: i64 = 1_000_000;

/// Handler of upgrade requests.
pub(crate) async fn open(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Extension(connection): Extension<Connection>,
    Extension(group): Extension<SchedulingGroup>,
    PathMrn(mrn): PathMrn,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let admitted = socket::upgrade(upgrade, MAX_FRAME_BYTES)
        .and_then(|upgrade| Ok((upgrade, app.admission.device_stream(&client)?)));
    let (upgrade, permit) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => return error.into_response(),
    };
    let tracked = app.waves.sockets.token();
    upgrade.on_upgrade(async move |socket| {
        let open = OpenDevice::new(permit, connection);
        run_scheduled(&group, serve(app, client, mrn, Socket::new(socket))).await;
        drop((open, tracked));
    })
}

/// Counts an open stream; holds its permit and the slot of its connection.
struct OpenDevice(#[expect(dead_code, reason = "held, not read")] (Permit, Connection));

impl OpenDevice {
    fn new(permit: Permit, connection: Connection) -> Self {
        metrics::gauge!("bedside_gateway_device_streams").increment(1);
        OpenDevice((permit, connection))
    }
}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        metrics::gauge!("bedside_gateway_device_streams").decrement(1);
    }
}

async fn serve(app: Arc<App>, client: Client, mrn: Mrn, mut socket: Socket) {
    let lost = {
        let (app, client) = (app.clone(), client.clone());
        async move { wards::lost_access(&app, &client, Permission::Stream, mrn).await }.boxed()
    };
    let mut access = app.tokens.clone().map(|tokens| (tokens, client));
    let opening = tokio::select! {
        biased;
        () = app.shutdown.begun() => Err(close::GOING_AWAY.into()),
        session = Session::open(&app, mrn, &mut socket) => session,
    };
    let end = match opening {
        Ok(mut session) => {
            let end = session.run(&mut socket, &mut access, lost).await;
            session.drain(&mut socket).await;
            session.keep_progress(&end);
            end
        }
        Err(end) => end,
    };
    socket.finish(end, "device").await;
}

/// An append that is under way: its sequence number and where the stream continues after it. `None` for descriptions.
type Append = BoxFuture<'static, (Option<Appended>, Result<(), EnqueueError>)>;

struct Appended {
    sequence: u64,
    ends: Vec<u64>,
}

/// The stream of a device.
struct Session {
    app: Arc<App>,
    claim: Claim,
    description: Arc<StreamDescription>,
    limits: FrameLimits,
    window: usize,
    clock: DeviceClock,
    progress: Progress,
    /// Of each channel: the index after the last sample that was received.
    ends: Vec<u64>,
    appends: FuturesOrdered<Append>,
    /// Messages in `appends` that will be acknowledged.
    in_flight: usize,
    /// The last sequence number that was acknowledged to the device, plus one.
    acknowledged: u64,
    pace: Pace,
    noticed_at: Option<Instant>,
    /// The device has ended the stream.
    ended: bool,
    _memory: Reservation,
}

impl Session {
    /// Reads the first message, and makes the stream ready for frames.
    async fn open(app: &Arc<App>, mrn: Mrn, socket: &mut Socket) -> Result<Session, End> {
        let idle = app.config.device_idle;
        let deadline = Instant::now() + idle;
        let text = loop {
            let seconds = idle.as_secs_f64();
            let silent = || {
                End::because(close::SILENT, format!("the message `open` did not arrive within {seconds} s"))
            };
            match tokio::time::timeout_at(deadline, socket.receive()).await.map_err(|_| silent())?? {
                Incoming::Text(text) => break text,
                Incoming::Binary(_) => {
                    return Err(End::malformed("the first message must be `open`, as text"));
                }
                Incoming::Control => {}
            }
        };
        let DeviceMessage::Open { resume, device, channels, device_time_us } = parse(&text)? else {
            return Err(End::malformed("the first message must be `open`"));
        };
        let received_us = now_us();
        device.check().map_err(End::malformed)?;
        check_channels(&channels).map_err(End::malformed)?;
        if let Some(stream) = resume
            && !identity::is_of(stream, mrn, &device, &channels)
        {
            let reason = "the stream to resume has another patient, device or set of channels";
            return Err(End::because(close::UNKNOWN, reason));
        }
        let limits = FrameLimits::of(&channels);
        let window = (WINDOW_BYTES / limits.max_bytes()).clamp(MIN_WINDOW, MAX_WINDOW);
        let no_memory =
            || End::because(close::UNAVAILABLE, "the server has as many streams as it has memory for");
        let memory =
            app.admission.wave_memory.try_reserve(window * limits.max_bytes()).ok_or_else(no_memory)?;
        let labels: Vec<String> = channels.iter().map(|channel| channel.label.clone()).collect();
        let claim = app.waves.registry.claim(mrn, &device, &labels).await.map_err(conflict)?;
        let progress = match resume {
            Some(stream) => find_progress(app, mrn, stream, &channels).await?,
            None => Progress::at(0, channels.len()),
        };
        let stream = resume.unwrap_or_else(|| identity::new_stream(mrn, &device, &channels));
        let clock = DeviceClock::new(device_time_us, received_us, progress.clock);
        let opened_at = identity::opened_at(stream);
        let clock_now = Some(clock.mapping());
        let description = StreamDescription { stream, mrn, device, channels, opened_at, clock: clock_now };
        let mut session = Session {
            app: app.clone(),
            claim,
            description: Arc::new(description),
            limits,
            window,
            clock,
            ends: progress.ends.clone(),
            acknowledged: progress.durable,
            progress: Progress { submitted: progress.durable, ..progress },
            appends: FuturesOrdered::new(),
            in_flight: 0,
            pace: Pace::new(),
            noticed_at: None,
            ended: false,
            _memory: memory,
        };
        session.append_description().await;
        let (_, durable) = session.appends.next().await.unwrap_or((None, Ok(())));
        durable.map_err(|error| unavailable(&error))?;
        session.claim.open(session.description.clone());
        app.waves.hub.announce(session.description.clone());
        let opened = DeviceReply::Opened {
            stream,
            next_sequence: session.progress.durable,
            window: window as u32,
            max_frame_bytes: session.limits.max_bytes() as u32,
            server_time: Timestamp::now(),
        };
        socket.send_json(&opened).await?;
        Ok(session)
    }

    /// Receives messages until the stream or the connection ends.
    async fn run(&mut self, socket: &mut Socket, access: &mut Access, lost: BoxFuture<'_, ()>) -> End {
        match self.receive_all(socket, access, lost).await {
            Ok(end) | Err(end) => end,
        }
    }

    async fn receive_all(
        &mut self,
        socket: &mut Socket,
        access: &mut Access,
        mut lost: BoxFuture<'_, ()>,
    ) -> Result<End, End> {
        let app = self.app.clone();
        let idle = app.config.device_idle;
        let mut describe = tokio::time::interval_at(Instant::now() + DESCRIBE, DESCRIBE);
        let mut silent_at = Instant::now() + idle;
        loop {
            if self.ended && self.appends.is_empty() {
                return Ok(close::NORMAL.into());
            }
            let paused_until = self.pace.wait_until();
            tokio::select! {
                biased;
                () = app.shutdown.begun() => return Ok(close::GOING_AWAY.into()),
                () = revoked(access) => return Ok(close::UNAUTHORIZED.into()),
                () = &mut lost => {
                    let reason = "the patient is not in the bed or ward of this token any more";
                    return Ok(End::because(close::UNAUTHORIZED, reason));
                }
                () = self.claim.replaced() => {
                    return Ok(End::because(close::CONFLICT, "the same device has opened another connection"));
                }
                Some(first) = self.appends.next() => {
                    let before = self.in_flight;
                    self.settle(first)?;
                    while let Some(Some(more)) = self.appends.next().now_or_never() {
                        self.settle(more)?;
                    }
                    if self.in_flight < before {
                        // A device that waits for the acknowledgement is not silent.
                        silent_at = Instant::now() + idle;
                    }
                    self.acknowledge(socket).await?;
                }
                _ = describe.tick(), if !self.ended => self.append_description().await,
                () = tokio::time::sleep_until(silent_at), if !self.ended && self.in_flight == 0 => {
                    let reason = format!("no frame or numerics within {} s", idle.as_secs_f64());
                    return Ok(End::because(close::SILENT, reason));
                }
                () = tokio::time::sleep_until(paused_until.unwrap_or(silent_at)), if paused_until.is_some() => {
                    silent_at = Instant::now() + idle;
                }
                message = socket.receive(), if paused_until.is_none() && !self.ended => match message? {
                    Incoming::Binary(bytes) => {
                        silent_at = Instant::now() + idle;
                        self.frame(bytes, socket).await?;
                    }
                    Incoming::Text(text) => {
                        silent_at = Instant::now() + idle;
                        self.message(&text).await?;
                    }
                    Incoming::Control => self.pace.count(Duration::ZERO),
                },
            }
        }
    }

    /// Checks and appends a frame.
    async fn frame(&mut self, bytes: Bytes, socket: &mut Socket) -> Result<(), End> {
        self.check_window()?;
        let frame = Frame::decode(&bytes, &self.limits).map_err(|error| match error {
            FrameError::TooLarge { .. } => End::because(close::TOO_LARGE, error),
            error => End::malformed(error),
        })?;
        self.check_sequence(frame.sequence)?;
        let (start_us, length_us) = self.check_indices(&frame, &self.description.channels)?;
        let (time_us, jump) = self.clock.time_of_frame(frame.device_time_us, start_us, length_us, now_us());
        if let Some(jump) = jump {
            self.notice(jump, socket).await?;
        }
        for segment in &frame.segments {
            self.ends[usize::from(segment.channel)] = segment.end();
        }
        metrics::counter!("bedside_gateway_wave_frames_total").increment(1);
        metrics::counter!("bedside_gateway_wave_bytes_total").increment(bytes.len() as u64);
        self.pace.count(Duration::from_micros(u64::try_from(length_us).unwrap_or(0)));
        self.claim.keep(RecentFrame { sequence: frame.sequence, time_us, bytes: bytes.clone() });
        self.append(WaveKind::Frame, time_us, bytes).await;
        Ok(())
    }

    /// Returns the time from index 0 to the first sample of a frame, and its length, in microseconds.
    fn check_indices(&self, frame: &Frame, channels: &[Channel]) -> Result<(i64, i64), End> {
        let start = frame.start_us(channels);
        let mut length = 0;
        for segment in &frame.segments {
            // Decoding has checked that the channel exists.
            let Some(channel) = channels.get(usize::from(segment.channel)) else { continue };
            let end = self.ends[usize::from(segment.channel)];
            let (label, first) = (&channel.label, segment.first);
            if first < end {
                let reason =
                    format!("the sample index of {label} decreases: {first} after {}", end.saturating_sub(1));
                return Err(End::malformed(reason));
            }
            let at = |index| channel.rate.micros(index);
            // Later indices have no time that can be computed.
            if at(segment.end()) > MAX_START_US {
                return Err(End::malformed(format!("the sample index of {label} is too large: {first}")));
            }
            if end > 0 && at(first) - at(end) > MAX_GAP_US {
                let reason = format!("the sample index of {label} skips more than 24 h; open a new stream");
                return Err(End::malformed(reason));
            }
            if at(first) - start > MAX_SPREAD_US.saturating_add(at(1)) {
                let reason = format!(
                    "the samples of {label} are {:.1} s later than others of the frame; skip the indices of lost samples",
                    (at(first) - start) as f64 / 1e6
                );
                return Err(End::malformed(reason));
            }
            length = length.max(at(segment.end()) - start);
        }
        Ok((start, length))
    }

    /// Processes a text message.
    async fn message(&mut self, text: &str) -> Result<(), End> {
        match parse(text)? {
            DeviceMessage::Open { .. } => Err(End::malformed("the stream is open already")),
            DeviceMessage::End {} => {
                self.append(WaveKind::End, now_us(), Bytes::new()).await;
                self.ended = true;
                Ok(())
            }
            DeviceMessage::Numerics { sequence, values } => {
                self.check_window()?;
                self.check_sequence(sequence)?;
                DeviceNumeric::check(&values).map_err(End::malformed)?;
                let now = now_us();
                let numeric = |of_device: DeviceNumeric| {
                    let time_us = self.clock.time_of_event(of_device.device_time_us, now);
                    let time = Timestamp::from_millis(time_us / 1_000).unwrap_or_else(|_| Timestamp::now());
                    Numeric { code: of_device.code, value: of_device.value, unit: of_device.unit, time }
                };
                let values = values.into_iter().map(numeric).collect();
                let numerics = Numerics { sequence, values, clock: Some(self.clock.mapping()) };
                let json = serde_json::to_vec(&numerics).map_err(End::malformed)?;
                self.pace.count(Duration::ZERO);
                self.append(WaveKind::Numerics, now, json.into()).await;
                Ok(())
            }
        }
    }

    fn check_window(&self) -> Result<(), End> {
        if self.in_flight < self.window {
            return Ok(());
        }
        let reason = format!(
            "{} messages are not acknowledged, and the window is {}",
            self.in_flight + 1,
            self.window
        );
        Err(End::because(close::WINDOW, reason))
    }

    fn check_sequence(&self, sequence: u64) -> Result<(), End> {
        let expected = self.progress.submitted;
        match sequence.cmp(&expected) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Less => Err(End::malformed(format!(
                "sequence number {sequence} was received already; {expected} is next"
            ))),
            std::cmp::Ordering::Greater => Err(End::malformed(format!(
                "sequence number {sequence} is not contiguous; {expected} is next"
            ))),
        }
    }

    /// Appends a message with the next sequence number.
    async fn append(&mut self, kind: WaveKind, time_us: i64, payload: Bytes) {
        let sequence = self.progress.submitted;
        let mut appended = None;
        if kind != WaveKind::End {
            self.progress.submitted += 1;
            self.in_flight += 1;
            appended = Some(Appended { sequence, ends: self.ends.clone() });
        }
        self.start_append(appended, kind, sequence, time_us, payload).await;
    }

    /// Appends the description. It is not acknowledged and not contained in the window.
    async fn append_description(&mut self) {
        let description =
            StreamDescription { clock: Some(self.clock.mapping()), ..(*self.description).clone() };
        let Ok(json) = serde_json::to_vec(&description) else { return };
        self.start_append(None, WaveKind::Open, self.progress.submitted, now_us(), json.into()).await;
    }

    async fn start_append(
        &mut self,
        appended: Option<Appended>,
        kind: WaveKind,
        sequence: u64,
        time_us: i64,
        payload: Bytes,
    ) {
        let StreamDescription { mrn, stream, .. } = *self.description;
        let message = WaveMessage { mrn, stream, kind, sequence, time_us, payload };
        let log = self.app.waves.log.clone();
        let mut append = async move { log.append(message).await }.boxed();
        // The log keeps messages in the order in which the calls are first polled.
        let first = futures::poll!(&mut append);
        self.appends.push_back(
            async move {
                match first {
                    Poll::Ready(result) => (appended, result),
                    Poll::Pending => (appended, append.await),
                }
            }
            .boxed(),
        );
    }

    /// Records the result of the oldest append.
    fn settle(
        &mut self,
        (appended, result): (Option<Appended>, Result<(), EnqueueError>),
    ) -> Result<(), End> {
        if let Some(Appended { sequence, ends }) = appended {
            self.in_flight -= 1;
            if result.is_ok() && self.progress.durable == sequence {
                self.progress.durable = sequence + 1;
                self.progress.ends = ends;
            }
        }
        result.map_err(|error| unavailable(&error))
    }

    async fn acknowledge(&mut self, socket: &mut Socket) -> Result<(), End> {
        if self.acknowledged == self.progress.durable {
            return Ok(());
        }
        self.acknowledged = self.progress.durable;
        socket.send_json(&DeviceReply::Ack { sequence: self.acknowledged - 1 }).await
    }

    async fn notice(&mut self, jump: Jump, socket: &mut Socket) -> Result<(), End> {
        metrics::counter!("bedside_gateway_device_clock_jumps_total").increment(1);
        if self.noticed_at.is_some_and(|at| at.elapsed() < NOTICE) {
            return Ok(());
        }
        self.noticed_at = Some(Instant::now());
        let seconds = |micros: i64| micros as f64 / 1e6;
        let message = match jump {
            Jump::Samples(by) => {
                format!(
                    "The clock of the device is {:.3} s ahead of the sample count; the samples have a new time.",
                    seconds(by)
                )
            }
            Jump::Clock(by) => {
                format!(
                    "The clock of the device has changed by {:.3} s; the samples continue without a gap.",
                    seconds(by)
                )
            }
        };
        socket.send_json(&DeviceReply::Notice { code: "clock_jump".to_owned(), message }).await
    }

    /// Waits for the appends that are under way, and acknowledges them if the device is still there.
    async fn drain(&mut self, socket: &mut Socket) {
        let all = async {
            while let Some(result) = self.appends.next().await {
                // After a failure, `settle` keeps `durable` at the first message that is not durable.
                let _ = self.settle(result);
            }
        };
        if tokio::time::timeout(DRAIN, all).await.is_err() {
            tracing::warn!("messages of a stream did not become durable before its connection ended");
        }
        let _ = self.acknowledge(socket).await;
    }

    fn keep_progress(&self, end: &End) {
        let is_over = self.ended && matches!(end, End::Close { code, .. } if *code == close::NORMAL);
        let progress = Progress { clock: Some(self.clock.mapping()), ..self.progress.clone() };
        self.app.waves.registry.keep(self.description.stream, (!is_over).then_some(progress));
    }
}

fn parse(text: &str) -> Result<DeviceMessage, End> {
    serde_json::from_str(text).map_err(End::malformed)
}

fn conflict(error: NotClaimed) -> End {
    match error {
        NotClaimed::Conflict { label, device: Device { name, serial } } => End::because(
            close::CONFLICT,
            format!("{name} {serial} sends the channel {label} of this patient"),
        ),
        NotClaimed::Busy => {
            End::because(close::UNAVAILABLE, "an earlier connection of this device has not ended; try again")
        }
    }
}

fn unavailable(error: &EnqueueError) -> End {
    tracing::warn!(%error, "a message of a waveform stream was not stored");
    metrics::counter!("bedside_gateway_wave_append_failures_total").increment(1);
    close::UNAVAILABLE.into()
}

/// Returns where a stream continues. The broker knows it after a restart of the gateway, and if the device was connected to
/// another gateway. Otherwise this process knows it better: an earlier message may not be durable although a later one is.
async fn find_progress(app: &App, mrn: Mrn, stream: StreamId, channels: &[Channel]) -> Result<Progress, End> {
    let last = app.waves.log.last_wave(mrn, stream).await.map_err(|error| unavailable(&error.into()))?;
    let known = app.waves.registry.progress(stream);
    let Some(last) = last else {
        return known.ok_or_else(|| close::UNKNOWN.into());
    };
    let next = match last.kind {
        WaveKind::End => return Err(close::UNKNOWN.into()),
        WaveKind::Open => last.sequence,
        WaveKind::Frame | WaveKind::Numerics => last.sequence + 1,
    };
    if let Some(known) = known.filter(|known| known.submitted >= next) {
        return Ok(known);
    }
    let mut progress = Progress::at(next, channels.len());
    match last.kind {
        WaveKind::Frame => {
            if let Ok(frame) = Frame::decode(&last.payload, &FrameLimits::of(channels)) {
                for segment in &frame.segments {
                    progress.ends[usize::from(segment.channel)] = segment.end();
                }
                let start_us = frame.start_us(channels);
                progress.clock =
                    Some(DeviceClock::mapping_of_frame(frame.device_time_us, start_us, last.time_us));
            }
        }
        WaveKind::Numerics => {
            progress.clock =
                serde_json::from_slice::<Numerics>(&last.payload).ok().and_then(|numerics| numerics.clock);
        }
        WaveKind::Open | WaveKind::End => {
            progress.clock =
                serde_json::from_slice::<StreamDescription>(&last.payload).ok().and_then(|open| open.clock);
        }
    }
    Ok(progress)
}

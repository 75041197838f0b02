//! Generators of signals that are not ECGs: noise, speech and generated waves, with random parameters for
//! each strip.

use std::f64::consts::{PI, TAU};

use ecg::Strip;

/// Random numbers that are the same on all platforms (xorshift64* of Vigna, seeded by SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut word = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Random((word ^ (word >> 31)).max(1))
    }

    /// Uniform in [0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    pub(crate) fn one_of(&mut self, values: &[f64]) -> f64 {
        values[(self.uniform() * values.len() as f64) as usize]
    }

    /// Normal with mean 0 and standard deviation 1 (Box and Muller 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (TAU * self.uniform()).cos()
    }
}

/// Length and rate of a signal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Length {
    pub(crate) rate: f64,
    pub(crate) count: usize,
}

impl Length {
    fn of(self, mut sample: impl FnMut(f64) -> f64) -> Vec<f64> {
        (0..self.count).map(|at| sample(at as f64 / self.rate)).collect()
    }
}

/// Generates the samples of a strip.
pub(crate) type Kind = fn(&mut Random, Length) -> Vec<f64>;

/// The kinds by name. The prefix of a name is its group.
pub(crate) const KINDS: [(&str, Kind); 20] = [
    ("noise: white", white),
    ("noise: pink", pink),
    ("noise: brown", brown),
    ("noise: in a band", band),
    ("noise: in regular bursts", regular_bursts),
    ("speech: one resonance, louder and softer", resonance),
    ("speech: two resonances, louder and softer", two_resonances),
    ("speech: syllables and pauses", syllables),
    ("speech: voice through a vocal tract", voice),
    ("speech: voice, aliased", aliased_voice),
    ("speech: loudness of a voice", loudness),
    ("wave: sine", sine),
    ("wave: triangle", triangle),
    ("wave: ramp", ramp),
    ("wave: square", square),
    ("wave: short pulses", pulses),
    ("wave: steps at random", telegraph),
    ("mains: hum", hum),
    ("flat: zeros", zeros),
    ("flat: touched", touched),
];

const RATES_HZ: [f64; 6] = [100.0, 125.0, 250.0, 360.0, 500.0, 1000.0];
const LENGTHS_S: [f64; 3] = [5.0, 10.0, 28.0];

/// The strip of a kind with seed `seed`: 5, 10 or 28 s at 100 to 1000 Hz.
pub(crate) fn strip(kind: Kind, seed: u64) -> Strip {
    let mut random = Random::new(seed);
    let (rate, seconds) = (random.one_of(&RATES_HZ), random.one_of(&LENGTHS_S));
    let samples = kind(&mut random, Length { rate, count: (seconds * rate) as usize });
    Strip::from_samples(rate, samples.into_iter().map(|value| value as f32).collect())
}

fn white(random: &mut Random, length: Length) -> Vec<f64> {
    length.of(|_| random.normal())
}

/// One random number per octave, renewed half as often as that of the octave above (Voss 1978).
fn pink(random: &mut Random, length: Length) -> Vec<f64> {
    let mut octaves = [0.0; 12];
    let sample = |at: usize| {
        for (octave, value) in octaves.iter_mut().enumerate() {
            if at.is_multiple_of(1 << octave) {
                *value = random.normal();
            }
        }
        octaves.iter().sum()
    };
    (0..length.count).map(sample).collect()
}

fn brown(random: &mut Random, length: Length) -> Vec<f64> {
    // Some strips have a leak, so that they stay near zero.
    let keep = random.one_of(&[1.0, 0.99, 0.95]);
    let mut walk = 0.0;
    length.of(|_| {
        walk = keep * walk + random.normal();
        walk
    })
}

/// Band-limited noise of constant amplitude.
fn band(random: &mut Random, length: Length) -> Vec<f64> {
    let mut filter = Resonance::draw(random, length.rate, 2.0, 35.0);
    length.of(|_| filter.pass(random.normal()))
}

fn regular_bursts(random: &mut Random, length: Length) -> Vec<f64> {
    let (hertz, power) = (random.between(0.6, 3.0), random.one_of(&[1.0, 2.0, 4.0]));
    length.of(|time_s| (TAU * hertz * time_s).sin().max(0.0).powf(power) * random.normal())
}

/// A two-pole resonator.
struct Resonance {
    keep: f64,
    turn: f64,
    last: f64,
    before: f64,
}

impl Resonance {
    fn new(rate: f64, center_hz: f64, width_hz: f64) -> Self {
        let keep = (-PI * width_hz / rate).exp();
        Resonance { keep, turn: 2.0 * keep * (TAU * center_hz / rate).cos(), last: 0.0, before: 0.0 }
    }

    fn draw(random: &mut Random, rate: f64, lowest_hz: f64, highest_hz: f64) -> Self {
        Self::new(rate, random.between(lowest_hz, highest_hz), random.between(1.5, 12.0))
    }

    fn pass(&mut self, value: f64) -> f64 {
        let out = self.turn * self.last - self.keep * self.keep * self.before + value;
        (self.last, self.before) = (out, self.last);
        out
    }
}

/// The amplitude of speech: a new target for each syllable, approached exponentially.
struct Loudness {
    hold: usize,
    glide: f64,
    aim: f64,
    now: f64,
    at: usize,
}

impl Loudness {
    fn draw(random: &mut Random, rate: f64) -> Self {
        let hold = (rate / random.between(1.0, 5.0)) as usize;
        Loudness { hold, glide: random.between(5.0, 25.0) / rate, aim: 0.0, now: 0.0, at: 0 }
    }

    fn next(&mut self, random: &mut Random) -> f64 {
        if self.at.is_multiple_of(self.hold) {
            self.aim = random.uniform().powi(2);
        }
        self.at += 1;
        self.now += (self.aim - self.now) * self.glide;
        self.now
    }
}

fn resonance(random: &mut Random, length: Length) -> Vec<f64> {
    let mut filter = Resonance::draw(random, length.rate, 4.0, 20.0);
    let mut loudness = Loudness::draw(random, length.rate);
    length.of(|_| loudness.next(random) * filter.pass(random.normal()))
}

fn two_resonances(random: &mut Random, length: Length) -> Vec<f64> {
    let mut low = Resonance::draw(random, length.rate, 3.0, 10.0);
    let mut high = Resonance::draw(random, length.rate, 10.0, 30.0);
    let mut loudness = [(); 2].map(|()| Loudness::draw(random, length.rate));
    length.of(|_| {
        let low = loudness[0].next(random) * low.pass(random.normal());
        low + loudness[1].next(random) * high.pass(random.normal())
    })
}

/// Bursts of 0.1 to 0.3 s separated by pauses, with a little noise.
fn syllables(random: &mut Random, length: Length) -> Vec<f64> {
    let mut filter = Resonance::draw(random, length.rate, 4.0, 25.0);
    let noise = random.one_of(&[0.0, 0.02, 0.1]);
    let pause_s = random.between(0.1, 0.6);
    let (mut start_s, mut end_s, mut strength) = (0.0, 0.0, 0.0);
    length.of(|time_s| {
        if time_s >= end_s {
            start_s = time_s + pause_s * random.between(0.3, 1.7);
            end_s = start_s + random.between(0.1, 0.3);
            strength = random.between(0.5, 1.0);
        }
        let inside = ((time_s - start_s) / (end_s - start_s)).max(0.0);
        strength * (PI * inside).sin() * filter.pass(random.normal()) + noise * random.normal()
    })
}

/// Sampling rate of voices, as used by telephones.
const VOICE_HZ: f64 = 8000.0;

/// A voice at [`VOICE_HZ`]: glottal pulses through two formants with the amplitude of syllables.
fn spoken(random: &mut Random, seconds: f64) -> Vec<f64> {
    let mut formants = [(300.0, 900.0), (900.0, 2500.0)]
        .map(|(low, high)| Resonance::new(VOICE_HZ, random.between(low, high), random.between(60.0, 150.0)));
    let mut loudness = Loudness::draw(random, VOICE_HZ);
    let pitch_hz = random.between(80.0, 240.0);
    let mut phase = 0.0;
    (0..(seconds * VOICE_HZ).ceil() as usize + 1)
        .map(|_| {
            phase += pitch_hz * (1.0 + 0.02 * random.normal()) / VOICE_HZ;
            let pulse = if phase >= 1.0 { 1.0 } else { 0.0 };
            phase -= pulse;
            let breath = 0.02 * random.normal();
            let voiced = formants.iter_mut().map(|formant| formant.pass(pulse + breath)).sum::<f64>();
            loudness.next(random) * voiced
        })
        .collect()
}

/// A voice after the low-pass filter of a recorder.
fn voice(random: &mut Random, length: Length) -> Vec<f64> {
    let fast = spoken(random, length.count as f64 / length.rate);
    let step = VOICE_HZ / length.rate;
    let mean = |at: usize| {
        let piece = &fast[(at as f64 * step) as usize..((at + 1) as f64 * step) as usize];
        piece.iter().sum::<f64>() / piece.len() as f64
    };
    (0..length.count).map(mean).collect()
}

/// A voice sampled without a low-pass filter.
fn aliased_voice(random: &mut Random, length: Length) -> Vec<f64> {
    let fast = spoken(random, length.count as f64 / length.rate);
    (0..length.count).map(|at| fast[(at as f64 * VOICE_HZ / length.rate) as usize]).collect()
}

/// A rectified and smoothed voice.
fn loudness(random: &mut Random, length: Length) -> Vec<f64> {
    let smoothing_s = random.between(0.01, 0.06);
    let mut now = 0.0;
    let voice = aliased_voice(random, length);
    let follow = voice.into_iter().map(|value| {
        now += (value.abs() - now) / (smoothing_s * length.rate).max(1.0);
        now
    });
    follow.collect()
}

/// A periodic wave with random frequency and noise.
fn wave(random: &mut Random, length: Length, shape: impl Fn(f64) -> f64) -> Vec<f64> {
    let (hertz, noise) = (random.between(0.4, 4.0), random.one_of(&[0.0, 0.01, 0.05, 0.2]));
    length.of(|time_s| shape((hertz * time_s) % 1.0) + noise * random.normal())
}

fn sine(random: &mut Random, length: Length) -> Vec<f64> {
    wave(random, length, |phase| (TAU * phase).sin())
}

fn triangle(random: &mut Random, length: Length) -> Vec<f64> {
    wave(random, length, |phase| (2.0 * phase - 1.0).abs())
}

fn ramp(random: &mut Random, length: Length) -> Vec<f64> {
    wave(random, length, |phase| phase)
}

fn square(random: &mut Random, length: Length) -> Vec<f64> {
    let duty = random.between(0.3, 0.7);
    wave(random, length, |phase| f64::from(phase < duty))
}

fn pulses(random: &mut Random, length: Length) -> Vec<f64> {
    let duty = random.between(0.2, 0.3);
    wave(random, length, |phase| f64::from(phase < duty))
}

/// A square wave with random edges.
fn telegraph(random: &mut Random, length: Length) -> Vec<f64> {
    let (hertz, noise) = (random.between(0.5, 4.0), random.one_of(&[0.0, 0.01, 0.05]));
    let mut level = 1.0;
    length.of(|_| {
        if random.uniform() < hertz / length.rate {
            level = -level;
        }
        level + noise * random.normal()
    })
}

/// Mains hum with a drifting frequency, a varying amplitude and a third harmonic, on a moving baseline with
/// noise.
fn hum(random: &mut Random, length: Length) -> Vec<f64> {
    let hertz = random.one_of(&[50.0, 60.0]) + random.between(-0.1, 0.1);
    let (swell, harmonic, drift) =
        (random.between(0.0, 0.3), random.between(0.0, 0.4), random.between(0.0, 0.5));
    let (swell_hz, drift_hz) = (random.between(0.05, 1.0), random.between(0.05, 0.4));
    let noise = random.one_of(&[0.0, 0.01, 0.1]);
    length.of(|time_s| {
        (1.0 + swell * (TAU * swell_hz * time_s).sin())
            * ((TAU * hertz * time_s).sin() + harmonic * (TAU * 3.0 * hertz * time_s).sin())
            + drift * (TAU * drift_hz * time_s).sin()
            + noise * random.normal()
    })
}

fn zeros(_: &mut Random, length: Length) -> Vec<f64> {
    vec![0.0; length.count]
}

/// A flat line with a few spikes.
fn touched(random: &mut Random, length: Length) -> Vec<f64> {
    let mut line = vec![random.normal(); length.count];
    for _ in 0..(random.uniform() * 4.0) as usize {
        let at = (random.uniform() * length.count as f64) as usize;
        line[at] += random.normal();
    }
    line
}

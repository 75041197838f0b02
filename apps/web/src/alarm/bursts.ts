// Pulse bursts of alarms.
//
// They follow IEC 60601-1-8, table 3 and table 4: number, length and spacing of pulses depend on the priority. A pulse is a tone
// with four harmonics, and rises and falls smoothly.

export type AlarmPriority = 'high' | 'medium' | 'low';

/** A burst. Times in seconds. */
interface Burst {
  /** Start of each pulse. */
  pulses: number[];
  /** Length of a pulse from 90 % to 90 % of its amplitude. */
  pulse: number;
  /** From the end of a burst to the start of the next one. */
  pause: number;
  /** Fundamental frequency in Hz. */
  frequency: number;
}

/** Pulse 150 ms, spacing x = 100 ms, 2x + t between pulses 3 and 4, 0.5 s between the two halves. */
function highPulses(): number[] {
  const [length, x] = [0.15, 0.1];
  const half = [0, 1, 2].map((index) => index * (length + x));
  const fourth = half[2]! + length + 2 * x + length;
  half.push(fourth, fourth + length + x);
  const second = half[4]! + length + 0.5;
  return [...half, ...half.map((start) => start + second)];
}

export const BURSTS: Record<AlarmPriority, Burst> = {
  high: { pulses: highPulses(), pulse: 0.15, pause: 4, frequency: 784 },
  medium: { pulses: [0, 0.4, 0.8], pulse: 0.2, pause: 8, frequency: 660 },
  low: { pulses: [0, 0.4], pulse: 0.2, pause: 20, frequency: 440 },
};

/** Rise and fall of a pulse as a share of its length; the standard allows 10 % to 20 % of the length for the rise. */
const EDGE = 0.15;
/** Amplitude of the fundamental and of four harmonics. All are within 15 dB of the fundamental. */
const HARMONICS = [1, 0.6, 0.45, 0.35, 0.25];

/** Samples of one burst, from -1 to 1. */
export function render(priority: AlarmPriority, rateHz: number): Float32Array<ArrayBuffer> {
  const { pulses, pulse, frequency } = BURSTS[priority];
  const edge = pulse * EDGE;
  const last = pulses[pulses.length - 1]!;
  const samples = new Float32Array(new ArrayBuffer(4 * Math.ceil((last + pulse + 2 * edge) * rateHz)));
  const sum = HARMONICS.reduce((all, one) => all + one, 0);
  for (const start of pulses) {
    const length = Math.floor((pulse + 2 * edge) * rateHz);
    const first = Math.round(start * rateHz);
    for (let index = 0; index < length; index += 1) {
      const t = index / rateHz;
      const rise = Math.min(t, pulse + 2 * edge - t) / edge;
      const envelope = rise >= 1 ? 1 : 0.5 - 0.5 * Math.cos(Math.PI * Math.max(rise, 0));
      let tone = 0;
      HARMONICS.forEach((amplitude, harmonic) => {
        tone += amplitude * Math.sin(2 * Math.PI * frequency * (harmonic + 1) * t);
      });
      if (first + index < samples.length) samples[first + index] = (envelope * tone) / sum;
    }
  }
  return samples;
}

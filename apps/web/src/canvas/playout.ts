// The jitter buffer of a live waveform: which time is shown when.
//
// Samples arrive in frames, with changing delay. The playhead is the time that the screen shows. It follows the clock with a
// delay that is just long enough for all recent frames to arrive before they are shown: the largest difference between the
// arrival of a frame and the time of its first new sample within the last WINDOW_S seconds, plus a margin. Changes of the delay
// are spread over time: the playhead runs at most MAX_SLEW faster or slower than the clock.
//
// Invariants: the playhead does not move backwards, except if the clock is set. It stops STOP_US after the last new sample.
// Frames that are later than MAX_DELAY_US, such as those that a device has kept during an outage, do not change the delay, nor do
// the frames that the gateway has kept for a new subscriber.
//
// The desktop monitor has the same buffer (apps/ui/src/trace/playout.rs). All times are microseconds since 1970 in server time.

/** Seconds that determine the delay. */
const WINDOW_S = 10;
/** Time without new samples after which the playhead stops. */
export const STOP_US = 1_750_000;
/** Time after the first sample in which only the newest frame determines the delay. */
const START_US = 2_000_000;
/** Frames that are later do not change the delay. */
const MAX_DELAY_US = 2_500_000;
/** Additional delay: one frame of the screen. */
export const MARGIN_US = 20_000;
/** The largest share by which the playhead is faster or slower than the clock. */
export const MAX_SLEW = 0.2;
/** The time in seconds in which most of a difference is corrected. */
const CORRECTION_S = 2;
/** Differences that are corrected at once. */
const JUMP_US = 1_000_000;

export class Playout {
  /** For each of the last seconds: the largest delay of a first sample, and the smallest delay of a last sample. */
  private delays: { second: number; longest: number; shortest: number }[] = [];
  private newestUs: number | undefined;
  private arrivedUs = 0;
  private startedUs = 0;
  private head: number | undefined;
  private movedUs = 0;
  private delay = 0;

  /** A frame with samples from `fromUs` to `toUs` has arrived at `nowUs`. */
  received(fromUs: number, toUs: number, nowUs: number): void {
    if (this.newestUs !== undefined && toUs <= this.newestUs) return;
    // The gateway first sends what it has kept. These frames say nothing about the delay of those that follow.
    if (this.newestUs === undefined || this.isStopped(nowUs)) this.startedUs = nowUs;
    if (nowUs - this.startedUs < START_US) this.delays = [];
    const firstNew = this.newestUs !== undefined && fromUs < this.newestUs ? this.newestUs : fromUs;
    this.newestUs = toUs;
    this.arrivedUs = nowUs;
    const longest = nowUs - firstNew;
    const shortest = nowUs - toUs;
    if (Math.abs(longest) > MAX_DELAY_US) return;
    const second = Math.floor(nowUs / 1e6);
    const last = this.delays[this.delays.length - 1];
    if (last !== undefined && last.second === second) {
      last.longest = Math.max(last.longest, longest);
      last.shortest = Math.min(last.shortest, shortest);
    } else {
      this.delays.push({ second, longest, shortest });
      this.delays = this.delays.filter((known) => known.second >= second - WINDOW_S && known.second <= second);
    }
    this.delay = Math.max(...this.delays.map((known) => known.longest)) + MARGIN_US;
  }

  /** Moves the playhead. Returns the time that the screen shows; `undefined` before the first sample. */
  advance(nowUs: number): number | undefined {
    if (this.newestUs === undefined) return undefined;
    const target = nowUs - this.delay;
    if (this.head !== undefined && this.isStopped(nowUs)) {
      // Everything that has arrived is shown, even if the buffer is longer than the time without samples.
      this.head = Math.max(this.head, this.newestUs);
    } else if (this.head !== undefined && Math.abs(target - this.head) < JUMP_US) {
      const passed = Math.max(0, nowUs - this.movedUs);
      const errorS = (target - passed - this.head) * 1e-6;
      const slew = Math.min(MAX_SLEW, Math.max(-MAX_SLEW, errorS / CORRECTION_S));
      this.head += passed * (1 + slew);
    } else {
      this.head = target;
    }
    this.movedUs = nowUs;
    return this.head;
  }

  /** Whether no new sample has arrived for `STOP_US`. */
  isStopped(nowUs: number): boolean {
    return this.newestUs !== undefined && nowUs - this.arrivedUs >= STOP_US;
  }

  /** The time between a sample and its display, in microseconds. */
  get delayUs(): number {
    return this.delay;
  }

  /** How much later the samples are shown than if each frame was shown when it arrives, in microseconds. */
  get lengthUs(): number {
    if (this.delays.length === 0) return 0;
    return Math.max(0, this.delay - Math.min(...this.delays.map((known) => known.shortest)));
  }
}

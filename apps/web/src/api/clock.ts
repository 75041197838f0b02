// The clock of the server, estimated from its messages and the monotonic clock of this device.
//
// The age of a value is the difference of two times of the server's clock. The wall clock of this device may be wrong. It is
// used only to report the difference, and to detect that the device was suspended, which the monotonic clock does not count.
// Invariant: values never look younger than they are.

import { createSubscriber } from 'svelte/reactivity';
import { Cell } from './cell';

/** Seconds for which the least delayed message determines the estimate. */
const WINDOW_S = 10;
/** Differences between clocks up to this are not reported, in milliseconds. The same as in the apps. */
export const CLOCK_TOLERANCE_MS = 5_000;

/** A point in time on this device, in milliseconds. */
export interface Moment {
  monotonic: number;
  wall: number;
}

const here = (): Moment => ({ monotonic: performance.now(), wall: Date.now() });

export class ServerClock {
  /** For each of the last seconds with a message: server time minus monotonic time. The largest has the least delay. */
  #offsets: { second: number; offset: number }[] = [];
  #last: Moment | undefined;
  readonly #problem = new Cell<string | undefined>(undefined);

  /** Takes the server's time when it sent a message. `problem`: what is wrong with its clock, one sentence. */
  received(time: string, problem?: string | null, at: Moment = here()): void {
    const millis = Date.parse(time);
    if (Number.isNaN(millis)) return;
    if (this.#suspendedMs(at) > 0) this.#offsets = [];
    const second = Math.floor(at.monotonic / 1000);
    const offset = millis - at.monotonic;
    this.#offsets = this.#offsets.filter((one) => one.second + WINDOW_S > second);
    const last = this.#offsets.at(-1);
    if (last?.second === second) last.offset = Math.max(last.offset, offset);
    else this.#offsets.push({ second, offset });
    this.#last = at;
    this.#problem.value = problem ?? undefined;
  }

  /** Server time in milliseconds since 1970. Before the first message, the time of this device. */
  nowMs(at: Moment = here()): number {
    if (this.#offsets.length === 0) return at.wall;
    const offset = Math.max(...this.#offsets.map((one) => one.offset));
    return offset + at.monotonic + this.#suspendedMs(at);
  }

  /** Server time in microseconds since 1970. */
  nowUs(): number {
    return this.nowMs() * 1000;
  }

  /** Milliseconds by which the server's clock is ahead of this device; `undefined` before the first message. */
  aheadMs(at: Moment = here()): number | undefined {
    return this.#offsets.length === 0 ? undefined : this.nowMs(at) - at.wall;
  }

  /** What is wrong with the server's clock according to the server, one sentence. */
  get problem(): string | undefined {
    return this.#problem.value;
  }

  #suspendedMs(at: Moment): number {
    if (this.#last === undefined) return 0;
    const suspended = at.wall - this.#last.wall - (at.monotonic - this.#last.monotonic);
    return suspended > CLOCK_TOLERANCE_MS ? suspended : 0;
  }
}

export const serverClock = new ServerClock();

const everySecond = createSubscriber((update) => {
  const timer = setInterval(update, 1000);
  return () => clearInterval(timer);
});

/** Server time in milliseconds since 1970. Readers in templates and effects run again every second. */
export function now(): number {
  everySecond();
  return serverClock.nowMs();
}

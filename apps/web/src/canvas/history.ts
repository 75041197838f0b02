// The recent samples of one channel, in bounded memory.
//
// Time is divided into cells on a fixed grid that starts in 1970: one sample per cell, the extremes of several samples if the
// channel has more than MAX_CELLS_PER_S samples per second, or one column of an overview. A cell is addressed by its number, so
// that late samples fill in where they belong, and duplicates are stored once.
//
// Invariants: the memory is allocated once. A cell without samples is NaN, never interpolated. A missing sample does not replace
// a stored one. Samples that are older than the kept time are ignored.

/** The maximum number of cells per second. */
const MAX_CELLS_PER_S = 1000;
/** Cells by which the times of frames may differ from the grid before the position is computed again. */
const MAX_DRIFT = 2;

/** The lowest and the highest value of a range of cells. */
export interface Extremes {
  low: number;
  high: number;
}

export class History {
  /** The lowest values of the cells; NaN: no samples. The cell with number n is at n modulo the length. */
  private low: Float32Array;
  private high: Float32Array;
  /** 1: the electrode or sensor was disconnected. */
  private off: Uint8Array;
  /** Samples or columns per cell. */
  private readonly perCell: number;
  /** Microseconds of one cell. */
  readonly cellUs: number;
  /** The position in a cell that a drawn point represents, as a share of the cell. */
  private readonly anchor: number;
  /** The number of the newest cell, and of the newest cell with samples. -Infinity without samples. */
  private newest = -Infinity;
  private newestValid = -Infinity;
  /** The number of the sample that follows the newest one. */
  private next: number | undefined;
  /** The number of a sample on the grid minus the number that follows from its time. */
  private shift = 0;
  private changedFirst = Infinity;
  private changedLast = -Infinity;

  /** An empty history with one value per `periodUs`, which keeps `seconds`. `isColumns`: the values are extremes of columns. */
  constructor(
    readonly periodUs: number,
    readonly seconds: number,
    readonly isColumns: boolean,
  ) {
    this.perCell = isColumns ? 1 : Math.max(1, Math.ceil(1e6 / periodUs / MAX_CELLS_PER_S));
    this.cellUs = periodUs * this.perCell;
    this.anchor = isColumns || this.perCell > 1 ? 0.5 : 0;
    const count = Math.max(2, Math.ceil((seconds * 1e6) / this.cellUs));
    this.low = new Float32Array(count).fill(NaN);
    this.high = new Float32Array(count).fill(NaN);
    this.off = new Uint8Array(count);
  }

  /** A copy that later samples do not change. */
  copy(): History {
    const copy = new History(this.periodUs, this.seconds, this.isColumns);
    copy.low.set(this.low);
    copy.high.set(this.high);
    copy.off.set(this.off);
    copy.newest = this.newest;
    copy.newestValid = this.newestValid;
    copy.next = this.next;
    copy.shift = this.shift;
    return copy;
  }

  /** Adds values from the time `startUs` on. `min` and `max` are the same array for samples. Returns whether any is new. */
  push(startUs: number, min: ArrayLike<number>, max: ArrayLike<number>, leadOff: boolean): boolean {
    const measured = Math.round(startUs / this.periodUs);
    const drift = this.next === undefined ? Infinity : this.next - measured;
    if (this.isColumns) this.shift = 0;
    // The gateway smooths the clocks of devices: small differences are neither gaps nor overlaps.
    else if (Math.abs(drift) <= Math.min(MAX_DRIFT, min.length / 4)) this.shift = drift;
    else if (drift < 0 || this.next === undefined) this.shift = 0;
    const first = measured + this.shift;
    if (this.next === undefined || first + min.length > this.next) this.next = first + min.length;
    const before = this.newestValid;
    for (let at = 0; at < min.length; at++) {
      const cell = this.perCell === 1 ? first + at : Math.floor((first + at) / this.perCell);
      this.add(cell, min[at] ?? NaN, max[at] ?? NaN, leadOff);
    }
    return this.newestValid > before;
  }

  private add(number: number, low: number, high: number, leadOff: boolean): void {
    const count = this.low.length;
    if (number <= this.newest - count) return;
    if (number > this.newest) {
      for (let skipped = Math.max(this.newest + 1, number - count + 1); skipped <= number; skipped++) {
        const slot = this.slot(skipped);
        this.low[slot] = NaN;
        this.high[slot] = NaN;
        this.off[slot] = 0;
      }
      this.newest = number;
    }
    const slot = this.slot(number);
    const oldLow = this.low[slot]!;
    const oldHigh = this.high[slot]!;
    const oldOff = this.off[slot]!;
    let newLow = low;
    let newHigh = high;
    if (Number.isNaN(low)) {
      newLow = oldLow;
      newHigh = oldHigh;
    } else if (!Number.isNaN(oldLow) && (this.isColumns || this.perCell > 1)) {
      // A column that was received before gains samples.
      newLow = Math.min(oldLow, low);
      newHigh = Math.max(oldHigh, high);
    }
    this.low[slot] = newLow;
    this.high[slot] = newHigh;
    if (leadOff) this.off[slot] = 1;
    else if (!Number.isNaN(low) && this.perCell === 1) this.off[slot] = 0;
    if ((!Number.isNaN(newLow) || this.off[slot] === 1) && number > this.newestValid) this.newestValid = number;
    const isSame = Object.is(oldLow, this.low[slot]) && Object.is(oldHigh, this.high[slot]) && oldOff === this.off[slot];
    if (!isSame) {
      this.changedFirst = Math.min(this.changedFirst, number);
      this.changedLast = Math.max(this.changedLast, number);
    }
  }

  private slot(number: number): number {
    const count = this.low.length;
    return ((number % count) + count) % count;
  }

  private isKept(number: number): boolean {
    return number <= this.newest && number > this.newest - this.low.length;
  }

  /** The lowest value of a cell; NaN if it is missing. */
  lowOf(number: number): number {
    return this.isKept(number) ? this.low[this.slot(number)]! : NaN;
  }

  /** The highest value of a cell; NaN if it is missing. */
  highOf(number: number): number {
    return this.isKept(number) ? this.high[this.slot(number)]! : NaN;
  }

  /** Whether the electrode or sensor was disconnected in a cell. */
  isOff(number: number): boolean {
    return this.isKept(number) && this.off[this.slot(number)] === 1;
  }

  /** The first and the last cell that have changed since the last call. */
  takeChanged(): [number, number] | undefined {
    if (this.changedFirst > this.changedLast) return undefined;
    const changed: [number, number] = [this.changedFirst, this.changedLast];
    this.changedFirst = Infinity;
    this.changedLast = -Infinity;
    return changed;
  }

  /** The number of the cell that contains a time in microseconds since 1970. */
  numberAt(timeUs: number): number {
    return Math.floor(timeUs / this.cellUs);
  }

  /** The time at which a cell is drawn, in microseconds since 1970. */
  timeUs(number: number): number {
    return (number + this.anchor) * this.cellUs;
  }

  /** The end of the newest cell with samples, in microseconds since 1970. `undefined` without samples. */
  endUs(): number | undefined {
    return Number.isFinite(this.newestValid) ? (this.newestValid + 1) * this.cellUs : undefined;
  }

  /** Whether the sensor was disconnected at a time, or at the newest cell within half a second before it. */
  isLeadOff(timeUs: number): boolean {
    const last = Math.min(this.numberAt(timeUs), this.newest);
    const first = last - Math.floor(500_000 / this.cellUs);
    for (let number = last; number >= first; number--) {
      if (this.isOff(number)) return true;
      if (!Number.isNaN(this.lowOf(number))) return false;
    }
    return false;
  }

  /** The extremes between two times, without the samples of a disconnected sensor. */
  range(fromUs: number, toUs: number): Extremes | undefined {
    if (!Number.isFinite(this.newest)) return undefined;
    const first = Math.max(this.numberAt(fromUs), this.newest - this.low.length + 1);
    const last = Math.min(this.numberAt(toUs), this.newest);
    let low = Infinity;
    let high = -Infinity;
    for (let number = first; number <= last; number++) {
      const slot = this.slot(number);
      if (this.off[slot] === 1) continue;
      if (this.low[slot]! < low) low = this.low[slot]!;
      if (this.high[slot]! > high) high = this.high[slot]!;
    }
    return low <= high ? { low, high } : undefined;
  }

  /** Memory of the cells in bytes. */
  get bytes(): number {
    return this.low.byteLength + this.high.byteLength + this.off.byteLength;
  }
}

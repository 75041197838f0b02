// Live waveforms and vitals: the WebSocket /api/v1/live.
//
// One connection serves all parts of the page. After each reconnect all patients are subscribed again. A message that does not follow
// docs/DEVICES.md is dropped and reported as lost. Times are server times in microseconds since 1970, values are in the unit of the
// channel, and NaN is a missing sample.

import { Cell } from './cell';
import { session } from './session';
import { serverClock } from './clock';
import type { Channel, LiveMessage, LiveMode, LiveRequest, StreamDescription, Vitals } from './types.gen';

/** Columns of an overview per second. */
export const COLUMNS_PER_SECOND = 60;
const COLUMN_US = 1e6 / COLUMNS_PER_SECOND;
const MISSING = -32768;
const LEAD_OFF = 1;

/** Smallest and largest value of each 1/60 s of a channel. */
export interface Columns {
  /** Position of the channel in the description. */
  channel: number;
  leadOff: boolean;
  /** Number of the first column: server time in units of 1/60 s. */
  first: number;
  startUs: number;
  columnUs: number;
  min: Float32Array;
  max: Float32Array;
}

/** Contiguous samples of a channel. */
export interface Samples {
  /** Position of the channel in the description. */
  channel: number;
  leadOff: boolean;
  /** Index of the first sample. */
  first: number;
  startUs: number;
  periodUs: number;
  values: Float32Array;
}

/** What a subscriber of a patient receives. */
export interface LiveHandler {
  /** A stream is new, or its description has changed. Precedes its waveforms. */
  stream?(stream: StreamDescription): void;
  /** Waveforms as an overview. */
  columns?(stream: StreamDescription, columns: Columns[]): void;
  /** Waveforms at full rate. */
  samples?(stream: StreamDescription, samples: Samples[]): void;
  vitals?(vitals: Vitals): void;
  /** Waveforms between these times were not received. */
  lost?(fromUs: number, toUs: number): void;
  /** All streams of the patient have ended. */
  closed?(): void;
}

export interface LiveState {
  isConnected: boolean;
  /** Start of this state, server time in milliseconds since 1970. */
  since: number;
}

/** A binary message. */
export type LiveBinary =
  | { kind: 'frame'; number: number; timeUs: number; segments: RawSegment[] }
  | { kind: 'columns'; number: number; timeUs: number; blocks: RawBlock[] };

export interface RawSegment {
  channel: number;
  leadOff: boolean;
  first: number;
  samples: Int16Array;
}

export interface RawBlock {
  channel: number;
  leadOff: boolean;
  first: number;
  /** Smallest and largest sample of each column, alternating. */
  pairs: Int16Array;
}

class Reader {
  readonly #view: DataView;
  #at = 0;

  constructor(buffer: ArrayBuffer) {
    this.#view = new DataView(buffer);
  }

  get left(): number {
    return this.#view.byteLength - this.#at;
  }

  #take(length: number): number {
    if (this.left < length) throw new RangeError('the message is too short');
    const at = this.#at;
    this.#at += length;
    return at;
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }

  i64(): number {
    const value = Number(this.#view.getBigInt64(this.#take(8), true));
    if (!Number.isSafeInteger(value)) throw new RangeError('a number is too large');
    return value;
  }

  skip(length: number): void {
    this.#take(length);
  }

  i16s(count: number): Int16Array {
    const at = this.#take(count * 2);
    // Blocks begin at multiples of 8 bytes, and all devices with browsers are little endian.
    return new Int16Array(this.#view.buffer, this.#view.byteOffset + at, count);
  }
}

/** Bytes after `count` numbers of 16 bits up to a multiple of 8. */
const padding = (count: number): number => (8 - ((count * 2) % 8)) % 8;

/**
 * Reads a binary message.
 *
 * @throws {RangeError} if the bytes do not follow the layout.
 */
export function decode(buffer: ArrayBuffer): LiveBinary {
  const reader = new Reader(buffer);
  const kind = reader.u8();
  reader.skip(1);
  const number = reader.u16();
  reader.skip(4);
  const timeUs = reader.i64();
  if (kind === 1) {
    if (reader.u8() !== 1) throw new RangeError('the frame has another version');
    reader.skip(1);
    const count = reader.u16();
    reader.skip(4 + 8 + 8);
    const segments: RawSegment[] = [];
    for (let index = 0; index < count; index += 1) {
      const head = block(reader);
      const samples = reader.i16s(head.count);
      reader.skip(padding(head.count));
      segments.push({ channel: head.channel, leadOff: head.leadOff, first: head.first, samples });
    }
    return { kind: 'frame', number, timeUs, segments };
  }
  if (kind !== 2) throw new RangeError('the message has another kind');
  const blocks: RawBlock[] = [];
  while (reader.left > 0) {
    const head = block(reader);
    const pairs = reader.i16s(head.count * 2);
    reader.skip(padding(head.count * 2));
    blocks.push({ channel: head.channel, leadOff: head.leadOff, first: head.first, pairs });
  }
  return { kind: 'columns', number, timeUs, blocks };
}

function block(reader: Reader): { channel: number; count: number; leadOff: boolean; first: number } {
  const channel = reader.u16();
  const count = reader.u16();
  const leadOff = (reader.u16() & LEAD_OFF) !== 0;
  reader.skip(2);
  return { channel, count, leadOff, first: reader.i64() };
}

/** Values of columns in the unit of the channel. With a negative scale, the largest sample is the smallest value. */
function columnsOf(raw: RawBlock, channel: Channel): Columns {
  const count = raw.pairs.length / 2;
  const [low, high] = [new Float32Array(count), new Float32Array(count)];
  const [min, max] = channel.scale < 0 ? [high, low] : [low, high];
  for (let index = 0; index < count; index += 1) {
    const [a, b] = [raw.pairs[2 * index] ?? MISSING, raw.pairs[2 * index + 1] ?? MISSING];
    const missing = a === MISSING && b === MISSING;
    min[index] = missing ? NaN : a * channel.scale + channel.offset;
    max[index] = missing ? NaN : b * channel.scale + channel.offset;
  }
  const { channel: position, leadOff, first } = raw;
  return { channel: position, leadOff, first, startUs: first * COLUMN_US, columnUs: COLUMN_US, min: low, max: high };
}

const periodUs = (channel: Channel): number => (channel.rate.denominator / channel.rate.numerator) * 1e6;

/** Samples with server times; `timeUs` is the time of the earliest sample of the frame. */
function samplesOf(segments: RawSegment[], timeUs: number, channels: Channel[]): Samples[] {
  const known = segments.flatMap((raw) => {
    const channel = channels[raw.channel];
    return channel === undefined ? [] : [{ raw, channel, at: raw.first * periodUs(channel) }];
  });
  const start = Math.min(...known.map(({ at }) => at));
  return known.map(({ raw, channel, at }) => {
    const values = Float32Array.from(raw.samples, (sample) =>
      sample === MISSING ? NaN : sample * channel.scale + channel.offset,
    );
    const { channel: position, leadOff, first } = raw;
    return { channel: position, leadOff, first, startUs: timeUs + at - start, periodUs: periodUs(channel), values };
  });
}

interface Subscriber {
  mode: LiveMode;
  handler: LiveHandler;
}

interface Patient {
  subscribers: Set<Subscriber>;
  streams: Map<string, StreamDescription>;
  vitals: Vitals | undefined;
  /** Mode that the gateway knows on the current connection. */
  mode: LiveMode | undefined;
}

const MIN_BACKOFF_MS = 40;
const MAX_BACKOFF_MS = 1_000;
const REJECTED_WAIT_MS = 5_000;
const UNAUTHORIZED = 4401;
/** Time to open a connection, in milliseconds. */
const OPEN_LIMIT_MS = 5_000;

/** Vitals arrive every second while a patient streams: a connection without any message for this time is probed. */
const SILENCE_MS = 3_000;

export class Live {
  readonly #patients = new Map<number, Patient>();
  readonly #state = new Cell<LiveState>({ isConnected: false, since: serverClock.nowMs() });
  #socket: WebSocket | undefined;
  #streams = new Map<number, StreamDescription>();
  #backoff = MIN_BACKOFF_MS;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #watch: ReturnType<typeof setInterval> | undefined;
  #heardAt = 0;
  #probed = false;
  #lostSinceUs: number | undefined;

  get state(): LiveState {
    return this.#state.value;
  }

  /** Whether there are subscribers. */
  get isWanted(): boolean {
    return this.#patients.size > 0;
  }

  /**
   * Receives a patient. Two subscribers of one patient with different modes both receive the full rate. A stream and vitals that
   * are known already are reported at once. Returns a function that ends the subscription.
   */
  subscribe(mrn: number, mode: LiveMode, handler: LiveHandler): () => void {
    let patient = this.#patients.get(mrn);
    if (patient === undefined) {
      patient = { subscribers: new Set(), streams: new Map(), vitals: undefined, mode: undefined };
      this.#patients.set(mrn, patient);
    }
    const subscriber: Subscriber = { mode, handler };
    patient.subscribers.add(subscriber);
    for (const stream of patient.streams.values()) handler.stream?.(stream);
    if (patient.vitals !== undefined) handler.vitals?.(patient.vitals);
    this.#update(mrn);
    this.#connect();
    return () => {
      const current = this.#patients.get(mrn);
      if (current === undefined || !current.subscribers.delete(subscriber)) return;
      if (current.subscribers.size > 0) {
        this.#update(mrn);
        return;
      }
      this.#patients.delete(mrn);
      this.#send({ type: 'unsubscribe', mrn });
      if (this.#patients.size === 0) this.#close();
    };
  }

  /**
   * Asks again for a patient of whom nothing has arrived. A gateway rejects a subscription while it does not know a new emergency
   * access.
   */
  retry(mrn: number): void {
    const patient = this.#patients.get(mrn);
    if (patient === undefined || patient.streams.size > 0) return;
    patient.mode = undefined;
    this.#update(mrn);
  }

  /** Connects again at once: the page was hidden, or the network is back. */
  refresh(): void {
    if (this.#socket?.readyState !== WebSocket.OPEN && this.#patients.size > 0) {
      this.#backoff = MIN_BACKOFF_MS;
      this.#drop();
      this.#connect();
    }
  }

  #send(message: LiveRequest): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  /** Tells the gateway the mode of a patient if it does not know it. */
  #update(mrn: number): void {
    const patient = this.#patients.get(mrn);
    if (patient === undefined || this.#socket?.readyState !== WebSocket.OPEN) return;
    const mode = [...patient.subscribers].some((one) => one.mode === 'full') ? 'full' : 'overview';
    if (mode === patient.mode) return;
    patient.mode = mode;
    this.#send({ type: 'subscribe', mrn, mode });
  }

  #connect(): void {
    if (this.#socket !== undefined || this.#timer !== undefined || this.#patients.size === 0) return;
    const address = new URL('/api/v1/live', window.location.href);
    address.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(address);
    socket.binaryType = 'arraybuffer';
    this.#socket = socket;
    const limit = setTimeout(() => this.#lost(socket, 0), OPEN_LIMIT_MS);
    socket.onopen = () => {
      clearTimeout(limit);
      this.#backoff = MIN_BACKOFF_MS;
      this.#streams = new Map();
      this.#state.value = { isConnected: true, since: serverClock.nowMs() };
      for (const [mrn, patient] of this.#patients) {
        patient.mode = undefined;
        this.#update(mrn);
      }
      if (this.#lostSinceUs !== undefined) {
        const [from, to] = [this.#lostSinceUs, serverClock.nowUs()];
        this.#lostSinceUs = undefined;
        for (const mrn of this.#patients.keys()) this.#each(mrn, (handler) => handler.lost?.(from, to));
      }
      this.#heard();
      this.#watch = setInterval(() => this.#probe(socket), 500);
    };
    socket.onmessage = ({ data }) => {
      if (socket !== this.#socket) return;
      this.#heard();
      try {
        if (data instanceof ArrayBuffer) this.#binary(data);
        else this.#text(JSON.parse(String(data)) as LiveMessage);
      } catch (error) {
        console.error('a live message was dropped', error);
      }
    };
    socket.onclose = ({ code }) => {
      clearTimeout(limit);
      this.#lost(socket, code);
    };
  }

  #heard(): void {
    this.#heardAt = performance.now();
    this.#probed = false;
  }

  /**
   * Detects a connection that is cut without a message. Browsers do not report it, and hide the pings of the gateway. If
   * nothing arrives, a request that the gateway always answers is sent; without an answer the connection is lost.
   */
  #probe(socket: WebSocket): void {
    const silent = performance.now() - this.#heardAt;
    if (silent < SILENCE_MS / 2) return;
    if (!this.#probed) {
      this.#probed = true;
      // An unsubscription is always answered. The number belongs to no patient of this page.
      const unused = unusedMrn(this.#patients);
      this.#send({ type: 'unsubscribe', mrn: unused });
    } else if (silent > SILENCE_MS) {
      this.#lost(socket, 0);
    }
  }

  #lost(socket: WebSocket, code: number): void {
    if (socket !== this.#socket) return;
    this.#drop();
    this.#lostSinceUs ??= serverClock.nowUs();
    if (this.#state.peek().isConnected) this.#state.value = { isConnected: false, since: serverClock.nowMs() };
    if (this.#patients.size === 0) return;
    if (code === UNAUTHORIZED) void session.load();
    const wait = code === UNAUTHORIZED ? REJECTED_WAIT_MS : this.#backoff * (1 + Math.random());
    this.#backoff = Math.min(this.#backoff * 2, MAX_BACKOFF_MS);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#connect();
    }, wait);
  }

  #drop(): void {
    clearInterval(this.#watch);
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket === undefined) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #close(): void {
    this.#drop();
    this.#lostSinceUs = undefined;
    this.#state.value = { isConnected: false, since: serverClock.nowMs() };
  }

  #each(mrn: number, call: (handler: LiveHandler) => void): void {
    this.#patients.get(mrn)?.subscribers.forEach(({ handler }) => call(handler));
  }

  #text(message: LiveMessage): void {
    switch (message.type) {
      case 'stream': {
        const { number, description } = message;
        this.#streams.set(number, description);
        this.#patients.get(description.mrn)?.streams.set(description.stream, description);
        this.#each(description.mrn, (handler) => handler.stream?.(description));
        break;
      }
      case 'vitals': {
        const { vitals } = message;
        const patient = this.#patients.get(vitals.mrn);
        if (patient !== undefined) patient.vitals = vitals;
        this.#each(vitals.mrn, (handler) => handler.vitals?.(vitals));
        break;
      }
      case 'lost': {
        const [from, to] = [Date.parse(message.from) * 1000, Date.parse(message.to) * 1000];
        this.#each(message.mrn, (handler) => handler.lost?.(from, to));
        break;
      }
      case 'closed':
        this.#patients.get(message.mrn)?.streams.clear();
        this.#each(message.mrn, (handler) => handler.closed?.());
        break;
      case 'rejected':
        console.error('the gateway rejected a request:', message.message);
        break;
    }
  }

  #binary(buffer: ArrayBuffer): void {
    const message = decode(buffer);
    const stream = this.#streams.get(message.number);
    if (stream === undefined) return;
    if (message.kind === 'frame') {
      const samples = samplesOf(message.segments, message.timeUs, stream.channels);
      this.#each(stream.mrn, (handler) => handler.samples?.(stream, samples));
    } else {
      const columns = message.blocks.flatMap((raw) => {
        const channel = stream.channels[raw.channel];
        return channel === undefined ? [] : [columnsOf(raw, channel)];
      });
      this.#each(stream.mrn, (handler) => handler.columns?.(stream, columns));
    }
  }
}

function unusedMrn(patients: Map<number, unknown>): number {
  let mrn = Number.MAX_SAFE_INTEGER;
  while (patients.has(mrn)) mrn -= 1;
  return mrn;
}

export const live = new Live();

// The live trace and vitals of one tile.

import { draw } from '../canvas/loop';
import { Sweep, type SignalState } from '../canvas/sweep';
import { serverClock } from '../api/clock';
import { live } from '../api/live';
import { channelColor, channelKind, channelRank, isLive } from '../api/numerics';
import type { Channel, StreamDescription, Vitals } from '../api/types.gen';
import { t } from '../i18n';
import { timeOfDay } from '../i18n/format';

/** Seconds that a tile shows. */
const SECONDS = 5;
/** The smallest range of an ECG in millivolts, so that noise does not fill the tile. */
const MIN_ECG_SPAN = 0.8;

/** What a tile shows about its signal. */
export interface TileSignal {
  /** `none`: the patient has not streamed. */
  state: SignalState | 'none';
  /** Label of the channel. */
  label: string;
  /** Vitals that are young enough to be live. */
  vitals: Vitals | undefined;
}

/** Follows a patient until `end`. It shows lead II, or the first channel if there is no such lead. */
export class TileLive {
  readonly #canvas: HTMLCanvasElement;
  readonly #streams = new Map<string, StreamDescription>();
  readonly #unsubscribe: () => void;
  #shown: { stream: string; channel: number; description: Channel } | undefined;
  #sweep: Sweep | undefined;
  #stopDrawing: (() => void) | undefined;
  #vitals: Vitals | undefined;

  constructor(mrn: number, canvas: HTMLCanvasElement) {
    this.#canvas = canvas;
    this.#unsubscribe = live.subscribe(mrn, 'overview', {
      stream: (stream) => {
        this.#streams.set(stream.stream, stream);
        this.#choose();
      },
      columns: (stream, blocks) => {
        if (stream.stream !== this.#shown?.stream) return;
        for (const block of blocks) {
          if (block.channel !== this.#shown.channel) continue;
          this.#sweep?.pushColumns(block.startUs, block.columnUs, block.min, block.max, block.leadOff);
        }
      },
      samples: (stream, segments) => {
        if (stream.stream !== this.#shown?.stream) return;
        for (const segment of segments) {
          if (segment.channel !== this.#shown.channel) continue;
          this.#sweep?.pushSamples(segment.startUs, segment.periodUs, segment.values, segment.leadOff);
        }
      },
      vitals: (vitals) => (this.#vitals = vitals),
      closed: () => this.#streams.clear(),
    });
  }

  /** The state of the signal now. */
  signal(): TileSignal {
    this.#sweep?.setConnected(live.state.isConnected);
    const state = this.#sweep?.state() ?? 'none';
    const current = live.state.isConnected && state !== 'stopped' && isLive(this.#vitals, serverClock.nowMs());
    return {
      state: state === 'waiting' ? 'none' : state,
      label: this.#shown?.description.label ?? '',
      vitals: current ? this.#vitals : undefined,
    };
  }

  end(): void {
    this.#unsubscribe();
    this.#clear();
  }

  #clear(): void {
    this.#stopDrawing?.();
    this.#sweep?.destroy();
    this.#sweep = this.#stopDrawing = undefined;
  }

  #choose(): void {
    const all = [...this.#streams.values()].flatMap(({ stream, channels }) =>
      channels.map((description, channel) => ({ stream, channel, description })),
    );
    const [first] = all.sort((one, other) => channelRank(one.description) - channelRank(other.description));
    if (first === undefined || (first.stream === this.#shown?.stream && first.channel === this.#shown.channel)) return;
    this.#shown = first;
    this.#clear();
    const kind = channelKind(first.description);
    const isEcg = kind === 'ecg' && first.description.unit === 'mV';
    this.#sweep = new Sweep(this.#canvas, {
      secondsPerScreen: SECONDS,
      color: channelColor(kind),
      stoppedColor: '--stopped',
      markColor: '--technical',
      markTextColor: '--on-technical',
      ...(isEcg ? { minSpan: MIN_ECG_SPAN } : {}),
      stoppedText: (sinceUs) => t('overview.no_signal', { time: timeOfDay(sinceUs / 1000) }),
    });
    this.#sweep.setClock(() => serverClock.nowUs());
    this.#stopDrawing = draw(this.#sweep);
  }
}

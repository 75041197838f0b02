// Alarm sounds of the page, by WebAudio.
//
// Browsers play nothing before the user has interacted with the page; `state` is then `locked`, and the page shows a mark. The
// bursts are in `bursts.ts`.

import { Cell } from '../api/cell';
import { BURSTS, render, type AlarmPriority } from './bursts';

/** `locked`: nothing sounds before an interaction. `unavailable`: this browser or device has no sound. */
export type SoundState = 'locked' | 'ready' | 'unavailable';

class AlarmSound {
  readonly #state = new Cell<SoundState>('AudioContext' in window ? 'locked' : 'unavailable');
  #context: AudioContext | undefined;
  #gain: GainNode | undefined;
  #volume = 0.7;
  #active: AlarmPriority | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #playing: AudioBufferSourceNode | undefined;

  constructor() {
    if (this.state === 'unavailable') return;
    for (const type of ['pointerdown', 'keydown'] as const) {
      window.addEventListener(type, () => void this.unlock(), { capture: true, passive: true });
    }
  }

  get state(): SoundState {
    return this.#state.value;
  }

  /** Starts the audio of the page. Browsers allow this only while they handle an interaction. */
  async unlock(): Promise<void> {
    if (this.#state.value === 'unavailable' || this.#context?.state === 'running') return;
    try {
      if (this.#context === undefined) {
        const context = new AudioContext();
        this.#context = context;
        this.#gain = context.createGain();
        this.#gain.gain.value = this.#volume;
        this.#gain.connect(context.destination);
        context.addEventListener('statechange', () => this.#contextChanged());
      }
      await this.#context.resume();
      this.#contextChanged();
    } catch {
      this.#state.value = 'unavailable';
    }
  }

  /** The operating system can suspend audio, for example during a call. */
  #contextChanged(): void {
    const isRunning = this.#context?.state === 'running';
    this.#state.value = isRunning ? 'ready' : 'locked';
    if (isRunning && this.#active !== undefined && this.#timer === undefined) this.#repeat();
  }

  /** Sets the volume, 0 to 1. */
  setVolume(volume: number): void {
    this.#volume = volume;
    if (this.#gain !== undefined) this.#gain.gain.value = volume;
  }

  /** Sounds one burst. Returns whether it sounds. */
  play(priority: AlarmPriority): boolean {
    const [context, gain] = [this.#context, this.#gain];
    if (context?.state !== 'running' || gain === undefined) return false;
    const samples = render(priority, context.sampleRate);
    const buffer = context.createBuffer(1, samples.length, context.sampleRate);
    buffer.copyToChannel(samples, 0);
    const source = context.createBufferSource();
    source.buffer = buffer;
    source.connect(gain);
    source.start();
    this.#playing = source;
    return true;
  }

  /** Sounds bursts of this priority until it changes. `undefined`: silence. A burst in progress ends only for a higher priority
   *  or for silence. */
  setActive(priority: AlarmPriority | undefined): void {
    if (priority === this.#active) return;
    this.#active = priority;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#playing?.stop();
    this.#playing = undefined;
    if (priority !== undefined) this.#repeat();
  }

  #repeat(): void {
    const priority = this.#active;
    if (priority === undefined || !this.play(priority)) return;
    const { pulses, pulse, pause } = BURSTS[priority];
    const length = pulses[pulses.length - 1]! + pulse;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#repeat();
    }, (length + pause) * 1000);
  }
}

export const alarmSound = new AlarmSound();

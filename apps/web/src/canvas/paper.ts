// An ECG strip on millimetre paper: 25 mm/s and 10 mm/mV, zoom and pan by wheel, touch and keyboard, calipers, beats and waves.
//
// Missing samples are a gap in the trace on a hatched ground, never a line. Segments whose signal is poor or unusable are marked.

import { resolved, zoom } from './colors';
import { PIXELS_PER_MM } from './sweep';
import { View, type Caliper, type Strip } from './view';

/** Seconds and millivolts per millimetre at the standard scale. */
const SMALL_S = 1 / 25;
const SMALL_MV = 1 / 10;
/** Beats are not marked if they are closer, in pixels. */
const MIN_BEAT_DISTANCE = 3;
/** Waves are not marked if the beats are closer, in pixels. */
const MIN_WAVE_DISTANCE = 40;
/** The height of the band of the time axis, and of the band of waves, in pixels. */
const AXIS = 16;
const WAVES = 18;
/** How near the pointer has to be to an end of the calipers, in pixels. */
const NEAR = 14;

/** A wave of a beat in seconds. */
export interface Wave {
  onS: number;
  endS: number;
  confidence: number;
}

export interface Beat {
  timeS: number;
  confidence: number;
  /** Such as `V`. Empty for a normal beat and for a beat of unknown type. */
  label: string;
  p?: Wave | undefined;
  qrs?: Wave | undefined;
  t?: Wave | undefined;
}

/** A part of the strip that is not good. */
export interface Mark {
  fromS: number;
  toS: number;
  kind: 'gap' | 'poor' | 'unusable';
  /** What is written on it. */
  text: string;
}

/** Everything that is drawn of one lead. */
export interface Scene {
  strip: Strip;
  beats: Beat[];
  marks: Mark[];
  /** Times of pacemaker pulses in seconds. */
  pacingS: number[];
}

export interface PaperOptions {
  /** The scale, the visible part or the calipers have changed. */
  changed?: () => void;
}

interface Colors {
  paper: string;
  coarse: string;
  trace: string;
  text: string;
  beat: string;
  labelled: string;
  caliper: string;
  mark: string;
  focus: string;
}

export class Paper {
  private readonly context: CanvasRenderingContext2D;
  private scene: Scene | undefined;
  private currentView: View | undefined;
  private colors!: Colors;
  /** Device pixels per CSS pixel. */
  private pixels = 1;
  /** CSS pixels per pixel of the drawing: all lengths grow with the screen. */
  private zoom = 1;
  private isDirty = true;
  /** The measurement. `undefined` if the calipers are off. */
  private measured: Caliper | undefined;
  private activeEnd: 'from' | 'to' = 'to';
  private hasCalipers = false;
  private showsBeatsNow = true;
  private showsWavesNow = true;
  private readonly pointers = new Map<number, { x: number; y: number }>();
  private dragged: 'pan' | 'caliper' | undefined;
  private readonly abort = new AbortController();

  constructor(
    readonly canvas: HTMLCanvasElement,
    private readonly options: PaperOptions = {},
  ) {
    const context = canvas.getContext('2d');
    if (context === null) throw new Error('this browser has no canvas');
    this.context = context;
    this.restyle();
    this.resize();
    const on = <K extends keyof HTMLElementEventMap>(type: K, listener: (event: HTMLElementEventMap[K]) => void): void =>
      canvas.addEventListener(type, listener, { signal: this.abort.signal, passive: false });
    on('wheel', (event) => this.wheel(event));
    on('pointerdown', (event) => this.down(event));
    on('pointermove', (event) => this.move(event));
    on('pointerup', (event) => this.up(event));
    on('pointercancel', (event) => this.up(event));
    on('keydown', (event) => this.key(event));
    on('dblclick', () => this.act((view) => view.standard()));
  }

  /** Shows another lead or strip. With `keepsView`, the visible part and the calipers stay. */
  setScene(scene: Scene | undefined, keepsView = false): void {
    const before = this.currentView;
    this.scene = scene;
    this.currentView = scene === undefined ? undefined : new View(scene.strip, this.plotSize());
    if (keepsView && before !== undefined && this.currentView !== undefined) {
      this.currentView.speed = before.speed;
      this.currentView.startS = before.startS;
      this.currentView.pan(0);
    } else {
      this.measured = undefined;
      if (this.hasCalipers) this.place();
    }
    this.update();
  }

  get view(): View | undefined {
    return this.currentView;
  }

  get caliper(): Caliper | undefined {
    return this.measured;
  }

  get calipers(): boolean {
    return this.hasCalipers;
  }

  /** Turns the calipers on, in the middle of the visible part, or off. */
  setCalipers(on: boolean): void {
    this.hasCalipers = on;
    this.measured = undefined;
    if (on) this.place();
    this.canvas.style.setProperty('touch-action', on ? 'none' : 'pan-y');
    this.update();
  }

  private place(): void {
    const view = this.currentView;
    if (view === undefined) return;
    const shown = Math.min(view.shownS, view.strip.durationS);
    this.measured = {
      from: { s: view.startS + shown * 0.35, mv: view.centreMv },
      to: { s: view.startS + shown * 0.65, mv: view.centreMv },
    };
  }

  get showsBeats(): boolean {
    return this.showsBeatsNow;
  }

  setBeats(on: boolean): void {
    this.showsBeatsNow = on;
    this.update();
  }

  get showsWaves(): boolean {
    return this.showsWavesNow;
  }

  setWaves(on: boolean): void {
    this.showsWavesNow = on;
    this.update();
  }

  /** Changes the visible part. */
  act(action: (view: View) => void): void {
    if (this.currentView === undefined) return;
    action(this.currentView);
    this.update();
  }

  resize(): void {
    const pixels = globalThis.devicePixelRatio || 1;
    const scale = zoom();
    const width = Math.max(1, Math.round(this.canvas.clientWidth * pixels));
    const height = Math.max(1, Math.round(this.canvas.clientHeight * pixels));
    const isSame = pixels === this.pixels && scale === this.zoom;
    if (isSame && width === this.canvas.width && height === this.canvas.height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.pixels = pixels;
    this.zoom = scale;
    const isFirst = this.currentView !== undefined && this.currentView.size.width <= 1;
    this.currentView?.resize(this.plotSize());
    if (isFirst) this.currentView?.standard();
    this.update();
    // There are no animation frames while a page is printed.
    this.render();
  }

  private plotSize(): { width: number; height: number } {
    const width = this.canvas.clientWidth / this.zoom;
    return { width: Math.max(1, width), height: Math.max(1, this.canvas.clientHeight / this.zoom - AXIS) };
  }

  restyle(): void {
    const color = (name: string, otherwise: string): string => {
      const found = resolved(this.canvas, name);
      return found === 'gray' ? otherwise : found;
    };
    this.colors = {
      paper: color('--paper', '#fff9f6'),
      coarse: color('--paper-line', '#f0b9ae'),
      trace: color('--trace', '#14242c'),
      text: color('--paper-text', '#7a4a40'),
      beat: color('--paper-beat', '#1d5fc9'),
      labelled: color('--paper-ectopic', '#b34a00'),
      caliper: color('--paper-caliper', '#8a2bc2'),
      mark: color('--paper-mark', '#707070'),
      focus: color('--accent', '#0b63c5'),
    };
    this.update();
  }

  /** Draws if something has changed. */
  render(): boolean {
    if (!this.isDirty) return false;
    this.isDirty = false;
    this.draw();
    return true;
  }

  destroy(): void {
    this.abort.abort();
    this.scene = undefined;
    this.currentView = undefined;
  }

  private update(): void {
    this.isDirty = true;
    this.options.changed?.();
  }

  // Input.

  private position(event: MouseEvent): { x: number; y: number } {
    const box = this.canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left) / this.zoom, y: (event.clientY - box.top) / this.zoom };
  }

  private wheel(event: WheelEvent): void {
    const view = this.currentView;
    if (view === undefined) return;
    const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    const sideways = event.shiftKey ? event.deltaY + event.deltaX : event.deltaX;
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      this.act((at) => at.zoom(Math.exp(-event.deltaY * unit * 0.004), this.position(event).x));
    } else if (event.altKey) {
      event.preventDefault();
      this.act((at) => at.amplify(Math.exp(-event.deltaY * unit * 0.002)));
    } else if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
      event.preventDefault();
      this.act((at) => at.pan(-sideways * unit));
    } else if (document.activeElement === this.canvas) {
      // Without the focus, the wheel scrolls the page.
      event.preventDefault();
      this.act((at) => at.zoom(Math.exp(-event.deltaY * unit * 0.002), this.position(event).x));
    }
  }

  private down(event: PointerEvent): void {
    if (event.button !== 0 || this.currentView === undefined) return;
    const at = this.position(event);
    this.pointers.set(event.pointerId, at);
    this.canvas.setPointerCapture(event.pointerId);
    if (this.pointers.size > 1) {
      this.dragged = 'pan';
      return;
    }
    if (this.hasCalipers) {
      const point = { s: this.currentView.seconds(at.x), mv: this.currentView.mv(at.y) };
      const near = this.endNear(at);
      if (near !== undefined) this.activeEnd = near;
      else {
        this.measured = { from: point, to: { ...point } };
        this.activeEnd = 'to';
      }
      this.dragged = 'caliper';
      this.update();
    } else {
      this.dragged = 'pan';
    }
  }

  private endNear(at: { x: number; y: number }): 'from' | 'to' | undefined {
    const view = this.currentView;
    const caliper = this.measured;
    if (view === undefined || caliper === undefined) return undefined;
    const distance = (end: 'from' | 'to'): number => Math.abs(view.x(caliper[end].s) - at.x);
    const end = distance('from') < distance('to') ? 'from' : 'to';
    return distance(end) <= NEAR ? end : undefined;
  }

  private move(event: PointerEvent): void {
    const before = this.pointers.get(event.pointerId);
    const view = this.currentView;
    if (view === undefined) return;
    const at = this.position(event);
    if (before === undefined) {
      const cursor = !this.hasCalipers ? 'grab' : this.endNear(at) === undefined ? 'crosshair' : 'ew-resize';
      this.canvas.style.setProperty('cursor', cursor);
      return;
    }
    if (this.pointers.size === 2) {
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1] ?? at;
      const wide = (one: { x: number }): number => Math.max(20, Math.abs(one.x - other.x));
      const middle = (one: { x: number }): number => (one.x + other.x) / 2;
      view.zoom(wide(at) / wide(before), middle(at));
      view.pan(middle(at) - middle(before));
    } else if (this.dragged === 'caliper' && this.measured !== undefined) {
      const inside = Math.min(view.size.width, Math.max(0, at.x));
      this.measured[this.activeEnd] = { s: view.seconds(inside), mv: view.mv(Math.min(view.size.height, Math.max(0, at.y))) };
    } else if (this.dragged === 'pan') {
      view.pan(at.x - before.x, event.pointerType === 'touch' ? 0 : at.y - before.y);
    }
    this.pointers.set(event.pointerId, at);
    this.update();
  }

  private up(event: PointerEvent): void {
    this.pointers.delete(event.pointerId);
    if (this.pointers.size === 0) this.dragged = undefined;
  }

  private key(event: KeyboardEvent): void {
    const view = this.currentView;
    if (view === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? 10 : 1;
    const measured = this.measured;
    const moveEnd = (dx: number, dy: number): void => {
      if (measured === undefined) return;
      const end = measured[this.activeEnd];
      end.s = Math.min(view.strip.durationS, Math.max(0, end.s + (dx * step) / view.pixelsPerS));
      end.mv += (dy * step) / view.pixelsPerMv;
      const x = view.x(end.s);
      if (x < 0 || x > view.size.width) view.show(end.s);
    };
    const keys: Record<string, () => void> = {
      ArrowLeft: () => (measured ? moveEnd(-1, 0) : view.pan(view.size.width * 0.1 * step)),
      ArrowRight: () => (measured ? moveEnd(1, 0) : view.pan(-view.size.width * 0.1 * step)),
      ArrowUp: () => (measured ? moveEnd(0, 1) : view.amplify(1.25)),
      ArrowDown: () => (measured ? moveEnd(0, -1) : view.amplify(0.8)),
      PageUp: () => view.pan(view.size.width * 0.9),
      PageDown: () => view.pan(-view.size.width * 0.9),
      Home: () => view.pan(Infinity),
      End: () => view.show(view.strip.durationS),
      '+': () => view.zoom(1.25),
      '=': () => view.zoom(1.25),
      '-': () => view.zoom(0.8),
      '0': () => view.standard(),
      w: () => view.fit(),
      c: () => this.setCalipers(!this.hasCalipers),
      x: () => (this.activeEnd = this.activeEnd === 'to' ? 'from' : 'to'),
      b: () => (this.showsBeatsNow = !this.showsBeatsNow),
    };
    const known = keys[event.key] ?? (event.key === 'Escape' && this.hasCalipers ? () => this.setCalipers(false) : undefined);
    if (known === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    known();
    this.update();
  }

  // Drawing.

  /** Device pixels per pixel of the drawing. */
  private get ratio(): number {
    return this.pixels * this.zoom;
  }

  private draw(): void {
    const { context, ratio } = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const width = this.canvas.width / ratio;
    const height = this.canvas.height / ratio;
    context.fillStyle = this.colors.paper;
    context.fillRect(0, 0, width, height);
    const view = this.currentView;
    const scene = this.scene;
    if (view === undefined || scene === undefined) return;
    this.drawGrid(view);
    for (const mark of scene.marks) this.drawMark(view, mark);
    const shown = this.shownBeats(view, scene);
    if (this.showsBeatsNow) this.drawBeats(view, shown);
    context.save();
    context.beginPath();
    context.rect(0, 0, view.size.width, view.size.height);
    context.clip();
    context.beginPath();
    for (const segment of scene.strip.segments) {
      const points = view.line(segment, ratio);
      points.forEach((point, at) => (at === 0 ? context.moveTo(point.x, point.y) : context.lineTo(point.x, point.y)));
      const only = points.length === 1 ? points[0] : undefined;
      if (only !== undefined) context.lineTo(only.x, only.y);
    }
    context.strokeStyle = this.colors.trace;
    context.lineWidth = 1.4;
    context.lineJoin = 'round';
    context.lineCap = 'round';
    context.stroke();
    context.restore();
    if (this.showsWavesNow) this.drawWaves(view, shown);
    this.drawPacing(view, scene);
    this.drawAxis(view, width);
    if (this.measured !== undefined) this.drawCaliper(view, this.measured);
  }

  /** The middle of the device pixel at a position, so that a line of one pixel is sharp. */
  private sharp(at: number): number {
    return (Math.round(at * this.ratio) + 0.5) / this.ratio;
  }

  private drawGrid(view: View): void {
    const { context } = this;
    const room = 3;
    const lines = (stepS: number, stepMv: number, alpha: number): void => {
      context.beginPath();
      if (stepS * view.pixelsPerS >= room) {
        const last = Math.floor(view.seconds(view.size.width) / stepS);
        for (let index = Math.ceil(view.seconds(0) / stepS); index <= last; index++) {
          const x = this.sharp(view.x(index * stepS));
          context.moveTo(x, 0);
          context.lineTo(x, view.size.height);
        }
      }
      if (stepMv * view.pixelsPerMv >= room) {
        const last = Math.floor(view.mv(0) / stepMv);
        for (let index = Math.ceil(view.mv(view.size.height) / stepMv); index <= last; index++) {
          const y = this.sharp(view.y(index * stepMv));
          context.moveTo(0, y);
          context.lineTo(view.size.width, y);
        }
      }
      context.globalAlpha = alpha;
      context.strokeStyle = this.colors.coarse;
      context.lineWidth = Math.max(1, Math.floor(this.ratio)) / this.ratio;
      context.stroke();
      context.globalAlpha = 1;
    };
    lines(SMALL_S, SMALL_MV, 0.38);
    const coarseS = 5 * SMALL_S * view.pixelsPerS >= 2 * room ? 5 * SMALL_S : view.stepS(5 * PIXELS_PER_MM);
    const coarseMv = 5 * SMALL_MV * view.pixelsPerMv >= 2 * room ? 5 * SMALL_MV : 1;
    lines(coarseS, coarseMv, 1);
  }

  private drawMark(view: View, mark: Mark): void {
    const { context } = this;
    const from = Math.max(-1, view.x(mark.fromS));
    const to = Math.min(view.size.width + 1, view.x(mark.toS));
    if (to <= from) return;
    context.save();
    context.beginPath();
    context.rect(from, 0, to - from, view.size.height);
    context.clip();
    context.globalAlpha = mark.kind === 'poor' ? 0.09 : 0.2;
    context.fillStyle = this.colors.mark;
    context.fillRect(from, 0, to - from, view.size.height);
    if (mark.kind !== 'poor') {
      context.beginPath();
      for (let x = from - view.size.height; x < to; x += 12) {
        context.moveTo(x, view.size.height);
        context.lineTo(x + view.size.height, 0);
      }
      context.strokeStyle = this.colors.mark;
      context.lineWidth = 1;
      context.globalAlpha = 0.35;
      context.stroke();
    }
    context.globalAlpha = 1;
    if (to - from > 24) {
      context.font = '600 11px system-ui, sans-serif';
      context.textAlign = 'left';
      context.textBaseline = 'top';
      const wide = context.measureText(mark.text).width;
      context.globalAlpha = 0.85;
      context.fillStyle = this.colors.paper;
      context.fillRect(from + 3, 19, wide + 6, 15);
      context.globalAlpha = 1;
      context.fillStyle = this.colors.mark;
      context.fillText(mark.text, from + 6, 21);
    }
    context.restore();
  }

  private shownBeats(view: View, scene: Scene): Beat[] {
    const from = view.seconds(-40);
    const to = view.seconds(view.size.width + 40);
    return scene.beats.filter((beat) => beat.timeS >= from && beat.timeS <= to);
  }

  private drawBeats(view: View, beats: Beat[]): void {
    const { context } = this;
    if (view.size.width / Math.max(1, beats.length) < MIN_BEAT_DISTANCE) return;
    const [top, arm] = [3, 3.5];
    for (const beat of beats) {
      const x = view.x(beat.timeS);
      const color = beat.label === '' ? this.colors.beat : this.colors.labelled;
      context.globalAlpha = 0.25;
      context.fillStyle = color;
      context.fillRect(x - 0.5, top + arm, 1, view.size.height - top - arm);
      context.globalAlpha = 1;
      context.beginPath();
      context.moveTo(x - arm, top);
      context.lineTo(x + arm, top);
      context.lineTo(x, top + 1.5 * arm);
      context.closePath();
      context.strokeStyle = color;
      context.lineWidth = 1;
      context.stroke();
      // Filled if the confidence is high, otherwise an outline.
      if (beat.confidence >= 0.5) context.fill();
      if (beat.label !== '') {
        context.font = '700 12px system-ui, sans-serif';
        context.textAlign = 'left';
        context.textBaseline = 'top';
        context.fillText(beat.label, x + arm + 2, top - 1);
      }
    }
  }

  private drawWaves(view: View, beats: Beat[]): void {
    const { context } = this;
    if (view.size.width / Math.max(1, beats.length) < MIN_WAVE_DISTANCE) return;
    const y = view.size.height - 5;
    context.font = '600 10px system-ui, sans-serif';
    context.textAlign = 'center';
    context.textBaseline = 'bottom';
    for (const beat of beats) {
      const waves = [
        ['P', beat.p],
        ['QRS', beat.qrs],
        ['T', beat.t],
      ] as const;
      for (const [name, wave] of waves) {
        if (wave === undefined) continue;
        const from = view.x(wave.onS);
        const to = view.x(wave.endS);
        context.beginPath();
        context.moveTo(from, y - 3);
        context.lineTo(from, y + 3);
        context.moveTo(from, y);
        context.lineTo(to, y);
        context.moveTo(to, y - 3);
        context.lineTo(to, y + 3);
        context.setLineDash(wave.confidence >= 0.5 ? [] : [2, 2]);
        context.strokeStyle = this.colors.beat;
        context.lineWidth = 1.4;
        context.stroke();
        context.setLineDash([]);
        if (to - from < context.measureText(name).width * 0.7) continue;
        context.fillStyle = this.colors.beat;
        context.fillText(name, (from + to) / 2, y - 3);
      }
    }
  }

  private drawPacing(view: View, scene: Scene): void {
    const { context } = this;
    context.fillStyle = this.colors.labelled;
    for (const at of scene.pacingS) {
      const x = view.x(at);
      if (x < 0 || x > view.size.width) continue;
      context.fillRect(x - 0.75, view.size.height - WAVES - 14, 1.5, 12);
    }
  }

  private drawAxis(view: View, width: number): void {
    const { context } = this;
    context.fillStyle = this.colors.paper;
    context.fillRect(0, view.size.height, width, AXIS);
    context.font = '11px system-ui, sans-serif';
    context.textBaseline = 'middle';
    context.fillStyle = this.colors.text;
    for (const tick of view.ticks()) {
      const wide = context.measureText(tick.text).width;
      context.textAlign = tick.x - wide / 2 < 2 ? 'left' : tick.x + wide / 2 > width - 2 ? 'right' : 'center';
      context.fillRect(this.sharp(tick.x) - 0.5, view.size.height, 1, 3);
      context.fillText(tick.text, Math.min(width - 2, Math.max(2, tick.x)), view.size.height + AXIS / 2 + 1);
    }
  }

  private drawCaliper(view: View, caliper: Caliper): void {
    const { context } = this;
    const [x1, y1] = [view.x(caliper.from.s), view.y(caliper.from.mv)];
    const [x2, y2] = [view.x(caliper.to.s), view.y(caliper.to.mv)];
    const height = view.size.height;
    context.fillStyle = this.colors.caliper;
    context.globalAlpha = 0.12;
    context.fillRect(Math.min(x1, x2), 0, Math.abs(x2 - x1), height);
    context.globalAlpha = 0.7;
    for (const y of [y1, y2]) context.fillRect(Math.min(x1, x2), y - 0.5, Math.abs(x2 - x1), 1);
    context.globalAlpha = 1;
    const ends = [
      ['from', x1, y1],
      ['to', x2, y2],
    ] as const;
    for (const [end, x, y] of ends) {
      const isActive = end === this.activeEnd;
      context.fillRect(x - (isActive ? 1 : 0.5), 0, isActive ? 2 : 1, height);
      context.beginPath();
      context.arc(x, y, isActive ? 5 : 4, 0, 2 * Math.PI);
      context.fill();
    }
  }
}

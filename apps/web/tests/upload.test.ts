import { describe, expect, it } from 'vitest';
import { kindOf, pixelsOf } from '../src/pages/upload/files';
import { inputValue, suggestion } from '../src/pages/upload/recording';

describe('the recording time of several ECGs', () => {
  const of = (...ecgs: [number, number | undefined][]) =>
    suggestion(ecgs.map(([selectedAt, statedAt]) => ({ selectedAt, statedAt })));

  it('is the one that all files state', () => {
    expect(of()).toEqual({ type: 'no-ecg' });
    expect(of([9, 1], [8, 1])).toEqual({ type: 'stated', at: 1 });
    expect(of([9, 1], [8, 2])).toEqual({ type: 'conflicting' });
    expect(of([9, 1], [8, undefined])).toEqual({ type: 'conflicting' });
  });

  it('is the earliest time of selection if no file states one', () => {
    expect(of([9, undefined], [8, undefined])).toEqual({ type: 'selected', at: 8 });
  });

  it('round trips through the field of the form', () => {
    const at = new Date(2026, 2, 4, 5, 6, 7).getTime();
    expect(inputValue(at)).toBe('2026-03-04T05:06:07');
    expect(new Date(inputValue(at)).getTime()).toBe(at);
  });
});

describe('an image', () => {
  const png = (width: number, height: number) => {
    const head = new DataView(new ArrayBuffer(33));
    [0x89504e47, 0x0d0a1a0a, 13, 0x49484452, width, height].forEach((word, index) => head.setUint32(index * 4, word));
    return new Blob([head]);
  };

  it('has the size that its header states', async () => {
    expect(await pixelsOf(png(640, 480))).toEqual({ width: 640, height: 480 });
    const start = [0xff, 0xd8, 0xff, 0xe0, 0, 16, ...Array<number>(14).fill(0), 0xff, 0xff, 0xfe, 0, 2];
    const frame = [0xff, 0xc2, 0, 11, 8, 0x01, 0xe0, 0x02, 0x80, 1, 1, 0x11, 0];
    expect(await pixelsOf(new Blob([new Uint8Array([...start, ...frame])]))).toEqual({ width: 640, height: 480 });
  });

  it('is no image if its header is of another format, is cut off or states no pixels', async () => {
    expect(await pixelsOf(png(0, 5))).toBeUndefined();
    expect(await pixelsOf(png(5, 5).slice(0, 20))).toBeUndefined();
    expect(await pixelsOf(new Blob(['time,mV\n0,1\n']))).toBeUndefined();
    expect(await pixelsOf(new Blob([]))).toBeUndefined();
  });

  it('is told from an ECG by its name or type', () => {
    expect(kindOf(new File([], 'a.PNG'))).toBe('medical_image');
    expect(kindOf(new File([], 'scan', { type: 'image/jpeg' }))).toBe('medical_image');
    expect(kindOf(new File([], 'strip.csv'))).toBe('ecg');
  });
});

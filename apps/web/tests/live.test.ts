import { describe, expect, it } from 'vitest';
import { decode } from '../src/api/live';

const bytes = (text: string): ArrayBuffer => Uint8Array.from(text.trim().split(/\s+/), (byte) => parseInt(byte, 16)).buffer;

/** The head of a message: kind, stream 3, server time 1,790,000,000,000,000 µs. */
const head = (kind: number) => `0${kind} 00 03 00 00 00 00 00 00 e0 18 fe 02 5c 06 00`;
/** The example of docs/DEVICES.md. */
const FRAME = `
  01 00 01 00 00 00 00 00   05 00 00 00 00 00 00 00   00 40 1e 18 24 0a 06 00
  01 00 03 00 01 00 00 00   f4 01 00 00 00 00 00 00   01 00 fe ff 00 80 00 00`;

describe('binary messages', () => {
  it('contain the frame of the documentation', () => {
    const message = decode(bytes(`${head(1)} ${FRAME}`));
    if (message.kind !== 'frame') throw new Error('not a frame');
    expect(message.number).toBe(3);
    expect(message.segments).toHaveLength(1);
    const [segment] = message.segments;
    expect(segment).toMatchObject({ channel: 1, leadOff: true, first: 500 });
    expect([...(segment?.samples ?? [])]).toEqual([1, -2, -32768]);
  });

  it('contain blocks of columns', () => {
    const block = '02 00 01 00 00 00 00 00   3c 00 00 00 00 00 00 00   fe ff 05 00 00 00 00 00';
    const message = decode(bytes(`${head(2)} ${block} ${block}`));
    if (message.kind !== 'columns') throw new Error('no columns');
    expect(message.blocks).toHaveLength(2);
    expect(message.blocks[1]).toMatchObject({ channel: 2, leadOff: false, first: 60 });
    expect([...(message.blocks[1]?.pairs ?? [])]).toEqual([-2, 5]);
  });

  it('are rejected if they are cut off at any place, or of another kind', () => {
    const whole = new Uint8Array(bytes(`${head(1)} ${FRAME}`));
    for (let length = 0; length < whole.length; length += 1) {
      expect(() => decode(whole.slice(0, length).buffer), `${length} bytes`).toThrow(RangeError);
    }
    expect(() => decode(bytes(head(3)))).toThrow(RangeError);
  });
});

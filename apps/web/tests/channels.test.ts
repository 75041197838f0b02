import { describe, expect, it } from 'vitest';
import type { Channel, Vitals } from '../src/api/types.gen';
import { compareChannels, kindOf, numerics } from '../src/pages/patient/channels';

const NOW = Date.parse('2026-11-30T04:00:00Z');

function vitals(quality: Vitals['quality'], values: [code: string, value: number, ageMs: number][]): Vitals {
  return {
    mrn: 7,
    time: new Date(NOW).toISOString(),
    quality,
    source: 'analysis',
    lead_off: [],
    values: values.map(([code, value, age]) => ({ code, value, unit: '1', time: new Date(NOW - age).toISOString() })),
  };
}

const digits = (value: number, count: number): string => value.toFixed(count);

describe('numerics', () => {
  it('have a fixed order, and old values are stale', () => {
    const rows = numerics(
      vitals('good', [
        ['MDC_TEMP_BODY', 36.84, 0],
        ['MDC_PRESS_BLD_NONINV_DIA', 75, 400_000],
        ['MDC_PRESS_BLD_NONINV_SYS', 120.4, 400_000],
        ['MDC_PRESS_BLD_NONINV_MEAN', 90, 400_000],
        ['MDC_PULS_OXIM_SAT_O2', 97, 11_000],
        ['MDC_PULS_OXIM_PULS_RATE', 71, 11_000],
        ['MDC_ECG_HEART_RATE', 71.6, 900],
      ]),
      NOW,
      digits,
    );
    expect(rows.map((row) => [row.kind, row.value, row.second, row.isStale])).toEqual([
      ['heart_rate', '72', '', false],
      ['spo2', '97', '71', true],
      ['pressure', '120/75', '(90)', false],
      ['temperature', '36.8', '', false],
    ]);
  });

  it('keep the row of the heart rate while the electrodes are off', () => {
    const off = vitals('unusable', [['MDC_PULS_OXIM_SAT_O2', 97, 0]]);
    expect(numerics(off, NOW, digits, true).map((row) => [row.kind, row.value])).toEqual([
      ['heart_rate', '–'],
      ['spo2', '97'],
    ]);
    expect(numerics(off, NOW, digits)).toHaveLength(1);
  });

  it('do not show the rate of an unusable ECG', () => {
    expect(numerics(vitals('unusable', [['MDC_ECG_HEART_RATE', 71.6, 0]]), NOW, digits)[0]?.value).toBe('–');
  });
});

describe('channels', () => {
  it('are ordered with lead II first', () => {
    const channel = (label: string, code: string): Channel => ({
      label,
      code,
      unit: 'mV',
      rate: { numerator: 250, denominator: 1 },
      scale: 1,
      offset: 0,
    });
    const all = [
      channel('Pleth', 'MDC_PULS_OXIM_PLETH'),
      channel('V1', 'MDC_ECG_LEAD_V1'),
      channel('Resp', 'MDC_TTHOR_RESP_RATE'),
      channel('II', 'MDC_ECG_LEAD_II'),
    ];
    expect(all.sort(compareChannels).map((one) => one.label)).toEqual(['II', 'V1', 'Pleth', 'Resp']);
    expect(kindOf('MDC_PRESS_BLD_ART')).toBe('pressure');
  });
});

import { describe, expect, it } from 'vitest';
import { numericRows } from '../src/api/numerics';
import { rateCondition, storedCondition, valueTime } from '../src/api/readings';
import type { PatientSummary, Vitals, Ward } from '../src/api/types.gen';
import { gridOf } from '../src/overview/grid';
import { byBed, matches, sorted } from '../src/overview/order';
import { href, parseRoute } from '../src/router';

const NOW = Date.parse('2026-03-14T15:00:00.000Z');
const at = (age: number): string => new Date(NOW - age).toISOString();
const patient = (mrn: number, name?: string): PatientSummary => ({
  mrn,
  version: 1,
  created_at: at(0),
  updated_at: at(0),
  ...(name === undefined ? {} : { name }),
});

describe('tiles', () => {
  it('have a fixed order by name or number, and by severity if it is chosen', () => {
    const patients = [patient(3, 'berta'), patient(2), patient(1, 'Ärna'), patient(4, 'Anna')];
    const severity = (mrn: number) => (mrn === 2 ? ('high' as const) : mrn === 3 ? ('technical' as const) : undefined);
    const order = (by: 'name' | 'number' | 'severity') => sorted(patients, by, severity).map(({ mrn }) => mrn);
    expect(order('name')).toEqual([4, 1, 3, 2]);
    expect(order('number')).toEqual([1, 2, 3, 4]);
    expect(order('severity')).toEqual([2, 3, 4, 1]);
  });

  it('by bed have the order of the wards, with empty beds, and patients without a bed come last', () => {
    const bed = (name: string, occupant?: number) => ({ id: name, name, ...(occupant === undefined ? {} : { occupant }) });
    const ward = (name: string, ...beds: Ward['beds']): Ward => ({ id: name, name, version: 1, beds });
    const inBed = (mrn: number, name: string, of: string): PatientSummary => ({
      ...patient(mrn, name),
      admission: { id: 's', ward: 'w', ward_name: 'w', bed: of, bed_name: of, admitted_at: at(0) },
    });
    // Bed N1 still names patient 3, who has left it; patient 9 is of a ward that is not accessible.
    const wards = [ward('North', bed('N1', 3), bed('N2', 1), bed('N3', 9)), ward('South', bed('S1', 2), bed('S2'))];
    const patients = [patient(4, 'Zoe'), inBed(2, 'Bob', 'S1'), patient(3, 'Carl'), inBed(1, 'Ann', 'N2')];
    const known = new Set([1, 2, 3, 4]);
    const places = byBed(wards, patients, (mrn) => known.has(mrn));
    expect(places.map((place) => (place.kind === 'patient' ? place.patient.mrn : place.bed.name))).toEqual([
      'N1', 1, 2, 'S2', 3, 4,
    ]);
  });

  it('are found by a part of the name or number', () => {
    expect(matches(patient(42, 'Müller'), ' mÜL ')).toBe(true);
    expect(matches(patient(42), '2')).toBe(true);
    expect(matches(patient(42, 'Müller'), 'x')).toBe(false);
  });

  it('fill the page, and scroll if they would be unreadable', () => {
    const full = gridOf(16, 1440, 780, 16);
    expect(full.columns * Math.ceil(16 / full.columns)).toBeGreaterThanOrEqual(16);
    expect(Math.ceil(16 / full.columns) * (full.tileHeight + 6)).toBeLessThanOrEqual(786);
    expect(gridOf(16, 390, 700, 16)).toEqual({ columns: 1, tileHeight: 104 });
    expect(gridOf(300, 1440, 780, 16).tileHeight).toBe(104);
  });
});

describe('readings', () => {
  it('outside of the limits have the severity of the monitor app', () => {
    const severities = [34, 35, 49, 50, 120, 121, 150, 151].map((bpm) => rateCondition(bpm)?.severity);
    expect(severities).toEqual(['high', 'medium', 'medium', undefined, undefined, 'medium', 'medium', 'high']);
    expect(rateCondition(160)).toMatchObject({ sign: '>', limit: 150 });
    expect(rateCondition(40)).toMatchObject({ sign: '<', limit: 50 });
  });

  it('of a newer ECG without a rate are technical, and pending ones change nothing', () => {
    const rate = { id: 'r', bpm: 130, at: at(9_000), source: 'ecg' as const, clock_wrong: false, upload_version: 1 };
    const ecg = { id: 'e', at: at(0), clock_wrong: false, upload_version: 2 };
    const of = (status: 'pending' | 'failed' | 'analyzed') =>
      storedCondition({ ...patient(1), latest_heart_rate: rate, latest_ecg: { ...ecg, status } } as PatientSummary);
    expect(of('pending')).toBe('pending');
    expect(of('failed')).toMatchObject({ severity: 'technical', kind: 'unreadable' });
    expect(of('analyzed')).toMatchObject({ kind: 'no-rate' });
  });

  it('of the future have no age', () => {
    expect(valueTime({ at: at(-6_000), recorded_at: at(-6_000) }, NOW)).toEqual({ kind: 'clock-wrong' });
    expect(valueTime({ at: at(5_000) }, NOW)).toEqual({ kind: 'received', at: NOW - 5_000 });
  });
});

describe('numerics', () => {
  it('have a fixed order, and old values are stale', () => {
    const values: [string, number, number][] = [
      ['MDC_TEMP_BODY', 36.84, 0],
      ['MDC_PRESS_BLD_NONINV_DIA', 75, 400_000],
      ['MDC_PRESS_BLD_NONINV_SYS', 120.4, 400_000],
      ['MDC_PRESS_BLD_NONINV_MEAN', 90, 400_000],
      ['MDC_PULS_OXIM_SAT_O2', 97, 11_000],
      ['MDC_ECG_HEART_RATE', 71.6, 900],
    ];
    const vitals: Vitals = {
      mrn: 1,
      time: at(0),
      quality: 'good',
      source: 'analysis',
      lead_off: [],
      values: values.map(([code, value, age]) => ({ code, value, unit: '', time: at(age) })),
    };
    const rows = numericRows(vitals, NOW, (value, digits) => value.toFixed(digits)).map((row) => [row.kind, row.value, row.second, row.isStale]);
    expect(rows).toEqual([
      ['heart-rate', '72', '', false],
      ['spo2', '97', '', true],
      ['pressure', '120/75', '(90)', false],
      ['temp', '36.8', '', false],
    ]);
    expect(numericRows({ ...vitals, quality: 'unusable' }, NOW, (value, digits) => value.toFixed(digits))[0]?.value).toBe('–');
  });
});

describe('addresses', () => {
  it('are parsed, and invalid record numbers are unknown pages', () => {
    expect(parseRoute('')).toEqual({ page: 'overview' });
    expect(parseRoute('#/patients/0')).toEqual({ page: 'patient', mrn: 0 });
    expect(parseRoute('#/patients/9007199254740991')).toEqual({ page: 'patient', mrn: Number.MAX_SAFE_INTEGER });
    for (const wrong of ['#/patients', '#/patients/', '#/patients/-1', '#/patients/9007199254740992', '#/x', '#/patients/1/2']) {
      expect(parseRoute(wrong), wrong).toEqual({ page: 'unknown' });
    }
    expect(href({ page: 'upload', mrn: 7 })).toBe('#/upload/7');
  });
});

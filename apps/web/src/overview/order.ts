// The order of the tiles.

import type { AlarmPriority, Bed, PatientSummary, Ward } from '../api/types.gen';
import { isEmpty, occupants } from '../api/wards';

/** Severity of an alarm. */
export type Severity = AlarmPriority;

/** `bed`: by ward and bed, with empty beds. Patients without a bed come last, by name. */
export type TileOrder = 'bed' | 'name' | 'number' | 'severity';

/** Maximum number of tiles. With more patients, the tiles are ordered by severity, so that no severe one is left out. */
export const MAX_TILES = 400;

const RANK: Record<Severity, number> = { high: 4, medium: 3, low: 2, technical: 1 };
const STORED = 'bedside.order';
const STORED_WARD = 'bedside.ward';

export function storedOrder(): TileOrder {
  const stored = localStorage.getItem(STORED);
  return stored === 'name' || stored === 'number' || stored === 'severity' ? stored : 'bed';
}

export function storeOrder(order: TileOrder): void {
  localStorage.setItem(STORED, order);
}

/** The ward that the overview shows: its id, `none` for patients without a bed, or empty for all. */
export function storedWard(): string {
  return localStorage.getItem(STORED_WARD) ?? '';
}

export function storeWard(ward: string): void {
  if (ward === '') localStorage.removeItem(STORED_WARD);
  else localStorage.setItem(STORED_WARD, ward);
}

/** What a place of the grid shows. */
export type Place = { kind: 'patient'; patient: PatientSummary } | { kind: 'empty'; ward: Ward; bed: Bed };

/** The patients in the order of wards and beds, with the empty beds, and then the patients without a bed. */
export function byBed(wards: Ward[], patients: PatientSummary[], known: (mrn: number) => boolean): Place[] {
  const occupied = occupants(patients);
  const placed = new Set<number>();
  const places: Place[] = [];
  for (const ward of wards) {
    for (const bed of ward.beds) {
      const patient = occupied.get(bed.id);
      if (patient !== undefined) {
        placed.add(patient.mrn);
        places.push({ kind: 'patient', patient });
      } else if (isEmpty(bed, occupied, known)) {
        places.push({ kind: 'empty', ward, bed });
      }
    }
  }
  const others = patients.filter((patient) => !placed.has(patient.mrn));
  return [...places, ...sorted(others, 'name', () => undefined).map((patient) => ({ kind: 'patient' as const, patient }))];
}

/** Sorts patients. Patients without a name come last. */
export function sorted(
  patients: PatientSummary[],
  order: TileOrder,
  severity: (mrn: number) => Severity | undefined,
): PatientSummary[] {
  const rank = (patient: PatientSummary) => {
    const of = severity(patient.mrn);
    return of === undefined ? 0 : RANK[of];
  };
  const byName = new Intl.Collator(undefined, { sensitivity: 'base', numeric: true });
  const names = (one: PatientSummary, other: PatientSummary) => {
    if (!one.name || !other.name) return Number(!one.name) - Number(!other.name);
    return byName.compare(one.name, other.name);
  };
  return [...patients].sort((one, other) => {
    if (order === 'severity') {
      const difference = rank(other) - rank(one);
      if (difference !== 0) return difference;
    }
    return (order === 'number' ? 0 : names(one, other)) || one.mrn - other.mrn;
  });
}

/** Whether a search text is part of the name or of the number. */
export function matches(patient: PatientSummary, search: string): boolean {
  const text = search.trim().toLocaleLowerCase();
  return (
    text === '' || String(patient.mrn).includes(text) || (patient.name ?? '').toLocaleLowerCase().includes(text)
  );
}

// The order of the tiles.

import type { AlarmPriorityName } from '../alarm/types';
import type { PatientSummary } from '../api/types.gen';

/** Severity of an alarm. */
export type Severity = AlarmPriorityName;

export type TileOrder = 'name' | 'number' | 'severity';

/** Maximum number of tiles. With more patients, the tiles are ordered by severity, so that no severe one is left out. */
export const MAX_TILES = 400;

const RANK: Record<Severity, number> = { high: 4, medium: 3, low: 2, technical: 1 };
const STORED = 'bedside.order';

export function storedOrder(): TileOrder {
  const stored = localStorage.getItem(STORED);
  return stored === 'number' || stored === 'severity' ? stored : 'name';
}

export function storeOrder(order: TileOrder): void {
  localStorage.setItem(STORED, order);
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

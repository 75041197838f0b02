// The wards with their beds, kept current by the events of the server.
//
// Where a patient is comes from the patient: it is as new as all else that the page shows of the patient.

import { Cell } from './cell';
import { getJson, type PageOf } from './client';
import { feed } from './events';
import type { Bed, PatientSummary, Ward } from './types.gen';

const RETRY_MS = 5_000;
const cell = new Cell<Ward[]>([]);
const failure = new Cell<unknown>(undefined);
let followers = 0;
let stop: (() => void) | undefined;
let retry: ReturnType<typeof setTimeout> | undefined;
let loads = 0;

export const wards = {
  /** In the order of the server. Empty without wards. */
  get all(): Ward[] {
    return cell.value;
  },
  /** Why the wards cannot be loaded. */
  get error(): unknown {
    return failure.value;
  },
  async load(): Promise<void> {
    const load = ++loads;
    clearTimeout(retry);
    try {
      const { items } = await getJson<PageOf<Ward>>('/api/v1/wards');
      if (load !== loads) return;
      cell.value = items;
      failure.value = undefined;
    } catch (error) {
      if (load !== loads) return;
      failure.value = error;
      if (followers > 0) retry = setTimeout(() => void wards.load(), RETRY_MS);
    }
  },
  /** Keeps the wards current until the returned function is called. To be called in an effect. */
  follow(): () => void {
    followers += 1;
    if (followers === 1) {
      stop = feed.followSystem((event) => {
        if (event === undefined || event.event === 'wards') void wards.load();
      });
      void wards.load();
    }
    return () => {
      followers -= 1;
      if (followers > 0) return;
      stop?.();
      clearTimeout(retry);
      loads += 1;
      cell.value = [];
    };
  },
};

/** The patients by bed. */
export function occupants(patients: Iterable<PatientSummary>): Map<string, PatientSummary> {
  const found = new Map<string, PatientSummary>();
  for (const patient of patients) if (patient.admission) found.set(patient.admission.bed, patient);
  return found;
}

/** Whether nobody is in the bed. A patient who is not accessible occupies it, too. */
export function isEmpty(bed: Bed, occupied: Map<string, PatientSummary>, known: (mrn: number) => boolean): boolean {
  if (occupied.has(bed.id)) return false;
  return bed.occupant === undefined || bed.occupant === null || known(bed.occupant);
}

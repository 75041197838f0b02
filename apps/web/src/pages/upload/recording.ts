// The recording time of the selected ECGs: as the user enters it, else as the files state it, else the time of selection.

/** The recording time that the selected ECGs suggest. Times in milliseconds since 1970. */
export type Suggestion =
  | { type: 'no-ecg' }
  /** All files state this time. */
  | { type: 'stated'; at: number }
  /** No file states a time. The first one was selected at this time, by the clock of this device. */
  | { type: 'selected'; at: number }
  /** The files state different times, or only some of them state one. */
  | { type: 'conflicting' };

/** The time that several ECGs suggest; for each ECG, when it was selected and when it was recorded according to its file. */
export function suggestion(ecgs: { selectedAt: number; statedAt: number | undefined }[]): Suggestion {
  const first = ecgs[0];
  if (first === undefined) return { type: 'no-ecg' };
  if (ecgs.some((ecg) => ecg.statedAt !== first.statedAt)) return { type: 'conflicting' };
  if (first.statedAt !== undefined) return { type: 'stated', at: first.statedAt };
  // The earliest time: a value must not look younger than it is.
  return { type: 'selected', at: Math.min(...ecgs.map((ecg) => ecg.selectedAt)) };
}

/** A time for an input of type `datetime-local`: `2026-03-14T15:09:26`, local. */
export function inputValue(ms: number): string {
  const at = new Date(ms);
  const two = (value: number) => String(value).padStart(2, '0');
  const date = `${String(at.getFullYear()).padStart(4, '0')}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${date}T${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

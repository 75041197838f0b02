// Short messages about what the user has done. Anything that needs attention later is shown on the page instead.

import { Cell } from '../api/cell';

export type Tone = 'info' | 'ok' | 'danger';

export interface ToastMessage {
  id: number;
  text: string;
  tone: Tone;
}

const SHOWN_MS = 6_000;
const MAX_TOASTS = 4;
const cell = new Cell<ToastMessage[]>([]);
let nextId = 0;

export const toasts = {
  get all(): ToastMessage[] {
    return cell.value;
  },
  /** Shows a message. Failures stay until they are closed. */
  show(text: string, tone: Tone = 'info'): void {
    const id = nextId++;
    cell.value = [...cell.peek(), { id, text, tone }].slice(-MAX_TOASTS);
    if (tone !== 'danger') setTimeout(() => toasts.close(id), SHOWN_MS);
  },
  close(id: number): void {
    cell.value = cell.peek().filter((toast) => toast.id !== id);
  },
};

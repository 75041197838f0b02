// Signs a user out who has not used the page for as long as the server allows sessions to be idle.
//
// The server counts an open event stream as use, therefore a page that nobody uses would never end. A viewer stays signed in: wall
// screens have this role. All tabs of a browser share their session, and the time of the last use.

import { Cell } from '../api/cell';
import { now } from '../api/clock';
import { session } from '../api/session';

/** Time before the end at which the user is warned, in milliseconds. At most a third of the time that is allowed. */
const WARNING_MS = 60_000;
const STORED = 'bedside.used';

const warning = new Cell<number | undefined>(undefined);

export const idle = {
  /** When the user is signed out, in milliseconds of `Date.now()`, if that is soon. */
  get endsAt(): number | undefined {
    return warning.value;
  },
};

/** Milliseconds without use after which the user is signed out. */
function allowedMs(): number | undefined {
  const { state } = session;
  if (state.state !== 'signed-in' || !state.canSignOut || state.session.role === 'viewer') return undefined;
  const seconds = state.session.idle_s;
  return typeof seconds === 'number' ? seconds * 1000 : undefined;
}

/** Watches the use of the page. To be called in an effect. Returns a function that ends this. */
export function watchIdle(): (() => void) | undefined {
  const allowed = allowedMs();
  if (allowed === undefined) return undefined;
  const used = () => localStorage.setItem(STORED, String(Date.now()));
  let ending = false;
  const check = () => {
    const endsAt = Number(localStorage.getItem(STORED) ?? Date.now()) + allowed;
    const left = endsAt - Date.now();
    warning.value = left <= Math.min(WARNING_MS, allowed / 3) ? endsAt : undefined;
    if (left > 0 || ending) return;
    ending = true;
    void session.endIdle();
  };
  used();
  const timer = setInterval(check, 1_000);
  const events = ['pointerdown', 'pointermove', 'keydown', 'wheel', 'touchstart'] as const;
  let last = 0;
  const moved = () => {
    // A pointer sends many events.
    if (Date.now() - last < 500) return;
    last = Date.now();
    used();
    warning.value = undefined;
  };
  for (const type of events) window.addEventListener(type, moved, { capture: true, passive: true });
  return () => {
    clearInterval(timer);
    for (const type of events) window.removeEventListener(type, moved, { capture: true });
    warning.value = undefined;
  };
}

/** Seconds until the user is signed out, if that is soon. */
export function secondsLeft(): number | undefined {
  now();
  const { endsAt } = idle;
  return endsAt === undefined ? undefined : Math.max(0, Math.ceil((endsAt - Date.now()) / 1000));
}

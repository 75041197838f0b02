// Tells the user that the page was in the background, and loads what it missed.
//
// Browsers slow a hidden tab down or stop it. What it shows when it returns may be old.

import { Cell } from '../api/cell';
import { serverClock } from '../api/clock';
import { feed } from '../api/events';
import { live } from '../api/live';

/** Time in the background from which on the user is told, in milliseconds. */
const MIN_HIDDEN_MS = 5_000;

export interface HiddenPeriod {
  /** Server time in milliseconds since 1970. */
  from: number;
  to: number;
}

const period = new Cell<HiddenPeriod | undefined>(undefined);
let hiddenSince: number | undefined;

/** The last period in the background that the user has not dismissed. */
export const visibility = {
  get period(): HiddenPeriod | undefined {
    return period.value;
  },
  dismiss(): void {
    period.value = undefined;
  },
};

function changed(): void {
  if (document.visibilityState === 'hidden') {
    hiddenSince ??= serverClock.nowMs();
    return;
  }
  const from = hiddenSince;
  hiddenSince = undefined;
  if (from === undefined) return;
  const to = serverClock.nowMs();
  live.refresh();
  // A failure is visible by the state of the feed, which tries again.
  feed.refresh().catch(() => undefined);
  if (to - from >= MIN_HIDDEN_MS) period.value = { from: period.peek()?.from ?? from, to };
}

/** Watches until the returned function is called. */
export function watchVisibility(): () => void {
  document.addEventListener('visibilitychange', changed);
  const online = () => {
    live.refresh();
    feed.refresh().catch(() => undefined);
  };
  window.addEventListener('online', online);
  return () => {
    document.removeEventListener('visibilitychange', changed);
    window.removeEventListener('online', online);
  };
}

// The address of a page is in the fragment of the URL: `#/patients/7`.

import { createSubscriber } from 'svelte/reactivity';

export type Route =
  | { page: 'overview' }
  | { page: 'patient'; mrn: number }
  | { page: 'upload'; mrn?: number }
  | { page: 'alarms' }
  | { page: 'wards' }
  | { page: 'audit' }
  | { page: 'admin' }
  | { page: 'about' }
  /** `failed`: why a login at the provider of the site did not succeed. */
  | { page: 'login'; failed?: 'denied' | 'failed' }
  | { page: 'unknown' };

/** Parses a record number: a whole number from 0 to 2^53 - 1 in decimal digits. */
export function parseMrn(text: string): number | undefined {
  if (!/^\d{1,16}$/.test(text)) return undefined;
  const mrn = Number(text);
  return Number.isSafeInteger(mrn) ? mrn : undefined;
}

/** Parses the fragment of a URL. */
export function parseRoute(hash: string): Route {
  const [page = '', id, ...rest] = hash.replace(/^#\/?/, '').split('/');
  if (rest.length > 0) return { page: 'unknown' };
  if (id !== undefined) {
    if (page === 'login' && (id === 'denied' || id === 'failed')) return { page, failed: id };
    const mrn = parseMrn(id);
    if (mrn === undefined) return { page: 'unknown' };
    if (page === 'patients') return { page: 'patient', mrn };
    if (page === 'upload') return { page: 'upload', mrn };
    return { page: 'unknown' };
  }
  switch (page) {
    case '':
      return { page: 'overview' };
    case 'upload':
    case 'alarms':
    case 'wards':
    case 'audit':
    case 'admin':
    case 'about':
    case 'login':
      return { page };
    default:
      return { page: 'unknown' };
  }
}

/** The fragment of a route, for links. */
export function href(route: Route): string {
  switch (route.page) {
    case 'overview':
    case 'unknown':
      return '#/';
    case 'patient':
      return `#/patients/${route.mrn}`;
    case 'upload':
      return route.mrn === undefined ? '#/upload' : `#/upload/${route.mrn}`;
    default:
      return `#/${route.page}`;
  }
}

const subscribe = createSubscriber((update) => {
  window.addEventListener('hashchange', update);
  return () => window.removeEventListener('hashchange', update);
});

/** The current route. Reading it in an effect or a template subscribes to changes. */
export const router = {
  get route(): Route {
    subscribe();
    return parseRoute(window.location.hash);
  },
  go(route: Route): void {
    window.location.hash = href(route);
  },
};

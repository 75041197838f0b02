// The session of the user.
//
// The secret of a session is in a cookie that no script can read. The page knows the name, the role and the value that requests
// need if they change something; it keeps none of them. Without tokens and accounts, everybody on the machine of the server is the
// client `local` with the role `admin`, and nobody signs in.

import { Cell } from './cell';
import { ApiError, getJson, onRejected, request, setCsrf } from './client';
import type { Grant, LoginMethods, LoginRequest, Session } from './types.gen';

export type SessionState =
  | { state: 'loading' }
  | { state: 'signed-in'; session: Session; canSignOut: boolean }
  | { state: 'signed-out'; login: LoginMethods; why: SignedOut }
  | { state: 'unreachable'; error: ApiError };

/** Why nobody is signed in. `ended`: the server has ended the session. `idle`: nobody used the page for some time. */
export type SignedOut = 'none' | 'ended' | 'idle' | 'signed-out';

const cell = new Cell<SessionState>({ state: 'loading' });

/** What a user may do, by role. The same as in the gateway. */
export type Ability = 'read' | 'upload' | 'care' | 'ward-limits' | 'operate' | 'audit' | 'administer';

const ABILITIES: Record<string, Ability[]> = {
  admin: ['read', 'upload', 'care', 'ward-limits', 'operate', 'audit', 'administer'],
  physician: ['read', 'upload', 'care', 'ward-limits'],
  nurse: ['read', 'upload', 'care'],
  viewer: ['read'],
  uploader: ['upload'],
  technician: ['operate'],
  auditor: ['audit'],
  device: [],
};

export const session = {
  get state(): SessionState {
    return cell.value;
  },

  /** Whether the user may do something. A role that this page does not know may do nothing: the server decides. */
  may(ability: Ability): boolean {
    const current = cell.value;
    if (current.state !== 'signed-in') return false;
    return (ABILITIES[current.session.role] ?? []).includes(ability);
  },

  /** Whether the user may access only the patients of some wards. */
  get isLimited(): boolean {
    const current = cell.value;
    return current.state === 'signed-in' && Array.isArray(current.session.wards);
  },

  /** Whether the user can ask for access to a patient of another ward: a person who cares for patients. */
  get mayAskForAccess(): boolean {
    const current = cell.value;
    return session.isLimited && session.may('care') && current.state === 'signed-in' && current.session.via !== 'token';
  },

  /** The patients of other wards whom the user may access for now. */
  get emergency(): Grant[] {
    const current = cell.value;
    return current.state === 'signed-in' ? (current.session.emergency ?? []) : [];
  },

  /** Asks for access to a patient of another ward in an emergency. */
  async access(mrn: number, reason: string): Promise<void> {
    await request(`/api/v1/patients/${mrn}/break-glass`, { method: 'POST', json: { reason } });
    otherTabs.postMessage('none');
    await session.load();
  },

  /** Loads the session. `why` is the reason if there is none. */
  async load(why?: SignedOut): Promise<void> {
    try {
      take(await getJson<Session>('/api/v1/session'));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      // Several requests may find out at the same time.
      const before = cell.peek();
      if (error.isUnauthorized && error.problem?.login) {
        setCsrf(undefined);
        const known = before.state === 'signed-in' ? 'ended' : before.state === 'signed-out' ? before.why : 'none';
        cell.value = { state: 'signed-out', login: error.problem.login, why: why ?? known };
      } else if (before.state !== 'signed-in') {
        cell.value = { state: 'unreachable', error };
      }
    }
  },

  async signIn(credentials: LoginRequest): Promise<void> {
    take(await getJson<Session>('/api/v1/session', { method: 'POST', json: credentials }));
    otherTabs.postMessage('none');
  },

  /** Ends the session here and at the server. */
  async signOut(why: SignedOut = 'signed-out'): Promise<void> {
    await request('/api/v1/session', { method: 'DELETE' });
    otherTabs.postMessage(why);
    await session.load(why);
  },

  /** Ends the session because nobody uses the page. Without a connection, the page hides everything, too. */
  async endIdle(): Promise<void> {
    try {
      await session.signOut('idle');
    } catch {
      const { state } = session;
      // At the server, the session ends by itself: it is not used any more.
      if (state.state === 'signed-in') cell.value = { state: 'signed-out', login: state.session.login, why: 'idle' };
    }
  },
};

// All tabs of a browser have one cookie, and therefore one session.
const otherTabs = new BroadcastChannel('bedside.session');
otherTabs.addEventListener('message', ({ data }) => void session.load(data as SignedOut));

function take(loaded: Session): void {
  setCsrf(loaded.csrf ?? undefined);
  const before = cell.peek();
  // What is shown does not change if the session is the same.
  if (before.state === 'signed-in' && JSON.stringify(before.session) === JSON.stringify(loaded)) return;
  cell.value = { state: 'signed-in', session: loaded, canSignOut: typeof loaded.csrf === 'string' };
}

onRejected(() => {
  if (cell.peek().state === 'signed-in') void session.load();
});

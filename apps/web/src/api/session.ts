// The session of the user.
//
// A gateway without tokens has no sessions: everybody on its machine is the client `local` with the role `admin`.

import { Cell } from './cell';
import { ApiError, getJson, onUnauthorized, request, setCsrf, type LoginMethods } from './client';

/** The user, as `GET /api/v1/session` returns it. */
export interface Session {
  name: string;
  display_name?: string;
  role: string;
  wards?: string[] | null;
  expires_at?: string | null;
  csrf?: string | null;
  login?: LoginMethods;
}

export type SessionState =
  | { state: 'loading' }
  | { state: 'signed-in'; session: Session; canSignOut: boolean }
  | { state: 'signed-out'; login: LoginMethods; hasEnded: boolean }
  /** The gateway requires a token, but does not know sessions. */
  | { state: 'unsupported' }
  | { state: 'unreachable'; error: ApiError };

const LOCAL: Session = { name: 'local', role: 'admin' };
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

  /** Whether the user may do something. A role that this page does not know may only read. */
  may(ability: Ability): boolean {
    const current = cell.value;
    if (current.state !== 'signed-in') return false;
    return (ABILITIES[current.session.role] ?? ['read']).includes(ability);
  },

  /** Loads the session. */
  async load(): Promise<void> {
    const hasEnded = cell.peek().state === 'signed-in';
    try {
      take(await getJson<Session>('/api/v1/session'));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setCsrf(undefined);
      if (error.isUnauthorized && error.problem?.login) {
        cell.value = { state: 'signed-out', login: error.problem.login, hasEnded };
      } else if (error.status === 404 || error.isUnauthorized) {
        await withoutSessions();
      } else {
        cell.value = { state: 'unreachable', error };
      }
    }
  },

  /** Signs in with a token, or with user and password. */
  async signIn(credentials: { token: string } | { user: string; password: string }): Promise<void> {
    take(await getJson<Session>('/api/v1/session', { method: 'POST', json: credentials }));
  },

  async signOut(): Promise<void> {
    await request('/api/v1/session', { method: 'DELETE' });
    cell.value = { state: 'loading' };
    await session.load();
  },
};

function take(loaded: Session): void {
  setCsrf(loaded.csrf ?? undefined);
  cell.value = { state: 'signed-in', session: loaded, canSignOut: typeof loaded.csrf === 'string' };
}

/** The gateway has no route for sessions: without tokens, it answers anyway. */
async function withoutSessions(): Promise<void> {
  try {
    await request('/api/v1/patients?limit=1');
    cell.value = { state: 'signed-in', session: LOCAL, canSignOut: false };
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    cell.value = error.isUnauthorized ? { state: 'unsupported' } : { state: 'unreachable', error };
  }
}

onUnauthorized(() => {
  if (cell.peek().state === 'signed-in') void session.load();
});

// The session of the user.
//
// The secret of a session is in a cookie that no script can read. The page knows the name, the role and the value that requests
// need if they change something; it keeps none of them. Without tokens and accounts, everybody on the machine of the server is the
// client `local` with the role `admin`, and nobody signs in.

import { Cell } from './cell';
import { ApiError, getJson, onRejected, request, setCsrf } from './client';
import { serverClock } from './clock';
import type { Grant, LoginMethods, LoginRequest, Session } from './types.gen';

export type SessionState =
  | { state: 'loading' }
  | { state: 'signed-in'; session: Session; canSignOut: boolean }
  | { state: 'signed-out'; login: LoginMethods; why: SignedOut }
  | { state: 'unreachable'; error: ApiError };

/** Why nobody is signed in. `ended`: the server has ended the session. `idle`: nobody used the page for some time. */
export type SignedOut = 'none' | 'ended' | 'idle' | 'signed-out';

const cell = new Cell<SessionState>({ state: 'loading' });
/** The number of loads and logins: a response that is overtaken is dropped. */
let loads = 0;
/** Why the user signs out, until the server has answered. */
let signingOut: SignedOut | undefined;

/** Time for which a new emergency access is kept although a gateway does not state it, in milliseconds: gateways learn it within 2 s. */
const NEW_GRANT_MS = 10_000;
let newGrants: { grant: Grant; at: number }[] = [];

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

  /** How long an emergency access lasts, in seconds. `undefined`: a server of an earlier version does not state it. */
  get accessSeconds(): number | undefined {
    const current = cell.value;
    return current.state === 'signed-in' ? (current.session.emergency_access_s ?? undefined) : undefined;
  },

  /** Asks for access to a patient of another ward in an emergency. */
  async access(mrn: number, reason: string): Promise<void> {
    const grant = await getJson<Grant>(`/api/v1/patients/${mrn}/break-glass`, { method: 'POST', json: { reason } });
    add(grant);
    tell({ grant });
  },

  /** Removes the emergency accesses that have ended. Returns their patients. */
  endAccess(): number[] {
    const current = cell.peek();
    if (current.state !== 'signed-in') return [];
    const left = valid(current.session.emergency ?? []);
    const ended = (current.session.emergency ?? []).filter((grant) => !left.includes(grant));
    if (ended.length > 0) cell.value = { ...current, session: { ...current.session, emergency: left } };
    return ended.map(({ mrn }) => mrn);
  },

  /** Loads the session. `why` is the reason if there is none. */
  async load(why?: SignedOut): Promise<void> {
    const load = ++loads;
    signingOut = why ?? signingOut;
    try {
      const loaded = await getJson<Session>('/api/v1/session');
      if (load === loads) take(loaded);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (load !== loads) return;
      // Several requests may find out at the same time.
      const before = cell.peek();
      if (error.isUnauthorized && error.problem?.login) {
        setCsrf(undefined);
        const known = before.state === 'signed-in' ? 'ended' : before.state === 'signed-out' ? before.why : 'none';
        cell.value = { state: 'signed-out', login: error.problem.login, why: signingOut ?? known };
      } else if (before.state !== 'signed-in') {
        cell.value = { state: 'unreachable', error };
      }
    }
  },

  async signIn(credentials: LoginRequest): Promise<void> {
    const signedIn = await getJson<Session>('/api/v1/session', { method: 'POST', json: credentials });
    loads += 1;
    take(signedIn);
    tell({ why: 'none' });
  },

  /** Ends the session here and at the server. */
  async signOut(why: SignedOut = 'signed-out'): Promise<void> {
    await request('/api/v1/session', { method: 'DELETE' });
    tell({ why });
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
/** Another tab has signed in or out, or has an emergency access. */
type Message = { why: SignedOut } | { grant: Grant };
const tell = (message: Message): void => otherTabs.postMessage(message);
otherTabs.addEventListener('message', ({ data }: MessageEvent<Message>) => {
  if ('grant' in data) add(data.grant);
  else void session.load(data.why);
});

/** The accesses that have not ended. */
const valid = (grants: Grant[]): Grant[] => grants.filter(({ until }) => Date.parse(until) > serverClock.nowMs());

/** Adds accesses to those of a session; a later access to the same patient replaces the former one. */
function joined(grants: Grant[], more: Grant[]): Grant[] {
  return valid([...grants.filter(({ mrn }) => !more.some((grant) => grant.mrn === mrn)), ...more]);
}

function add(grant: Grant): void {
  const current = cell.peek();
  if (current.state !== 'signed-in') return;
  newGrants = [...newGrants.filter(({ grant: { mrn } }) => mrn !== grant.mrn), { grant, at: performance.now() }];
  cell.value = { ...current, session: { ...current.session, emergency: joined(current.session.emergency ?? [], [grant]) } };
}

function take(answer: Session): void {
  setCsrf(answer.csrf ?? undefined);
  signingOut = undefined;
  const before = cell.peek();
  const isSame = before.state === 'signed-in' && before.session.name === answer.name;
  // The gateway that answers may not know the newest access yet.
  newGrants = isSame ? newGrants.filter(({ at }) => performance.now() - at < NEW_GRANT_MS) : [];
  const emergency = joined(answer.emergency ?? [], newGrants.map(({ grant }) => grant));
  const loaded = { ...answer, emergency };
  // What is shown does not change if the session is the same.
  if (before.state === 'signed-in' && JSON.stringify(before.session) === JSON.stringify(loaded)) return;
  cell.value = { state: 'signed-in', session: loaded, canSignOut: typeof loaded.csrf === 'string' };
}

onRejected(() => {
  if (cell.peek().state === 'signed-in') void session.load();
});

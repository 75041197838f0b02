// The storage of the outbox: IndexedDB of this browser.
//
// Every write waits until it is durable (`durability: 'strict'`). Files are stored as copies, so a file that the user changes
// or removes later does not matter.

/** A file of an upload. */
export interface OutboxFile {
  kind: 'medical_image' | 'ecg';
  name: string;
  blob: Blob;
}

/** What the preview found in an ECG. */
export interface Previewed {
  name: string;
  /** Mean heart rate in beats per minute; `null`: none found; `undefined`: there was no preview. */
  bpm: number | null | undefined;
}

/** An upload that waits until the gateway has accepted it. */
export interface OutboxEntry {
  /** Sorts by the time of creation. */
  id: string;
  /** The idempotency key. The gateway stores the upload once, however often it is sent. */
  key: string;
  /** Name of the user. The gateway's key is per user, so nobody else sends this upload. */
  owner: string;
  mrn: number;
  name?: string;
  rename: boolean;
  /** Recording time in milliseconds since 1970. */
  recordedAt?: number;
  /** The recording time is by the clock of this device and is corrected before the first attempt. */
  byThisDevice: boolean;
  sampleRate?: number;
  lead?: string;
  files: OutboxFile[];
  /** One entry for each ECG. */
  previews: Previewed[];
  createdAt: number;
  /** Why the gateway rejects the upload. It is not sent again before the user acts. */
  rejected?: { reason: string; nameDiffers: boolean };
}

const NAME = 'bedside-outbox';
const STORE = 'uploads';

let opened: Promise<IDBDatabase> | undefined;

function open(): Promise<IDBDatabase> {
  opened ??= new Promise<IDBDatabase>((resolve, reject) => {
    const opening = indexedDB.open(NAME, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: 'id' });
    opening.onsuccess = () => {
      // Another tab with a later version of this page may upgrade the database.
      opening.result.onversionchange = () => {
        opening.result.close();
        opened = undefined;
      };
      resolve(opening.result);
    };
    opening.onerror = () => {
      opened = undefined;
      reject(opening.error ?? new Error('IndexedDB cannot be opened'));
    };
  });
  return opened;
}

async function act<T>(mode: IDBTransactionMode, work: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const database = await open();
  return new Promise<T>((resolve, reject) => {
    const transaction = database.transaction(STORE, mode, { durability: 'strict' });
    const request = work(transaction.objectStore(STORE));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = () => reject(transaction.error ?? new Error('the transaction was aborted'));
  });
}

/** All entries in the order in which they are sent. */
export function readAll(): Promise<OutboxEntry[]> {
  return act<OutboxEntry[]>('readonly', (store) => store.getAll());
}

/** Adds or replaces an entry. It is durable when this returns. */
export async function write(entry: OutboxEntry): Promise<void> {
  await act('readwrite', (store) => store.put(entry));
}

/** Replaces an entry if it still exists. Returns whether it does. */
export async function change(entry: OutboxEntry): Promise<boolean> {
  const exists = (await act('readonly', (store) => store.getKey(entry.id))) !== undefined;
  if (exists) await write(entry);
  return exists;
}

/** Removes an entry with its files. */
export async function remove(id: string): Promise<void> {
  await act('readwrite', (store) => store.delete(id));
}

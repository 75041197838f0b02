// The page that was open when the user was sent to the OpenID Connect provider, which sends the browser back to the start page.
//
// The address may contain the number of a patient. It is kept for this tab alone, and until it is used or ten minutes old.

const STORED = 'bedside.return';
const MAX_AGE_MS = 10 * 60_000;

export function keepReturnAddress(): void {
  sessionStorage.setItem(STORED, `${Date.now()} ${window.location.hash}`);
}

/** The fragment of the address, once. */
export function takeReturnAddress(): string | undefined {
  const [time, address] = (sessionStorage.getItem(STORED) ?? '').split(' ');
  sessionStorage.removeItem(STORED);
  return Date.now() - Number(time) < MAX_AGE_MS && address?.startsWith('#/') ? address : undefined;
}

// Runs the outbox for the user of the page, whichever page is open.

import { untrack } from 'svelte';
import { session } from '../api/session';
import { t } from '../i18n';
import { router } from '../router';
import { toasts } from '../ui/toasts';
import { outbox } from './outbox';

/** Sends the uploads of the signed-in user. To be called in an effect. Returns a function that ends this. */
export function runOutbox(): () => void {
  const { state } = session;
  const owner = state.state === 'signed-in' && session.may('upload') ? state.session.name : undefined;
  untrack(() => outbox.run(owner));
  return outbox.listen((event) => {
    if (event.type === 'delayed' && event.error.status === 401) void session.load();
    // The upload page says more.
    if (router.route.page === 'upload') return;
    const { mrn } = event.entry;
    if (event.type === 'delivered') toasts.show(t('upload.toast_sent', { mrn }), 'ok');
    if (event.type === 'rejected') toasts.show(t('upload.toast_rejected', { mrn, reason: event.error.message }), 'danger');
  });
}

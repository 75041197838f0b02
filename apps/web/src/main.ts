import { mount } from 'svelte';
import App from './App.svelte';
import './theme.css';
import { applyTheme } from './ui/theme';

applyTheme();

const target = document.getElementById('app');
if (target === null) throw new Error('the page has no element for the app');
mount(App, { target });

if (import.meta.env.PROD && 'serviceWorker' in navigator && window.isSecureContext) {
  navigator.serviceWorker.register('/sw.js').catch((error: unknown) => console.warn('no service worker', error));
}

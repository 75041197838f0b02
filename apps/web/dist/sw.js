// Service worker: keeps the files of the page, so that it opens without a connection and says so.
//
// It never handles a request of /api: patient data is not kept on this device.

const FILES = ["/assets/About-2O5Ft0tJ.js","/assets/About-DevvViKs.css","/assets/Admin-3EU_0-3M.css","/assets/Admin-BkX-aj_E.js","/assets/Age-AzCBTrae.js","/assets/Age-BqnSRmgt.css","/assets/Alarms-CNCdsezR.js","/assets/Alarms-DxGMVhdO.css","/assets/Audit-BDhG_92b.js","/assets/Audit-DOe9YOM0.css","/assets/Notice-A9lDkaeY.css","/assets/Notice-BT6SwYg6.js","/assets/Patient-BySImB4k.js","/assets/Patient-C7Yy_dq0.css","/assets/Upload-DogbrSx8.css","/assets/Upload-qsbvE7Jo.js","/assets/Wards-1tms-70O.css","/assets/Wards-ob9Kiz29.js","/assets/index-B0WftrgU.css","/assets/index-BotNgCDr.js"];
const CACHE = 'shell';

self.addEventListener('install', (event) => {
  event.waitUntil(
    caches
      .open(CACHE)
      .then((cache) => cache.addAll(FILES))
      .then(() => self.skipWaiting()),
  );
});

self.addEventListener('activate', (event) => {
  const remove = async () => {
    const cache = await caches.open(CACHE);
    const keep = new Set(['/', ...FILES]);
    const requests = await cache.keys();
    await Promise.all(
      requests.filter((request) => !keep.has(new URL(request.url).pathname)).map((request) => cache.delete(request)),
    );
    await self.clients.claim();
  };
  event.waitUntil(remove());
});

// The page itself comes from the server while it answers, so that a new version is used at once.
async function page(request) {
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request);
    const isPage = (response.headers.get('content-type') ?? '').startsWith('text/html');
    if (response.ok && !response.redirected && isPage) await cache.put('/', response.clone());
    return response;
  } catch (error) {
    const kept = await cache.match('/');
    if (kept) return kept;
    throw error;
  }
}

async function asset(request) {
  const kept = await caches.match(request);
  return kept ?? fetch(request);
}

self.addEventListener('fetch', (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== 'GET' || url.origin !== self.location.origin) return;
  if (request.mode === 'navigate' && url.pathname === '/') event.respondWith(page(request));
  else if (FILES.includes(url.pathname)) event.respondWith(asset(request));
});

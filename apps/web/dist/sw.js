// Service worker: keeps the files of the page, so that it opens without a connection and says so.
//
// It never handles a request of /api: patient data is not kept on this device.

const FILES = ["/assets/About-Cjv7xYEv.js","/assets/About-DevvViKs.css","/assets/Admin-3EU_0-3M.css","/assets/Admin-DIXlQtOV.js","/assets/Age-BqnSRmgt.css","/assets/Age-BvQDmo72.js","/assets/Alarms-ByEOuABg.js","/assets/Alarms-DxGMVhdO.css","/assets/Audit-DOe9YOM0.css","/assets/Audit-Dh4TDDLQ.js","/assets/Notice-A9lDkaeY.css","/assets/Notice-Cq2cpb1d.js","/assets/Patient-C7Yy_dq0.css","/assets/Patient-DesGHeCh.js","/assets/Upload-CLQD2uue.js","/assets/Upload-DogbrSx8.css","/assets/Wards-1tms-70O.css","/assets/Wards-DRGECN3H.js","/assets/index-B0WftrgU.css","/assets/index-Cnuhsg-r.js"];
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

// Service worker: keeps the files of the page, so that it opens without a connection and says so.
//
// It never handles a request of /api: patient data is not kept on this device.

const FILES = ["/assets/About-DevvViKs.css","/assets/About-DzDFjP9q.js","/assets/Admin-3EU_0-3M.css","/assets/Admin-BuhSmzkd.js","/assets/Age-BEimlNx4.js","/assets/Age-BqnSRmgt.css","/assets/Alarms-BN-8Od-A.css","/assets/Alarms-DhcqmS78.js","/assets/Audit-BfpDHVLH.js","/assets/Audit-DOe9YOM0.css","/assets/Notice-A9lDkaeY.css","/assets/Notice-D0gxB5vE.js","/assets/Patient-C7Yy_dq0.css","/assets/Patient-DUUJ9Nu1.js","/assets/Upload-DogbrSx8.css","/assets/Upload-DxfCo3OV.js","/assets/Wards-1tms-70O.css","/assets/Wards-CBFY6mZp.js","/assets/index-DNXHnNVd.js","/assets/index-DoM7zsdp.css"];
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

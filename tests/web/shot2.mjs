import { System, launched, closeBrowser } from './harness.mjs';
const s = await System.start();
const c = await (await launched()).newContext({baseURL:s.url}); const p = await c.newPage();
p.on('console',m=>console.log(m.text())); p.on('pageerror',e=>console.log('ERR',e.message)); p.on('response',r=>console.log(r.status(),r.url()));
await p.goto('/'); await p.waitForTimeout(4000); console.log(await p.content());
await closeBrowser(); await s.stop(); process.exit(0);

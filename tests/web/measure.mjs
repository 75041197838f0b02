// Measures the browser page against a program of its own: frames per second of an overview with live traces, time from sample to
// pixel, heap of a large overview, and first contentful paint on slow connections.
//
//   node measure.mjs [--parts frames,delay,heap,paint] [--tiles 16] [--throttle 4] [--seconds 20]
//                    [--heap-tiles 64] [--heap-minutes 10] [--json]
//
// Settings: see harness.mjs. Measure with a release build: BEDSIDE_TEST_PROGRAMS=target/release. The frame rate is that of the
// animation frames of the page while its CPU is slowed down by `--throttle`; `slowdown` is the slowdown of a fixed amount of work. The
// time from sample to pixel is the one that the page states. Simulated patients stream on the same machine.

import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';
import { BEDSIDE, System, closeBrowser, launched } from './harness.mjs';

const { values } = parseArgs({
  options: {
    parts: { type: 'string', default: 'frames,delay,heap,paint' },
    tiles: { type: 'string', default: '16' },
    throttle: { type: 'string', default: '4' },
    seconds: { type: 'string', default: '20' },
    'heap-tiles': { type: 'string', default: '64' },
    'heap-minutes': { type: 'string', default: '10' },
    json: { type: 'boolean', default: false },
  },
});
const parts = values.parts.split(',');
const FIRST_MRN = 600_000;
/** Slow connections: that of WebPageTest, and that of the developer tools of Chromium, whose latency is added to each request. */
const CONNECTIONS = {
  'fast 3G, 150 ms, 1.6 Mbit/s': { latency: 150, downloadThroughput: 200_000, uploadThroughput: 96_000 },
  'fast 3G of the developer tools, 562 ms, 1.44 Mbit/s': { latency: 562.5, downloadThroughput: 180_000, uploadThroughput: 84_375 },
};

let system;
const streams = [];
/** The number of patients who stream. */
let streaming = 0;
function stream(patients) {
  if (patients <= streaming) return;
  const first = String(FIRST_MRN + streaming);
  const args = ['stream', '--gateway', system.gateway, '--synthetic', '--mrn', first, '--patients', String(patients - streaming)];
  streams.push(spawn(BEDSIDE, [...args, '--name', 'Measured', '--log', 'error'], { stdio: 'ignore' }));
  streaming = patients;
}

const quantile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
const round = (value, digits = 1) => Math.round(value * 10 ** digits) / 10 ** digits;

async function open(fragment, viewport) {
  const context = await (await launched()).newContext({ viewport, locale: 'en-GB' });
  const page = await context.newPage();
  const failures = [];
  page.on('pageerror', (error) => failures.push(error.message));
  await page.goto(`${system.url}/${fragment}`, { timeout: 60_000 });
  return { context, page, failures };
}

/** Counts animation frames and pauses between them in the page. */
async function frames(page, seconds) {
  return page.evaluate(
    (limit) =>
      new Promise((resolve) => {
        const gaps = [];
        const start = performance.now();
        let last = start;
        const step = (now) => {
          gaps.push(now - last);
          last = now;
          if (now - start < limit * 1000) requestAnimationFrame(step);
          else resolve({ gaps: gaps.slice(1), seconds: (now - start) / 1000 });
        };
        requestAnimationFrame(step);
      }),
    seconds,
  );
}

/** The shortest time that a fixed amount of work takes in the page, in milliseconds. */
async function work(page) {
  return page.evaluate(async () => {
    let shortest = Infinity;
    for (let attempt = 0; attempt < 9; attempt++) {
      const start = performance.now();
      let sum = 0;
      for (let step = 0; step < 3e6; step++) sum += Math.sqrt(step);
      if (sum > 0) shortest = Math.min(shortest, performance.now() - start);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return shortest;
  });
}

/** Waits until `count` canvases change within a second. */
async function moving(page, count, timeout) {
  const until = Date.now() + timeout;
  for (;;) {
    const moved = await page.evaluate(async () => {
      const sum = (canvas) => {
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width || 1, canvas.height || 1);
        let total = 0;
        for (let at = 3; at < data.length; at += 4) total += data[at] * (at % 9973);
        return total;
      };
      const all = [...document.querySelectorAll('canvas')];
      const before = all.map(sum);
      await new Promise((resolve) => setTimeout(resolve, 1000));
      return all.filter((canvas, at) => sum(canvas) !== before[at]).length;
    });
    if (moved >= count) return moved;
    if (Date.now() > until) throw new Error(`only ${moved} of ${count} traces move`);
  }
}

const measurements = {
  async frames(results) {
    const tiles = Number(values.tiles);
    stream(tiles);
    const { context, page, failures } = await open('#/', { width: 1440, height: 900 });
    results.moving = await moving(page, tiles, 60_000);
    const session = await context.newCDPSession(page);
    const unslowed = await work(page);
    await session.send('Emulation.setCPUThrottlingRate', { rate: Number(values.throttle) });
    results.slowdown = round((await work(page)) / unslowed);
    await session.send('Performance.enable');
    const before = await session.send('Performance.getMetrics');
    const { gaps, seconds } = await frames(page, Number(values.seconds));
    const after = await session.send('Performance.getMetrics');
    const metric = (from, name) => from.metrics.find((one) => one.name === name).value;
    const share = (name) => (metric(after, name) - metric(before, name)) / seconds;
    gaps.sort((one, other) => one - other);
    results.framesPerSecond = round(gaps.length / seconds);
    results.frameGapMs = { p50: round(quantile(gaps, 0.5)), p99: round(quantile(gaps, 0.99)), max: round(gaps.at(-1)) };
    results.scriptShare = round(share('ScriptDuration'), 3);
    results.taskShare = round(share('TaskDuration'), 3);
    if (failures.length > 0) throw new Error(failures[0]);
    await context.close();
  },

  async delay(results) {
    stream(1);
    const { context, page } = await open(`#/patients/${FIRST_MRN}`, { width: 1440, height: 900 });
    await page.waitForSelector('.live .foot', { timeout: 60_000 });
    await page.waitForTimeout(12_000);
    const delays = [];
    for (let count = 0; count < 40; count++) {
      const text = await page.textContent('.live .foot');
      const found = /delay ([\d,.]+) ms/.exec(text ?? '');
      if (found !== null) delays.push(Number(found[1].replace(/\D/g, '')));
      await page.waitForTimeout(250);
    }
    delays.sort((one, other) => one - other);
    results.sampleToPixelMs = { p50: quantile(delays, 0.5), max: delays.at(-1) };
    await context.close();
  },

  async heap(results) {
    const count = Number(values['heap-tiles']);
    stream(count);
    const { context, page } = await open('#/', { width: 3840, height: 2160 });
    results.heapTiles = await moving(page, count, 120_000);
    const session = await context.newCDPSession(page);
    const heap = async () => {
      await session.send('HeapProfiler.collectGarbage');
      const { usedSize, embedderHeapUsedSize = 0, backingStorageSize = 0 } = await session.send('Runtime.getHeapUsage');
      return round((usedSize + embedderHeapUsedSize + backingStorageSize) / 1e6);
    };
    results.heapMb = [await heap()];
    for (let minute = 0; minute < Number(values['heap-minutes']); minute++) {
      await page.waitForTimeout(60_000);
      results.heapMb.push(await heap());
    }
    await context.close();
  },

  async paint(results) {
    results.firstContentfulPaintMs = {};
    for (const [name, connection] of Object.entries(CONNECTIONS)) {
      const paints = [];
      for (let count = 0; count < 5; count++) {
        const context = await (await launched()).newContext({ viewport: { width: 390, height: 844 } });
        const page = await context.newPage();
        const session = await context.newCDPSession(page);
        await session.send('Network.enable');
        await session.send('Network.emulateNetworkConditions', { offline: false, ...connection });
        await page.goto(`${system.url}/#/`, { timeout: 60_000 });
        const paint = () => performance.getEntriesByName('first-contentful-paint')[0]?.startTime;
        paints.push(await (await page.waitForFunction(paint)).jsonValue());
        await context.close();
      }
      paints.sort((one, other) => one - other);
      results.firstContentfulPaintMs[name] = { p50: round(quantile(paints, 0.5)), max: round(paints.at(-1)) };
    }
  },
};

const results = {};
try {
  system = await System.start();
  for (const part of parts) await measurements[part](results);
} finally {
  for (const child of streams) child.kill();
  await closeBrowser();
  await system?.stop();
}
if (values.json) console.log(JSON.stringify(results));
else for (const [name, value] of Object.entries(results)) console.log(name.padEnd(24), JSON.stringify(value));

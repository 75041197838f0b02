// Measures the browser page against a running program: frames per second of an overview with live traces, time from sample to pixel,
// and heap.
//
//   node measure.mjs --program target/debug/bedside [--gateway http://127.0.0.1:5011] [--page http://127.0.0.1:5011/]
//                    [--no-streams] [--tiles 16] [--throttle 4] [--seconds 20] [--heap-tiles 64] [--heap-minutes 0] [--json]
//
// With --no-streams, patients have to stream already. The program has to run without tokens. This script streams simulated patients to it and removes none of its data. The frame rate
// is that of the page's own animation frames while the CPU of the page is slowed down by `--throttle`.

import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';

const { values } = parseArgs({
  options: {
    program: { type: 'string' },
    gateway: { type: 'string', default: 'http://127.0.0.1:5011' },
    page: { type: 'string' },
    tiles: { type: 'string', default: '16' },
    throttle: { type: 'string', default: '4' },
    seconds: { type: 'string', default: '20' },
    'heap-tiles': { type: 'string', default: '64' },
    'heap-minutes': { type: 'string', default: '0' },
    'no-streams': { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
});
if (values.program === undefined) {
  console.error('--program is missing: the path of the program `bedside`');
  process.exit(64);
}
const address = values.page ?? `${values.gateway}/`;
const FIRST_MRN = 600_000;

const streams = [];
function stream(mrn, patients, ...more) {
  if (values['no-streams']) return undefined;
  const args = ['stream', '--gateway', values.gateway, '--synthetic', '--mrn', String(mrn), '--patients', String(patients)];
  const child = spawn(values.program, [...args, '--name', 'Measured', '--log', 'error', ...more], { stdio: 'ignore' });
  streams.push(child);
  return child;
}

const quantile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
const round = (value, digits = 1) => Math.round(value * 10 ** digits) / 10 ** digits;

async function open(browser, fragment, viewport) {
  const context = await browser.newContext({ viewport, locale: 'en-GB' });
  const page = await context.newPage();
  const failures = [];
  page.on('pageerror', (error) => failures.push(error.message));
  await page.goto(address + fragment, { timeout: 60_000 });
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

async function main() {
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
  const results = {};
  try {
    const tiles = Number(values.tiles);
    stream(FIRST_MRN, tiles);
    {
      const { context, page, failures } = await open(browser, '#/', { width: 1440, height: 900 });
      results.moving = await moving(page, tiles, 60_000);
      const session = await context.newCDPSession(page);
      await session.send('Emulation.setCPUThrottlingRate', { rate: Number(values.throttle) });
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
    }
    {
      // The page states the time between a sample and its display.
      const { context, page } = await open(browser, `#/patients/${FIRST_MRN}`, { width: 1440, height: 900 });
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
    }
    {
      const count = Number(values['heap-tiles']);
      if (count > tiles) stream(FIRST_MRN + tiles, count - tiles);
      const { context, page } = await open(browser, '#/', { width: 3840, height: 2160 });
      results.heapTiles = await moving(page, Math.min(count, 64), 120_000);
      const session = await context.newCDPSession(page);
      const heap = async () => {
        await session.send('HeapProfiler.collectGarbage');
        const { usedSize, embedderHeapUsedSize = 0, backingStorageSize = 0 } = await session.send('Runtime.getHeapUsage');
        return round((usedSize + embedderHeapUsedSize + backingStorageSize) / 1e6);
      };
      results.heapMb = [await heap()];
      const minutes = Number(values['heap-minutes']);
      for (let minute = 0; minute < minutes; minute++) {
        await page.waitForTimeout(60_000);
        results.heapMb.push(await heap());
      }
      await context.close();
    }
  } finally {
    for (const child of streams) child.kill();
    await browser.close();
  }
  if (values.json) console.log(JSON.stringify(results));
  else for (const [name, value] of Object.entries(results)) console.log(name.padEnd(18), JSON.stringify(value));
}

await main();

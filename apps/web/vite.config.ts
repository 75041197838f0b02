// Build of the browser page. The result, dist/, is checked in and embedded in the gateway.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig, type Plugin } from 'vite';

/** Version of the workspace, so that the page states the version of the program that contains it. */
function workspaceVersion(): string {
  const manifest = readFileSync(fileURLToPath(new URL('../../Cargo.toml', import.meta.url)), 'utf8');
  const version = /^\[workspace\.package\][^[]*?^version = "([^"]+)"/ms.exec(manifest)?.[1];
  if (version === undefined) throw new Error('Cargo.toml has no version of the workspace');
  return version;
}

/** Writes sw.js: the service worker with the list of files of the shell. */
function serviceWorker(): Plugin {
  return {
    name: 'service-worker',
    apply: 'build',
    generateBundle(_options, bundle) {
      const template = fileURLToPath(new URL('src/service-worker.js', import.meta.url));
      const files = Object.keys(bundle).filter((name) => name.startsWith('assets/')).sort();
      const source = readFileSync(template, 'utf8').replace("'FILES'", JSON.stringify(files.map((name) => `/${name}`)));
      this.emitFile({ type: 'asset', fileName: 'sw.js', source });
    },
  };
}

/** Moves the style sheets behind the first content, so that a slow connection shows that content before they arrive. */
function lateStyles(): Plugin {
  return {
    name: 'late-styles',
    apply: 'build',
    transformIndexHtml: {
      order: 'post',
      handler(html) {
        const links = html.match(/ *<link rel="stylesheet"[^>]*>\n/g) ?? [];
        const head = links.reduce((rest, link) => rest.replace(link, ''), html);
        return head.replace(/ *<noscript>/, (next) => links.join('') + next);
      },
    },
  };
}

const gateway = process.env.BEDSIDE ?? 'http://127.0.0.1:5011';

export default defineConfig({
  plugins: [svelte(), serviceWorker(), lateStyles()],
  define: { __VERSION__: JSON.stringify(workspaceVersion()) },
  build: {
    target: 'es2022',
    // Every file has its own address: the content security policy allows no scripts or styles within the page.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: {
    proxy: {
      '/api': {
        target: gateway,
        changeOrigin: true,
        ws: true,
        // The gateway compares Origin and Host; the development server is another origin.
        headers: { origin: gateway },
      },
    },
  },
});

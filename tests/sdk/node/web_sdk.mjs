// Runs posthog-js on pages in headless Chromium, one scenario after the other, as told by lines of
// JSON on standard input; answers each on standard output.
//
// node web_sdk.mjs CHROMIUM
//
// In:  {"scenario", "way", "server", "token"}, `way` being
//        "module": the npm build, imported by the page, which sends straight to the server;
//        "snippet": array.js, loaded by a stub that queues calls until it is there, and all requests
//          through a reverse proxy of the page's own host, under /ingest.
//      {"go": true}, when a scenario waits.
// Out: {"waiting": scenario} when it has done something and waits before it goes on,
//      {"done": scenario, "captures": [{"path", "status"}], "beacons": n} once the page is left.

import { readFile } from 'node:fs/promises';
import http from 'node:http';
import path from 'node:path';
import readline from 'node:readline';
import { chromium } from 'playwright-core';

const DIST = path.resolve(import.meta.dirname, 'node_modules/posthog-js/dist');
const PREFIX = '/ingest';
const CAPTURE = /\/(e|i\/v0\/e|batch)\/?(\?|$)/;
// The SDK's pauses after a failed request grow from 3 s.
const PATIENCE_MS = 40_000;

// As an operator would set them, but for haste, and for what is refused of a browser without a head.
const OPTIONS = {
  capture_pageview: true,
  capture_pageleave: true,
  opt_out_useragent_filter: true,
  person_profiles: 'identified_only',
  request_queue_config: { flush_interval_ms: 250 },
};
// Autocapture asks the server whether it may; here it is told not to ask.
const ASKS_NOTHING = { ...OPTIONS, advanced_disable_flags: true };

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

// -- pages, and a reverse proxy beside them --

const pages = new Map();

function html(way, token, options) {
  const call = `${JSON.stringify(token)}, ${JSON.stringify(options)}`;
  const start = {
    module: `<script type="module">
      import posthog from '/posthog-js/module.js';
      window.posthog = posthog;
      posthog.init(${call});
    </script>`,
    // Calls made before array.js has come wait in the array, which it then plays back.
    snippet: `<script>
      const stub = (window.posthog = []);
      stub._i = [[${call}, 'posthog']];
      stub.__SV = 1;
      for (const name of ['capture', 'identify', 'group', 'register']) {
        stub[name] = (...args) => stub.push([name, ...args]);
      }
      posthog.capture('before the script came');
      const script = document.createElement('script');
      script.async = true;
      script.crossOrigin = 'anonymous';
      script.src = ${JSON.stringify(`${options.api_host}/static/array.js`)};
      document.head.append(script);
    </script>`,
  };
  return `<!doctype html><html><head><meta charset="utf-8"><title>Shop</title></head><body>
    <button id="buy" class="big">Buy</button>
    <form id="order" onsubmit="event.preventDefault()">
      <input name="color" type="text"><button id="send" type="submit">Send</button>
    </form>
    ${start[way]}</body></html>`;
}

async function serve(request, response) {
  const target = new URL(request.url, 'http://page');
  const [, first, token] = target.pathname.split('/');
  const script = target.pathname.match(/^\/(?:posthog-js|ingest\/static)\/([\w.-]+\.js)$/);
  if (script) {
    response.writeHead(200, { 'Content-Type': 'text/javascript' });
    response.end(await readFile(path.join(DIST, script[1])));
  } else if (first === 'page') {
    response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8' });
    response.end(pages.get(token).html);
  } else if (target.pathname.startsWith(`${PREFIX}/`)) {
    forward(request, response);
  } else {
    response.writeHead(target.pathname === '/bye' ? 200 : 404, { 'Content-Type': 'text/html' });
    response.end('<!doctype html><title>Bye</title>');
  }
}

let proxied;

function forward(request, response) {
  const onward = http.request(
    `${proxied}${request.url}`,
    {
      method: request.method,
      headers: { ...request.headers, 'x-forwarded-for': request.socket.remoteAddress },
    },
    (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    },
  );
  onward.on('error', () => response.destroy());
  request.pipe(onward);
}

// -- scenarios --

const scenarios = {
  async everything(page, wait) {
    await page.click('#buy');
    await page.fill('input[name=color]', 'blue');
    await page.click('#send');
    await page.evaluate(() => {
      const { posthog } = window;
      posthog.capture('custom event', {
        plan: 'team', n: 42, f: 1.5, nested: { a: [1, 'two', null] }, t: 'é🦔',
      });
      posthog.identify('ada', { name: 'Ada' }, { first_seen: 'today' });
      posthog.group('company', 'acme', { name: 'Acme' });
      posthog.capture('after identify');
    });
    await wait();
  },
  async nothing_set(page, wait) {
    await page.evaluate(() => window.posthog.capture('custom event'));
    await wait();
  },
  async opted_out(page, wait) {
    await page.evaluate(() => {
      window.posthog.capture('before');
      window.posthog.opt_out_capturing();
      window.posthog.capture('hidden');
    });
    await page.click('#buy');
    await page.evaluate(() => {
      window.posthog.opt_in_capturing();
      window.posthog.capture('seen again');
    });
    await wait();
  },
  async cookieless(page, wait) {
    await page.evaluate(() => {
      const { posthog } = window;
      posthog.capture('custom event');
      posthog.identify('ada', { name: 'Ada' });
      posthog.capture('after identify');
    });
    await wait();
  },
  async unload(page) {
    await page.evaluate(() => window.posthog.capture('last words'));
  },
  async away(page, wait, captures) {
    await page.evaluate(() => window.posthog.capture('while it was away'));
    await until(page, captures, (capture) => capture.status === 0);
    await wait();
    await until(page, captures, (capture) => capture.status === 200);
  },
};

const options = {
  everything: ASKS_NOTHING,
  nothing_set: { opt_out_useragent_filter: true },
  opted_out: ASKS_NOTHING,
  cookieless: { ...ASKS_NOTHING, cookieless_mode: 'always' },
  // Long enough that the page is left before the queue would be sent by itself.
  unload: { ...ASKS_NOTHING, request_queue_config: { flush_interval_ms: 5000 } },
  away: ASKS_NOTHING,
};

async function until(page, captures, found) {
  const late = Date.now() + PATIENCE_MS;
  while (!captures.some(found)) {
    if (Date.now() > late) throw new Error(`waited in vain: ${JSON.stringify(captures)}`);
    await page.waitForTimeout(50);
  }
}

async function run(browser, origin, told, hear) {
  const { scenario, way, server, token } = told;
  proxied = server;
  const apiHost = way === 'snippet' ? `${origin}${PREFIX}` : server;
  pages.set(token, { html: html(way, token, { ...options[scenario], api_host: apiHost }) });
  const context = await browser.newContext();
  const page = await context.newPage();
  const captures = [];
  const note = (request, status) => {
    if (CAPTURE.test(request.url())) {
      captures.push({ path: new URL(request.url()).pathname, status });
    }
  };
  page.on('requestfailed', (request) => note(request, 0));
  page.on('response', (response) => note(response.request(), response.status()));
  // The storage of a tab outlives its pages, and is of their host.
  await page.addInitScript(() => {
    const send = navigator.sendBeacon.bind(navigator);
    navigator.sendBeacon = (...args) => {
      sessionStorage.beacons = Number(sessionStorage.beacons ?? 0) + 1;
      return send(...args);
    };
  });
  await page.goto(`${origin}/page/${token}`);
  await page.waitForFunction(() => window.posthog?.__loaded);
  const wait = () => {
    say({ waiting: scenario });
    return hear();
  };
  await scenarios[scenario](page, wait, captures);
  // What is still queued goes when the page is left.
  await page.goto(`${origin}/bye`);
  const beacons = await page.evaluate(() => Number(sessionStorage.beacons ?? 0));
  say({ done: scenario, captures, beacons });
}

// -- the whole --

const host = http.createServer((request, response) => {
  serve(request, response).catch((error) => response.destroy(error));
});
await new Promise((listening) => host.listen(0, '127.0.0.1', listening));
const origin = `http://127.0.0.1:${host.address().port}`;
const browser = await chromium.launch({
  executablePath: process.argv[2],
  // Chromium as root has no sandbox; without the rest it looks for its maker's servers.
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-dev-shm-usage',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
  ],
});
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const hear = async () => {
  const { value, done } = await lines.next();
  return done ? undefined : JSON.parse(value);
};
for (let told = await hear(); told; told = await hear()) {
  await run(browser, origin, told, hear);
}
await browser.close();
host.close();
host.closeAllConnections();

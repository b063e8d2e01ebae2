// Headless Chromium: on the chat page as a person uses it (chat URL; the line protocol is chatter.py's, of which a page
// can do `send` and `leave`), and as the API of browsers: client URL [deflate], foreign URL.
'use strict';
const assert = require('node:assert');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const readline = require('node:readline');
const { chromium } = require('playwright-core');

const FLAGS = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'];

const launch = () => chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: FLAGS, chromiumSandbox: false,
});

/**
 * Runs a script in a page; its result, and what the console says. The page must come from a server: one without an
 * address, as a data: URL is, Chromium keeps from loopback.
 */
async function inPage(url, script, argument) {
  const browser = await launch();
  const page = await browser.newPage();
  const lines = [];
  page.on('console', message => lines.push(message.text()));
  await page.goto(url);
  const result = await page.evaluate(script, argument);
  await browser.close();
  return [result, lines.join('\n')];
}

/** In the page: what battery.py says, as far as the API goes: it has no ping, and sends no fragments. */
async function echo(url) {
  const random = length => {
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length; at += 65536) crypto.getRandomValues(bytes.subarray(at, at + 65536));
    return bytes;
  };
  const large = (1 << 20) - 8192;
  const messages = [
    '', 'hello', 'grüß dich, 🌍', new Uint8Array(0), Uint8Array.from({ length: 256 }, (_, i) => i), 'a'.repeat(125),
    'b'.repeat(126), 'c'.repeat(65536), 'ä'.repeat(large / 2), random(large),
  ];
  const socket = new WebSocket(url);
  socket.binaryType = 'arraybuffer';
  const came = [], waiting = [];
  socket.onmessage = ({ data }) => (waiting.length ? waiting.shift()(data) : came.push(data));
  const next = () => (came.length ? came.shift() : new Promise(resolve => waiting.push(resolve)));
  const closed = new Promise(resolve => {
    socket.onclose = event => resolve([event.wasClean, event.code, event.reason]);
  });
  const opened = new Promise(resolve => { socket.onopen = () => resolve(null); });
  const failed = await Promise.race([opened, closed]);
  if (failed) throw new Error(`it did not open: ${failed}`);
  const same = (got, sent) => {
    if (typeof sent === 'string') return got === sent;
    if (!(got instanceof ArrayBuffer) || got.byteLength !== sent.length) return false;
    return new Uint8Array(got).every((byte, i) => byte === sent[i]);
  };
  const check = async sent => {
    const got = await Promise.race([next(), closed.then(end => { throw new Error(`it ended: ${end}`); })]);
    const short = what => `a ${typeof what} of ${what.length ?? what.byteLength}`;
    if (!same(got, sent)) throw new Error(`${short(sent)} came back as ${short(got)}`);
  };
  for (const message of messages) {
    socket.send(message);
    await check(message);
  }
  const small = messages.slice(0, 8); // and these all under way at once
  for (const message of small) socket.send(message);
  for (const message of small) await check(message);
  socket.close(4001, 'that is all');
  return { extensions: socket.extensions, closed: await closed };
}

async function client(url, deflate) {
  // the server's page says that it has none, and is of its origin
  const [{ extensions, closed }] = await inPage(url.replace(/^ws/, 'http'), echo, url);
  // Chromium always offers it: what is in use is the server's choice
  assert.strictEqual(extensions.includes('permessage-deflate'), deflate, `permessage-deflate in use: "${extensions}"`);
  assert.deepStrictEqual(closed, [true, 4001, 'that is all']);
}

/** A page of another site, and one of none (`Origin: null`), are not let in: they would be with this user's cookies. */
async function foreign(url) {
  const open = url => new Promise(resolve => {
    const socket = new WebSocket(url);
    socket.onopen = () => resolve(`${origin} opened it`);
    socket.onclose = event => resolve(`${origin} ${event.code}`);
  });
  const site = http.createServer((request, response) => {
    const headers = { 'Content-Type': 'text/html' };
    if (request.url === '/sandbox') headers['Content-Security-Policy'] = 'sandbox allow-scripts';
    response.writeHead(200, headers).end('<!doctype html><title>another site</title>');
  });
  await once(site.listen(0, '127.0.0.1'), 'listening');
  const other = `http://127.0.0.1:${site.address().port}`;
  for (const [path, origin] of [['/', other], ['/sandbox', 'null']]) {
    const [result, said] = await inPage(other + path, open, url);
    assert.strictEqual(result, `${origin} 1006`);
    assert.match(said, /Unexpected response code: 403/); // and not Chromium's own doing
  }
}

async function chat(url) {
  const say = what => process.stdout.write(`${JSON.stringify(what)}\n`);
  const browser = await launch();
  const page = await browser.newPage();
  page.on('pageerror', error => console.error(`the page threw: ${error}`));
  await page.exposeFunction('report', say);
  await page.addInitScript(() => {
    window.WebSocket = class extends WebSocket {
      constructor(...from) {
        super(...from);
        this.addEventListener('open', () => window.report({ open: true }));
        this.addEventListener('close', event => window.report({ closed: event.code }));
      }
    };
    // every element that the page appends to its list is a message that a person would see
    document.addEventListener('DOMContentLoaded', () => {
      const seen = records => {
        for (const record of records) for (const node of record.addedNodes) window.report({ message: node.textContent });
      };
      new MutationObserver(seen).observe(document.getElementById('messages'), { childList: true });
    });
  });
  await page.goto(url.replace(/^ws/, 'http'));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [[verb, argument]] = Object.entries(JSON.parse(line));
    if (verb === 'send') {
      await page.fill('#text', argument);
      await page.press('#text', 'Enter');
    } else if (verb === 'screenshot') {
      fs.writeFileSync(argument, await page.screenshot());
    } else if (verb === 'leave') {
      break;
    }
  }
  await browser.close();
}

const [verb, url, deflate] = process.argv.slice(2);
({ chat, client, foreign })[verb](url, deflate === 'deflate').then(
  () => process.exit(0),
  error => { console.error(error.code === 'ERR_ASSERTION' ? error.message : error); process.exit(1); },
);

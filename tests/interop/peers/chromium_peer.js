// Headless Chromium on the chat page, as a person uses it: chat URL. The line protocol is chatter.py's; only `send` and
// `leave` are known, for a page can do no more.
'use strict';
const fs = require('node:fs');
const readline = require('node:readline');
const { chromium } = require('playwright-core');

const FLAGS = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'];

async function chat(url) {
  const say = what => process.stdout.write(`${JSON.stringify(what)}\n`);
  const executablePath = process.env.CHROMIUM || '/usr/bin/chromium';
  const browser = await chromium.launch({ executablePath, args: FLAGS, chromiumSandbox: false });
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

chat(process.argv[3]).then(() => process.exit(0), error => { console.error(error); process.exit(1); });

// node's `ws` as client, chatter and server: client URL | chat URL | server, then `deflate` or not. See battery.py and
// chatter.py, which say the same in Python.
'use strict';
const assert = require('node:assert');
const crypto = require('node:crypto');
const { once } = require('node:events');
const readline = require('node:readline');
const util = require('node:util');
const { WebSocket, WebSocketServer } = require('ws');

const LARGE = (1 << 20) - 8192; // under a limit of 1 MiB even when deflating made it longer
const MESSAGES = [
  '', 'hello', 'grüß dich, 🌍', Buffer.alloc(0), Buffer.from([...Array(256).keys()]), 'a'.repeat(125), 'b'.repeat(126),
  'c'.repeat(65536), 'ä'.repeat(LARGE / 2), crypto.randomBytes(LARGE),
];

/** assert.deepStrictEqual, without a megabyte of difference in its message. */
function same(what, got, expected) {
  const short = value => `${util.inspect(value, { maxStringLength: 60 })} of ${value.length}`;
  assert(util.isDeepStrictEqual(got, expected), `${what}: got ${short(got)}, not ${short(expected)}`);
}

const compression = deflate => (deflate ? { threshold: 0 } : false);
const negotiated = socket => socket.extensions.includes('permessage-deflate');

/** Messages one after the other: `await next()` gives a string or a Buffer, as it was sent. */
function inbox(socket) {
  const messages = [], waiting = [];
  let closed = null;
  socket.on('message', (data, isBinary) => {
    const message = isBinary ? data : data.toString();
    if (waiting.length) waiting.shift().resolve(message);
    else messages.push(message);
  });
  socket.on('close', (code, reason) => {
    closed = new Error(`the connection ended: ${code} ${reason}`);
    for (const w of waiting) w.reject(closed);
  });
  return () => new Promise((resolve, reject) => {
    if (messages.length) resolve(messages.shift());
    else if (closed) reject(closed);
    else waiting.push({ resolve, reject });
  });
}

function sendFragments(socket, pieces) {
  pieces.forEach((piece, i) => socket.send(piece, { fin: i === pieces.length - 1 }));
}

async function close(socket, code, reason) {
  socket.close(code, reason);
  const [gotCode, gotReason] = await once(socket, 'close');
  return [gotCode, gotReason.toString()];
}

async function echo(socket, next) {
  for (const message of MESSAGES) {
    socket.send(message);
    same('echo', await next(), message);
  }
  const small = MESSAGES.slice(0, 8); // and these all under way at once
  for (const message of small) socket.send(message);
  for (const message of small) same('echo of many', await next(), message);
  sendFragments(socket, ['grüß ', '', 'dich, ', '🌍']);
  same('echo of text in fragments', await next(), 'grüß dich, 🌍');
  sendFragments(socket, [Buffer.alloc(70000), Buffer.alloc(70000, 255)]);
  same('echo of bytes in fragments', await next(), Buffer.concat([Buffer.alloc(70000), Buffer.alloc(70000, 255)]));
  socket.ping('are you there?');
  const [pong] = await once(socket, 'pong');
  same('pong', pong.toString(), 'are you there?');
  same('close', await close(socket, 4001, 'that is all'), [4001, 'that is all']);
}

async function greet(socket, next) {
  const hello = await next();
  assert.strictEqual(hello, 'Hello, WebSocket Server!');
  for (const greeting of [hello, 'grüß dich, 🌍', 'x'.repeat(100000)]) socket.send(greeting);
  sendFragments(socket, ['in ', 'three ', 'pieces']);
  const [code] = await close(socket, 1000, 'enough');
  assert.strictEqual(code, 1000);
}

/** One connection of the server; true when it was the last one. */
async function talk(socket, path, deflate) {
  const next = inbox(socket);
  if (path === '/getCaseCount') {
    socket.send('1');
    await close(socket, 1000, '');
    return false;
  }
  if (path.startsWith('/updateReports')) {
    await close(socket, 1000, '');
    return true;
  }
  if (path.startsWith('/runCase')) {
    assert.strictEqual(negotiated(socket), deflate, 'permessage-deflate in use');
    await echo(socket, next);
    return false;
  }
  await greet(socket, next);
  return true;
}

async function client(url, deflate) {
  const socket = new WebSocket(url, { perMessageDeflate: compression(deflate) });
  const next = inbox(socket);
  await once(socket, 'open');
  assert.strictEqual(negotiated(socket), deflate, 'permessage-deflate in use');
  await echo(socket, next);
}

async function server(_url, deflate) {
  const listener = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: compression(deflate) });
  await once(listener, 'listening');
  console.log(`ws://127.0.0.1:${listener.address().port}`);
  await new Promise((resolve, reject) => {
    listener.on('connection', (socket, request) => {
      socket.on('error', reject);
      talk(socket, request.url, deflate).then(last => last && resolve(), reject);
    });
  });
  listener.close();
}

async function chat(url) {
  const say = what => process.stdout.write(`${JSON.stringify(what)}\n`);
  const socket = new WebSocket(url);
  await once(socket, 'open');
  socket.on('message', data => say({ message: data.toString() }));
  say({ open: true });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [[verb, argument]] = Object.entries(JSON.parse(line));
    if (verb === 'send') socket.send(argument);
    else if (verb === 'binary') socket.send(Buffer.from(argument));
    else if (verb === 'fragments') sendFragments(socket, argument);
    else if (verb === 'reset') return socket._socket.resetAndDestroy();
    else if (verb === 'leave') return say({ closed: (await close(socket, 1000, ''))[0] });
  }
}

const words = process.argv.slice(2);
const deflate = words.at(-1) === 'deflate';
({ client, chat, server })[words[0]](words[1], deflate).then(
  () => process.stdout.write('', () => process.exit(0)),
  error => { console.error(error.code === 'ERR_ASSERTION' ? error.message : error); process.exit(1); },
);

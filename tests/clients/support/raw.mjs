// Below the Socket.IO client: raw WebSockets, raw TCP and hand-made polling, for bytes that no correct client sends.
import { once } from 'node:events';
import net from 'node:net';
import WebSocket from 'ws';
import { jwt } from './server.mjs';

const WAIT_MS = 10_000;
export const within = (promise, what) => Promise.race([promise, new Promise((_, reject) => {
  setTimeout(() => reject(new Error(`waited ${WAIT_MS} ms for ${what}`)), WAIT_MS).unref();
})]);

const socketUrl = (server, version) => `${server.base.replace('http', 'ws')}/socket.io/?EIO=${version}&transport=websocket`;

/** A WebSocket that has joined `/realtime`, with Engine.IO 4 or 3. */
export async function joined(server, user, version = 4) {
  const ws = new WebSocket(socketUrl(server, version));
  ws.on('error', () => {});
  ws.closed = once(ws, 'close');
  const join = version === 4
    ? `40/realtime,${JSON.stringify({ token: jwt(user) })}`
    : `40/realtime?token=${jwt(user)},`;
  const hello = new Promise((resolve) => {
    ws.on('message', (data) => {
      if (data.toString().includes('"connected"')) resolve();
    });
  });
  await within(once(ws, 'open'), 'the upgrade');
  ws.send(join);
  await within(hello, 'connected');
  return ws;
}

/** The status of an upgrade request: 101, or the refusal. */
export function upgradeStatus(server, { origin, host, version = 4, url = socketUrl(server, version) } = {}) {
  const ws = new WebSocket(url, { origin, ...(host && { headers: { host } }) });
  return within(new Promise((resolve, reject) => {
    ws.on('open', () => { ws.terminate(); resolve(101); });
    ws.on('unexpected-response', (request, response) => { response.resume(); request.destroy(); resolve(response.statusCode); });
    ws.on('error', reject);
  }), 'the answer to the upgrade');
}

/** Sends bytes over TCP and resets the connection. With `reply` it waits until the server closes, and returns what came back. */
export async function tcp(server, bytes, { reply = false } = {}) {
  const socket = net.connect(server.port, '127.0.0.1');
  socket.on('error', () => {});
  await within(once(socket, 'connect'), 'a TCP connection');
  await new Promise((resolve) => { socket.write(bytes, resolve); });
  let got = '';
  if (reply) {
    socket.on('data', (data) => { got += data.toString('latin1'); });
    await within(Promise.race([once(socket, 'close'), once(socket, 'data')]), 'an answer or a close');
  }
  socket.destroy();
  return got;
}

/** The URL of a polling session that is open and has not joined. */
export async function pollingUrl(server, version = 4) {
  const url = `${server.base}/socket.io/?EIO=${version}&transport=polling`;
  const text = await (await fetch(url)).text();
  const { sid } = JSON.parse(text.slice(text.indexOf('{'), text.lastIndexOf('}') + 1));
  return `${url}&sid=${sid}`;
}

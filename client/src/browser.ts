// For pages without a bundler: socket.io-client is `options.io`, or the global `io` of the server's /socket.io/socket.io.js.
import type { io } from 'socket.io-client';
import { Client, type Options } from './client.js';

/** Connects to an Ordercast server, such as `https://orders.example.com`. */
export function connect(url: string, options: Options): Client {
  const given = options.io ?? (globalThis as { io?: typeof io }).io;
  if (!given) throw new Error('ordercast-client/browser needs socket.io-client: load /socket.io/socket.io.js of the server before, or give `io`.');
  return new Client(given, url, options);
}

export * from './public.js';

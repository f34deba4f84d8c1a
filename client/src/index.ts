import { io } from 'socket.io-client';
import { Client, type Options } from './client.js';

/** Connects to an Ordercast server, such as `https://orders.example.com`. */
export const connect = (url: string, options: Options): Client => new Client(options.io ?? io, url, options);

export * from './public.js';

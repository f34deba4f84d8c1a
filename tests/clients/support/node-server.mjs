// Socket.IO's own server beside ours. It waits half a minute for polls that never come, also when it closes; its thread need not.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

/** Starts it; returns `{base, port, close}`. */
export async function startNode(options = {}) {
  const worker = new Worker(new URL('./node-worker.mjs', import.meta.url), { workerData: options });
  const [port] = await once(worker, 'message');
  return { base: `http://127.0.0.1:${port}`, port, close: () => worker.terminate() };
}

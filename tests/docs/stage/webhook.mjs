// Another system, which was just told something.
import { createServer } from 'node:http';
import { call, done, order } from './stage.mjs';

const got = await new Promise((resolve) => {
  const server = createServer((request, answer) => {
    let body = '';
    request.on('data', (chunk) => { body += chunk; });
    request.on('end', () => { answer.end(); resolve({ request, body }); });
  }).listen(0, '127.0.0.1', async () => {
    ({ secret: globalThis.secret } = await call('POST', '/webhooks', { url: `http://127.0.0.1:${server.address().port}/`, events: ['order.*'] }));
    await order();
  });
});
globalThis.rawBody = got.body;
globalThis.request = got.request;
// Verifying throws, or the snippet is at its end.
process.on('exit', () => console.log(got.body));
setTimeout(done, 0, 'verified');

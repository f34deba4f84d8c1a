// Who watches is not pushed: stock clients of three versions on each transport, with a device that Expo would reach.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, afterEach, before, test } from 'node:test';
import { closeAll, combos, connect, label } from '../support/client.mjs';
import { Server, as, eventually, people } from '../support/server.mjs';

let expo;
let server;
const pushed = [];

before(async () => {
  expo = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => { body += chunk; });
    request.on('end', () => {
      const messages = JSON.parse(body);
      pushed.push(...messages);
      response.end(JSON.stringify({ data: messages.map((_, i) => ({ status: 'ok', id: `t${pushed.length}-${i}` })) }));
    });
  });
  await new Promise((resolve) => { expo.listen(0, '127.0.0.1', resolve); });
  const url = `http://127.0.0.1:${expo.address().port}`;
  server = await Server.start({ env: { NOTIFY_KEY: 'ef'.repeat(32), EXPO_URL: url, NOTIFY_HOLD_MS: '1500' } });
});
afterEach(closeAll);
after(async () => {
  await server?.close();
  expo.close();
});

for (const combo of combos) {
  // A client of Engine.IO 3 pings by itself, which proves nothing; when it polls again, that does.
  const proves = combo.client !== '2' || combo.transport === 'polling';
  test(`${label(combo)}: ${proves ? 'is not pushed' : 'is pushed, because it cannot prove that it has it'}`, async () => {
    const { customer, chef, delivery } = people();
    const token = `ExponentPushToken[${customer.id}]`;
    const device = await server.call('PUT', '/devices/phone', { kind: 'expo', token }, as(customer, 'customer'));
    assert.equal(device.status, 201);
    const client = await connect(server, { ...combo, user: as(customer, 'customer') });
    if (combo.transport !== 'polling') await client.upgraded();
    const { body: { id } } = await server.call('POST', '/orders', { customer, chef, delivery });
    await server.call('PATCH', `/orders/${id}/status`, { status: 'accepted' });
    await client.next('order:status_update');
    const line = await eventually(async () => {
      const { body } = await server.call('GET', `/orders/${id}/notifications`);
      return body.items.find(({ kind, state }) => kind === 'order.accepted' && ['suppressed', 'sent'].includes(state));
    }, 'what becomes of the push');
    assert.deepEqual([line.state, line.reason], proves ? ['suppressed', 'watching'] : ['sent', undefined]);
    assert.equal(pushed.some(({ to }) => to === token), !proves);
    // Who goes away is pushed at once.
    client.close();
    await server.call('PATCH', `/orders/${id}/status`, { status: 'picked_up' });
    await eventually(() => pushed.some(({ to, data }) => to === token && data.kind === 'order.on_the_way'), 'a push');
  });
}

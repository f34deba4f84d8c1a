// Web Push, all the way: the demo's page in Debian's Firefox subscribes, its customer goes away, and what the server encrypts is decrypted
// and shown by the browser.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Firefox } from './firefox.mjs';
import { PushService } from './push-service.mjs';
import { Stage } from './stage.mjs';

const service = new PushService();
const stage = new Stage({}, ['--outbound-allow', '127.0.0.0/8']);
const firefox = new Firefox();
const by = (name) => `document.querySelector('[data-testid="${name}"]')`;

before(async () => {
  await service.open();
  await stage.open();
  await firefox.open({
    'dom.push.serverURL': `ws://127.0.0.1:${service.port}/`,
    'dom.push.testing.allowInsecureServerURL': true,
    'dom.push.testing.ignorePermission': true,
    'dom.push.connection.enabled': true,
    'dom.webnotifications.requireuserinteraction': false,
    'permissions.default.desktop-notification': 1,
    'alerts.useSystemBackend': false,
    'network.captive-portal-service.enabled': false,
    'network.connectivity-service.enabled': false,
    'app.update.enabled': false,
    'datareporting.policy.dataSubmissionEnabled': false,
  });
});
after(async () => {
  await firefox.close();
  await stage.close();
  service.close();
});

test('Firefox subscribes, is pushed while the customer is away, and says that it has it', async () => {
  await firefox.go(stage.origin);
  await firefox.until(`${by('conn-customer')}?.dataset.state === 'connected'`);
  await firefox.evaluate(`${by('push-subscribe')}.click()`);
  await firefox.until(`${by('phone')}.dataset.state === 'on' || Boolean(document.querySelector('#customer-phone .inline-error'))`);
  assert.equal(await firefox.evaluate(`${by('phone')}.dataset.state`), 'on', await firefox.evaluate(`document.querySelector('#customer-phone').textContent`));

  // The customer's socket is gone; the demo's orders go on.
  await firefox.evaluate(`${by('plug-customer')}.click()`);
  await firefox.until(`Boolean(${by('phone-message')})`, 'a message on the phone', 60_000);
  assert.match(await firefox.evaluate(`${by('phone-message')}.dataset.kind`), /^(order\.|rating\.)/);
  const [{ headers, body }] = service.posted;
  assert.equal(headers['content-encoding'], 'aes128gcm');
  assert.match(headers.authorization, /^vapid t=eyJ/);
  assert.ok(body.length > 100 && body.length <= 4096);
  assert.ok(service.acks.length > 0 && service.acks.every((code) => code === 100), `decrypted: ${service.acks}`);
  const shown = 'navigator.serviceWorker.ready.then((worker) => worker.getNotifications())';
  await firefox.until(`${shown}.then((all) => all.length > 0)`, 'a notification of the browser');
  assert.match(await firefox.evaluate(`${shown}.then(([first]) => first.title)`), /order/i);

  // The back office sees that it arrived.
  await firefox.evaluate(`${by('admin-deliveries')}.click()`);
  await firefox.until(`(${by('deliveries-reload')}.click(), [...document.querySelectorAll('[data-testid="delivery"]')].some(({ dataset }) => dataset.state === 'delivered'))`, 'an acknowledged delivery');
  await firefox.evaluate(`document.querySelector('[aria-label^="Attempts of"]').click()`);
  await firefox.until(`/20[01] in/.test(document.querySelector('[data-testid="attempts"]')?.textContent)`, 'how it was tried');
});

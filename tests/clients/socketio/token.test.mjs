// Tokens that expire while their sockets live: warning, expiry, grace, refresh, and the events missed in between.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { closeAll, connect } from '../support/client.mjs';
import { recovered } from '../support/recovery.mjs';
import { as, jwt, people, Server } from '../support/server.mjs';
import { Story } from '../support/story.mjs';

// Between two of these times a test does a few things for six clients at once, also on a busy machine.
const [LIFE, WARNING, GRACE] = [4000, 2000, 2000];
const server = await Server.start({ env: { TOKEN_WARNING_MS: `${WARNING}`, TOKEN_GRACE_MS: `${GRACE}` } });
after(() => server.close());
after(closeAll);

const SOME = [['4', 'websocket'], ['4', 'upgrade'], ['4', 'polling'], ['3', 'websocket'], ['2', 'websocket'], ['2', 'polling']];

/** A token with this lifetime, and its end as the server writes it. */
function mortal(user, ms, options) {
  const end = Date.now() + ms;
  return { token: jwt({ ...user, exp: end / 1000 }, options), end, expiresAt: new Date(end).toISOString() };
}

/** Times on the wire have milliseconds. The token's `exp` may lose a fraction of one. */
const sameTime = (a, b, what) => assert.ok(Math.abs(Date.parse(a) - Date.parse(b)) <= 1, `${what}: ${a}, not ${b}`);

const each = (check) => Promise.all(SOME.map(([client, transport]) => check({ client, transport }, `${client}, ${transport}`)));

describe('Tokens that expire', { concurrency: true }, () => {
  test('A client is warned, its token expires, its requests are refused, and after a refresh it has missed nothing', { timeout: 60_000 }, () => each(async (combo, what) => {
    const who = people();
    const user = as(who.customer, 'customer');
    const story = await Story.begin(server, who);
    const first = mortal(user, LIFE);
    const client = await connect(server, { ...combo, token: first.token });
    await client.ask('subscribe:order', { orderId: story.id });
    const rooms = [who.customer.id];
    await story.status('accepted');
    await story.check(client, rooms, what);

    sameTime((await client.next('token:expiring')).expiresAt, first.expiresAt, `${what}: token:expiring`);
    const early = first.end - Date.now();
    assert.ok(early > 0 && early < WARNING + 200, `${what}: ${early} ms before the end`);
    await story.status('preparing');
    await story.check(client, rooms, `${what}: between warning and end`);

    sameTime((await client.next('token:expired')).expiresAt, first.expiresAt, `${what}: token:expired`);
    assert.ok(Date.now() >= first.end - 50 && Date.now() < first.end + 1000, `${what}: ${Date.now() - first.end} ms after the end`);
    const known = story.heard(client).length;
    await story.status('ready_for_pickup');
    await story.assign(who.driver);
    for (const [event, payload] of [['subscribe:order', { orderId: story.id }], ['order:tracking', { orderId: story.id }],
      ['order:status_update', { orderId: story.id, status: 'cancelled' }], ['ping:latency', { t: 1 }]]) {
      assert.equal((await client.request(event, payload)).error?.code, 'token_expired', `${what}: ${event}`);
    }
    client.send('order:tracking', { orderId: story.id });
    assert.equal((await client.next('error')).code, 'token_expired', `${what}: without an ack`);
    assert.equal(story.heard(client).length, known, `${what}: nothing comes any more`);

    const second = mortal(user, 60_000);
    sameTime((await client.ask('token:refresh', { token: second.token })).expiresAt, second.expiresAt, `${what}: the refresh`);
    await story.check(client, rooms, `${what}: what was missed`);
    await story.status('picked_up');
    await story.check(client, rooms, `${what}: live again`);
    const driver = await connect(server, { user: as(who.driver, 'driver') });
    await driver.ask('driver:location', { latitude: 45, longitude: 13, orderId: story.id });
    await client.next('driver:location_update'); // the subscription is still there
    assert.deepEqual(client.of('(disconnect)'), [], what);
    assert.equal(client.of('token:expired').length, 1, what);
  }));

  test('After a refresh in time the old expiry has no effect, and the new one has', { timeout: 60_000 }, () => each(async (combo, what) => {
    const user = as(people().customer, 'customer');
    const [first, second] = [mortal(user, LIFE - 1000), mortal(user, LIFE + 1000)];
    const client = await connect(server, { ...combo, token: first.token });
    await client.next('token:expiring');
    await client.ask('token:refresh', { token: second.token });
    sameTime((await client.next('token:expiring')).expiresAt, second.expiresAt, `${what}: the second warning`);
    assert.ok(Date.now() > first.end, `${what}: the first end has passed`);
    await client.ask('ping:latency', { t: 1 });
    sameTime((await client.next('token:expired')).expiresAt, second.expiresAt, `${what}: the second end`);
  }));

  test('Without a refresh in the grace time the connection is closed, and the client comes back with a new token and misses nothing', { timeout: 60_000 }, async () => {
    await Promise.all(['websocket', 'upgrade', 'polling'].map(async (transport) => {
      const who = people();
      const user = as(who.customer, 'customer');
      const story = await Story.begin(server, who);
      const first = mortal(user, WARNING);
      let { token } = first;
      const client = await connect(server, { transport, options: { auth: (give) => give({ token }) } });
      client.pid = client.socket._pid;
      await story.status('accepted');
      await client.next('token:expired');
      await story.status('preparing');
      token = jwt(user);
      assert.match(await client.next('(disconnect)'), transport === 'polling' ? /^transport (close|error)$/ : /^transport close$/, transport);
      const late = Date.now() - first.end;
      assert.ok(late >= GRACE - 50 && late < GRACE + 1000, `${transport}: closed ${late} ms after the end`);
      await story.status('ready_for_pickup');
      await recovered(client, transport);
      await story.check(client, [who.customer.id], transport);
    }));
  });

  test('A client that comes back with the expired token is told so', { timeout: 60_000 }, () => each(async (combo) => {
    const client = await connect(server, { ...combo, token: mortal(as(people().customer, 'customer'), WARNING).token });
    await client.next('(disconnect)');
    // The poll that fails is an error of its own to version 2.
    await client.next('(refused)', (error) => (error.message ?? error).startsWith('token_expired: '));
  }));

  test('A token that is about to expire is warned of at once', async () => {
    const { token, expiresAt } = mortal(as(people().customer, 'customer'), WARNING - 200);
    const client = await connect(server, { token });
    sameTime((await client.next('token:expiring')).expiresAt, expiresAt, 'token:expiring');
  });

  test('A refresh with a bad token changes nothing', { timeout: 60_000 }, () => each(async (combo, what) => {
    const user = as(people().customer, 'customer');
    const own = mortal(user, LIFE);
    const client = await connect(server, { ...combo, token: own.token });
    const wrong = [
      ['another user', jwt(as(people().customer, 'customer')), 'forbidden'],
      ['another role', jwt({ ...user, role: 'driver' }), 'forbidden'],
      ['an admin', jwt({ ...user, role: 'admin' }), 'forbidden'],
      ['garbage', 'not.a.token', 'unauthorized'],
      ['another secret', jwt(user, { secret: 'another-secret-of-more-than-thirty-two-bytes' }), 'unauthorized'],
      ['no signature', jwt(user, { alg: 'none' }), 'unauthorized'],
      ['an ended one', jwt({ ...user, exp: 1_000_000 }), 'token_expired|unauthorized'],
      ['no string', 7, 'invalid_payload'],
      ['nothing', undefined, 'invalid_payload'],
    ];
    for (const [name, token, codes] of wrong) {
      const { ok, error } = await client.request('token:refresh', { token });
      assert.ok(ok === false && codes.split('|').includes(error.code), `${what}: ${name}: ${JSON.stringify(error)}`);
    }
    await client.ask('ping:latency', { t: 1 });
    sameTime((await client.next('token:expired')).expiresAt, own.expiresAt, what);
    // bad tokens are refused in the grace time too, and a good one is taken
    assert.equal((await client.request('token:refresh', { token: wrong[0][1] })).error.code, 'forbidden', what);
    assert.equal((await client.request('ping:latency', { t: 1 })).error.code, 'token_expired', what);
    await client.ask('token:refresh', { token: jwt(user) });
    await client.ask('ping:latency', { t: 1 });
  }));
});

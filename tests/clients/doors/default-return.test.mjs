// Socket.IO's default namespace through lost connections and expired tokens: a stock page comes back by itself and has missed nothing.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { closeAll, combos, label } from '../support/client.mjs';
import { heard, visit } from '../support/doors.mjs';
import { gone, start, TRANSPORTS } from '../support/recovery.mjs';
import { ADMIN, as, eventually, jwt, people } from '../support/server.mjs';

const EAGER = { reconnectionDelay: 20, reconnectionDelayMax: 60, timeout: 2000 };

afterEach(closeAll);

/** What each page of an order's parties must have heard: two messages per change. */
class Tale {
  entries = [];

  constructor(server, who, id) { Object.assign(this, { server, who, id }); }

  async status(to) {
    const { seq } = await this.server.status(this.id, to, ADMIN);
    this.entries.push(['orderStatusUpdate', to, seq], ['trackingUpdate', to, undefined]);
  }

  /** Assigns another driver; the status stays. */
  async handOver(driver) {
    const { status } = await this.server.assign(this.id, driver);
    this.entries.push(['trackingUpdate', status, undefined]);
  }

  async check(page, what) {
    const short = () => heard(page, this.id).map(({ name, payload }) => [name, payload.status, payload.seq]);
    await page.until(() => short().length >= this.entries.length, `${what}: ${this.entries.length} events`, 20_000).catch(() => {});
    assert.deepEqual(short(), this.entries, what);
  }
}

/** The page has come back for the `n`th time, with the same pid. */
async function recovered(page, what, n) {
  await page.count('(connect)', n + 1, 20_000);
  assert.equal(page.socket.recovered, true, `${what}: recovered`);
  assert.equal(page.socket._pid, page.pid, `${what}: the pid stays`);
}

for (const [way, lose] of Object.entries({
  'a cut of the network': ({ proxy }) => proxy.cut(),
  'a line that dies in silence': ({ proxy }) => proxy.sever(),
  'a kill -9 of the server': async ({ server }) => { await server.kill9(); await server.run(); },
})) {
  test(`After ${way}, twice, every page is back, has missed nothing and heard nothing twice`, { timeout: 120_000 }, async (t) => {
    const { server, proxy } = await start(t);
    const casts = await Promise.all(TRANSPORTS.map(async (transport) => {
      const who = people();
      const { id } = await server.assigned(who);
      const pages = await Promise.all([as(who.customer, 'customer'), as(who.chef, 'chef'), { ...ADMIN, sub: `root-${id}` }].map(async (user) => {
        const client = await visit(proxy, { transport, user, more: { recovery: true }, options: EAGER });
        if (transport === 'upgrade') await client.upgraded();
        client.pid = client.socket._pid;
        assert.ok(client.pid, 'it has a pid');
        return { client, what: `${transport}, ${user.role}` };
      }));
      return { tale: new Tale(server, who, id), pages };
    }));
    const all = (change) => Promise.all(casts.map(change));
    const pages = casts.flatMap((one) => one.pages);
    const everybodyKnows = () => all(({ tale, pages: these }) => Promise.all(these.map(({ client, what }) => tale.check(client, what))));

    await all(({ tale }) => tale.handOver(people().driver)); // this event is a single message
    await everybodyKnows();
    await gone(proxy, pages, () => lose({ server, proxy }), () => all(async ({ tale }) => {
      await tale.status('picked_up');
      await tale.handOver(people().driver);
    }));
    await Promise.all(pages.map(({ client, what }) => recovered(client, what, 1)));
    await everybodyKnows();
    await gone(proxy, pages, () => lose({ server, proxy }), () => all(({ tale }) => tale.status('in_transit')));
    await Promise.all(pages.map(({ client, what }) => recovered(client, what, 2)));
    await all(({ tale }) => tale.status('delivered'));
    await everybodyKnows();
  });
}

test('A page that does not recover (socket.io-client 2 and 3) polls GET /orders/{id}/tracking and hears the rest', { timeout: 60_000 }, async (t) => {
  const { server } = await start(t);
  const who = people();
  const { id } = await server.assigned(who);
  const user = as(who.customer, 'customer');
  const old = combos.filter(({ client }) => client !== '4');
  const pages = await Promise.all(old.map(async (combo) => ({ what: label(combo), client: await visit(server, { ...combo, user, options: EAGER }) })));
  await server.kill9();
  await Promise.all(pages.map(({ client }) => client.next('(disconnect)')));
  await server.run();
  await Promise.all(pages.map(({ client }) => client.count('(connect)', 2, 20_000)));
  const { seq } = await server.status(id, 'picked_up', ADMIN);
  for (const { client, what } of pages) {
    assert.equal((await client.next('orderStatusUpdate', (update) => update.seq === seq)).status, 'picked_up', what);
  }
  const poll = (tag) => server.call('GET', `/orders/${id}/tracking`, undefined, user, tag ? { 'if-none-match': tag } : {});
  const first = await poll();
  assert.deepEqual([first.status, first.body.status, first.body.seq], [200, 'picked_up', seq]);
  assert.equal((await poll(first.headers.get('etag'))).status, 304);
  await server.status(id, 'delivered', ADMIN);
  const second = await poll(first.headers.get('etag'));
  assert.deepEqual([second.status, second.body.status], [200, 'delivered']);
});

test('When its token expires, the page is disconnected, comes back with a new token and has missed nothing', { timeout: 60_000 }, async (t) => {
  const { server } = await start(t);
  await Promise.all(TRANSPORTS.map(async (transport) => {
    const who = people();
    const user = as(who.customer, 'customer');
    const { id } = await server.assigned(who);
    const tale = new Tale(server, who, id);
    const end = Date.now() + 1500;
    let token = jwt({ ...user, exp: end / 1000 });
    let given = 0;
    const page = await visit(server, { transport, options: { ...EAGER, auth: (give) => { given += 1; give({ token, recovery: true }); } } });
    page.pid = page.socket._pid;
    await tale.status('picked_up');
    await tale.check(page, transport);
    token = jwt(user);
    await page.next('(disconnect)');
    assert.ok(Date.now() >= end - 50, `${transport}: not before its end`);
    await tale.status('in_transit');
    await recovered(page, transport, 1);
    await tale.check(page, transport);
    assert.ok(given >= 2, `${transport}: asked for a token again`);
  }));
});

test('Pages count as connections until they leave', async (t) => {
  const { server } = await start(t);
  const { customer } = people();
  const presence = () => server.ok('GET', `/users/${customer.id}/presence`);
  const pages = await Promise.all(['websocket', 'polling'].map((transport) => visit(server, { transport, user: as(customer, 'customer') })));
  assert.deepEqual(await presence(), { userId: customer.id, online: true, connections: 2 });
  for (const page of pages) page.close();
  await eventually(async () => !(await presence()).online, 'them to be gone');
});

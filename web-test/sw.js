// Shows what is pushed while nobody looks, says that it is there, and opens the page by a click.

self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));

const acknowledge = ({ id, ackUrl }, state) => {
  if (!ackUrl) return undefined;
  const { pathname, search } = new URL(ackUrl, self.location.href);
  return fetch(pathname + search, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ id, state }) }).catch(() => undefined);
};

self.addEventListener('push', (event) => {
  const { title, tag, silent, data } = event.data.json();
  const show = self.registration.showNotification(title, { tag, silent, data, renotify: Boolean(tag) && !silent });
  const tell = self.clients.matchAll({ includeUncontrolled: true }).then((clients) => {
    for (const client of clients) client.postMessage({ ...data, title, tag, at: new Date().toISOString() });
  });
  event.waitUntil(Promise.all([show, tell, acknowledge(data, 'delivered')]));
});

self.addEventListener('notificationclick', (event) => {
  event.notification.close();
  const open = self.clients.matchAll({ type: 'window' }).then(([client]) => client?.focus() ?? self.clients.openWindow('/'));
  event.waitUntil(Promise.all([open, acknowledge(event.notification.data, 'opened')]));
});

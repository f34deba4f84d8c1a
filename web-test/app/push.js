// Web Push of the customer's browser, and a phone that shows what would be pushed.

import { byId, h, icon, render } from './dom.js';
import { clock } from './order.js';

/** A key in base64url as bytes. */
const bytes = (text) => Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0));

const SHOWN = 4;

export class PhoneView {
  #rest = null;
  #messages = [];
  #state = 'off';
  #error = '';
  #connection;

  constructor(connection) {
    this.#connection = connection;
    navigator.serviceWorker?.addEventListener('message', ({ data }) => {
      if (data?.kind) this.#add(data);
    });
    connection.watch(() => this.#render());
  }

  use(setup, rest) {
    this.#rest = rest;
    this.#messages = [];
    this.#look();
  }

  #add(message) {
    // The newest about an order takes the place of older ones, as on a phone.
    this.#messages = [message, ...this.#messages.filter(({ tag }) => !tag || tag !== message.tag)].slice(0, SHOWN);
    this.#render();
  }

  async #look() {
    const registration = await navigator.serviceWorker?.getRegistration('/');
    const subscription = await registration?.pushManager?.getSubscription();
    this.#state = subscription ? 'on' : 'off';
    this.#render();
  }

  /** Asks the browser for a subscription, and registers it as a device of the customer. */
  async subscribe() {
    this.#error = '';
    this.#state = 'asking';
    this.#render();
    try {
      const { publicKey } = await this.#rest.vapidKey();
      await navigator.serviceWorker.register('/sw.js', { scope: '/' });
      const registration = await navigator.serviceWorker.ready;
      if (await Notification.requestPermission() !== 'granted') throw new Error('The browser does not allow notifications');
      const subscription = await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: bytes(publicKey) });
      const { endpoint, keys } = subscription.toJSON();
      const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
      await this.#rest.addDevice({ kind: 'webpush', subscription: { endpoint, keys }, platform: 'web', locale: navigator.language, timeZone: zone });
      this.#state = 'on';
    } catch (error) {
      this.#state = 'off';
      this.#error = error.message;
    }
    this.#render();
  }

  #render() {
    const can = 'serviceWorker' in navigator && 'PushManager' in globalThis;
    const label = { on: 'Notifications are on', asking: 'Asking the browser…', off: 'Notify me when I am away' }[this.#state];
    render(byId('customer-phone'),
      h('div', { class: 'phone', 'data-testid': 'phone', 'data-state': this.#state },
        h('button', {
          key: 'subscribe', type: 'button', class: 'button small', 'data-testid': 'push-subscribe', onclick: () => this.subscribe(),
          'aria-disabled': can && this.#state === 'off' ? false : 'true', title: can ? false : 'This browser has no Web Push here: it needs https or localhost',
        }, icon('bag'), label),
        this.#error && h('p', { class: 'inline-error', role: 'alert', key: 'error' }, this.#error),
        this.#messages.length > 0 && h('ol', { class: 'phone-messages', key: 'messages' },
          this.#messages.map((message) => h('li', { key: message.id, 'data-testid': 'phone-message', 'data-kind': message.kind },
            h('span', { class: 'phone-title' }, message.title), h('time', {}, clock(message.at)))))));
  }
}

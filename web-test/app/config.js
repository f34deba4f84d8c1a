// Where the page gets its server, tokens and places from: `/page-config` in demo mode, else the Connect panel.
// Tokens the user enters are kept in sessionStorage, that is, in this tab until it is closed, and nowhere else.

export const VIEWS = ['customer', 'chef', 'driver', 'admin'];
export const VIEW_TITLES = { customer: 'Customer', chef: 'Chef', driver: 'Driver', admin: 'Admin' };

const KEY = 'ordercast.connect';
export const TRANSPORTS = { auto: ['polling', 'websocket'], websocket: ['websocket'], polling: ['polling'] };

/** Vaduz, so that an order can be placed on a server of which nothing is known. */
const FALLBACK = {
  restaurant: { id: '', name: 'Test kitchen', businessName: 'Test kitchen', address: 'Städtle 1', latitude: 47.1393, longitude: 9.5228 },
  home: { address: 'Landstrasse 20', latitude: 47.1466, longitude: 9.5186 },
};

export async function loadPageConfig() {
  const blank = { demo: false, tileUrl: null, accounts: null, streets: null, restaurant: null, home: null, route: null };
  try {
    const response = await fetch('/page-config', { cache: 'no-store' });
    return response.ok ? { ...blank, ...(await response.json()) } : blank;
  } catch {
    return blank;
  }
}

export function readStored() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY)) ?? null;
  } catch {
    return null;
  }
}

export function store(choice) {
  try {
    if (choice) sessionStorage.setItem(KEY, JSON.stringify(choice));
    else sessionStorage.removeItem(KEY);
  } catch { /* storage is switched off: the choice lasts until a reload */ }
}

/** Who a token says it is for. Only for showing names: the server decides what it is worth. */
export function whoIs(token) {
  try {
    const body = token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
    const claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(body), (c) => c.charCodeAt(0))));
    const id = String(claims.sub ?? claims.userId ?? claims.user_id ?? claims.id ?? '');
    return id ? { id, name: claims.name ?? id, role: claims.role ?? claims.roles?.[0] ?? '', phone: claims.phone } : null;
  } catch {
    return null;
  }
}

/**
 * What the views work with.
 * @returns {{server, transport, accounts: Record<string, {token, user}|null>, restaurant, home, route, own: boolean}}
 */
export function resolve(page, stored) {
  const own = Boolean(stored && Object.values(stored.tokens ?? {}).some(Boolean));
  const accounts = Object.fromEntries(VIEWS.map((view) => {
    if (!own) return [view, page.accounts?.[view] ?? null];
    const token = stored.tokens[view]?.trim();
    return [view, token ? { token, user: whoIs(token) } : null];
  }));
  const here = own ? stored.places ?? {} : {};
  const base = page.restaurant ?? FALLBACK.restaurant;
  const chef = accounts.chef?.user;
  const restaurant = own
    ? { ...base, ...here.restaurant, id: here.restaurant?.id || chef?.id || base.id, ...(chef ? { name: chef.name } : {}) }
    : base;
  return {
    server: own ? (stored.server || '').replace(/\/+$/, '') : '',
    transport: stored?.transport ?? 'auto',
    accounts,
    restaurant,
    home: { ...(page.home ?? FALLBACK.home), ...here.home },
    route: page.route,
    own,
  };
}

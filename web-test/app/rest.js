// Calls to the REST surface with one view's token. The token stays in this closure.

export class RestError extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.message || problem.title || (status ? `The server answered ${status}` : 'The server cannot be reached'));
    this.status = status;
    this.code = problem.code;
    this.allowed = problem.allowed;
    this.attemptsLeft = problem.attemptsLeft;
  }
}

/** crypto.randomUUID exists only on secure origins; this page also runs on plain http in a lab. */
export function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * @param token gives the token of the moment
 * @param reachable false while the plug is out, which takes these calls with it
 * @param log called with every change made or refused: {event, payload, ms, error?}
 */
export function createRest({ server, token, reachable, log }) {
  async function call(method, path, body, { headers = {}, quiet = method === 'GET' } = {}) {
    const started = performance.now();
    const done = (payload, error) => log({ event: `${method} ${path}`, payload, ms: performance.now() - started, error });
    let response;
    try {
      if (!reachable()) throw new Error('unplugged');
      response = await fetch(server + path, {
        method,
        headers: {
          Accept: 'application/json',
          Authorization: `Bearer ${token()}`,
          ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
          ...headers,
        },
        body: body === undefined ? undefined : JSON.stringify(body),
        credentials: 'omit',
        cache: 'no-store',
      });
    } catch {
      const error = new RestError(0, {});
      if (!quiet) done({ request: body, error: error.message }, true);
      throw error;
    }
    const text = await response.text();
    let answer = null;
    try {
      answer = text ? JSON.parse(text) : null;
    } catch { /* not JSON: an intermediary's page, say */ }
    if (!response.ok) {
      const error = new RestError(response.status, answer ?? {});
      done({ status: response.status, code: error.code, message: error.message, request: body }, true);
      throw error;
    }
    if (!quiet) done({ status: response.status, request: body, answer });
    return answer;
  }

  const order = (id) => `/orders/${encodeURIComponent(id)}`;
  return {
    orders: async () => (await call('GET', '/orders?limit=100')).items ?? [],
    order: (id) => call('GET', order(id)),
    stats: () => call('GET', '/stats'),
    /** Prometheus text, open to anyone: no token goes with it. */
    metrics: async () => {
      if (!reachable()) throw new RestError(0, {});
      const response = await fetch(`${server}/metrics`, { credentials: 'omit', cache: 'no-store' });
      if (!response.ok) throw new RestError(response.status, {});
      return response.text();
    },
    place: (body, idempotencyKey) => call('POST', '/orders', body, { headers: { 'Idempotency-Key': idempotencyKey } }),
    setStatus: (id, status) => call('PATCH', `${order(id)}/status`, { status }),
    cancel: (id, reason) => call('POST', `${order(id)}/cancel`, { reason }),
    verifyPayment: (id) => call('POST', `${order(id)}/payment/verify`, { reference: 'test-page' }),
    assign: (id, driver) => call('POST', `${order(id)}/assign`, { driver }),
    unassign: (id) => call('DELETE', `${order(id)}/assign`),
    decline: (id, reason) => call('POST', `${order(id)}/decline`, { reason }),
    claim: (id) => call('POST', `${order(id)}/claim`, {}),
    offers: () => call('GET', '/offers'),
    fail: (id, reason) => call('PATCH', `${order(id)}/status`, { status: 'failed', reason }),
    correct: (id, status, note) => call('POST', `${order(id)}/correct`, { status, note }),
    pin: (id) => call('GET', `${order(id)}/pin`),
    proofs: (id) => call('GET', `${order(id)}/proof`),
    prove: (id, proof) => call('POST', `${order(id)}/proof`, proof),
    rate: (id, rating) => call('PUT', `${order(id)}/rating`, rating),
    share: (id, scope) => call('POST', `${order(id)}/share-links`, { scope }),
    fleet: () => call('GET', '/drivers?limit=200'),
    sockets: () => call('GET', '/sockets?limit=100'),
    endSessions: (user) => call('DELETE', `/users/${encodeURIComponent(user)}/sessions`),
    search: (query) => call('GET', `/orders?limit=50&q=${encodeURIComponent(query)}`),
    webhooks: () => call('GET', '/webhooks'),
    addWebhook: (url, events) => call('POST', '/webhooks', { url, events }),
    removeWebhook: (id) => call('DELETE', `/webhooks/${id}`),
    testWebhook: (id) => call('POST', `/webhooks/${id}/test`, {}),
    webhookMessages: (id) => call('GET', `/webhooks/${id}/deliveries?limit=50`),
    vapidKey: () => call('GET', '/push/vapid-key'),
    addDevice: (device) => call('POST', '/devices', device),
    deliveries: () => call('GET', '/deliveries?limit=50'),
    delivery: (id) => call('GET', `/deliveries/${id}`),
    retryDelivery: (id) => call('POST', `/deliveries/${id}/retry`, {}),
    replay: (id) => call('POST', `${order(id)}/replay`, {}, { quiet: true }),
    setEta: (id, etaMinutes) => call('POST', `${order(id)}/eta`, { etaMinutes }),
  };
}

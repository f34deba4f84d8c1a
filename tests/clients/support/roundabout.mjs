// An HTTP proxy that sends each request, and each WebSocket, to another server than the one before: the opposite of sticky sessions.
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';

export class Roundabout {
  #next = 0;
  #agent = new http.Agent({ keepAlive: true });
  #tunnels = new Set();
  /** How many requests and WebSockets each server got. */
  sent;

  /** Clients use `base` instead of a server's. */
  static async start(servers) {
    const proxy = new Roundabout();
    proxy.servers = servers;
    proxy.sent = servers.map(() => 0);
    proxy.listener = http.createServer((request, response) => proxy.#pass(request, response));
    proxy.listener.on('upgrade', (request, socket, head) => proxy.#tunnel(request, socket, head));
    proxy.listener.listen(0, '127.0.0.1');
    await once(proxy.listener, 'listening');
    proxy.base = `http://127.0.0.1:${proxy.listener.address().port}`;
    return proxy;
  }

  #turn() {
    const index = this.#next % this.servers.length;
    this.#next += 1;
    this.sent[index] += 1;
    return this.servers[index].port;
  }

  #pass(request, response) {
    const { method, url: path, headers } = request;
    const far = http.request({ host: '127.0.0.1', port: this.#turn(), agent: this.#agent, method, path, headers });
    far.on('response', (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    far.on('error', () => { if (response.headersSent) response.destroy(); else response.writeHead(502).end(); });
    response.on('close', () => { if (!response.writableFinished) far.destroy(); });
    request.pipe(far);
  }

  #tunnel({ method, url, rawHeaders }, near, head) {
    const far = net.connect({ host: '127.0.0.1', port: this.#turn(), noDelay: true });
    const lines = [`${method} ${url} HTTP/1.1`];
    for (let i = 0; i < rawHeaders.length; i += 2) lines.push(`${rawHeaders[i]}: ${rawHeaders[i + 1]}`);
    far.write(`${lines.join('\r\n')}\r\n\r\n`);
    far.write(head);
    this.#tunnels.add(near);
    for (const [one, other] of [[near, far], [far, near]]) {
      one.on('error', () => other.destroy()).on('close', () => { other.destroy(); this.#tunnels.delete(near); });
      one.pipe(other);
    }
  }

  /** Cuts all WebSockets. */
  cut() {
    for (const near of this.#tunnels) near.destroy();
  }

  close() {
    this.cut();
    this.#agent.destroy();
    this.listener.closeAllConnections();
    this.listener.close();
  }
}

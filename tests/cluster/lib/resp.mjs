// A connection to a Redis that can be trusted with bytes, which redis-cli's output cannot.
import net from 'node:net';

export const REDIS_PORT = 6379;
const CONNECT_MS = 2000;

/** The value at `at` as [value, next], or null when it is not all there. */
function read(bytes, at) {
  const end = bytes.indexOf('\r\n', at);
  if (end < 0) return null;
  const [type, text, next] = [String.fromCharCode(bytes[at]), bytes.toString('latin1', at + 1, end), end + 2];
  if (type === '+') return [text, next];
  if (type === '-') return [new Error(text), next];
  if (type === ':') return [Number(text), next];
  if (type === '$') {
    if (text === '-1') return [null, next];
    const length = Number(text);
    return bytes.length < next + length + 2 ? null : [bytes.subarray(next, next + length), next + length + 2];
  }
  const values = [];
  let place = next;
  for (let n = Number(text); n > 0; n -= 1) {
    const one = read(bytes, place);
    if (!one) return null;
    values.push(one[0]);
    place = one[1];
  }
  return [values, place];
}

export class Resp {
  #bytes = Buffer.alloc(0);
  #waiting = [];

  /** `heard(channel, message)`: what comes for subscriptions. */
  static async open(host, { heard = () => {}, port = REDIS_PORT } = {}) {
    const resp = new Resp();
    resp.socket = net.connect({ host, port, timeout: CONNECT_MS });
    resp.socket.on('data', (data) => resp.#read(data, heard));
    await new Promise((resolve, reject) => {
      resp.socket.once('connect', resolve).once('error', reject).once('timeout', () => reject(new Error(`no Redis at ${host}`)));
    });
    resp.socket.setTimeout(0);
    resp.socket.on('error', () => {}).on('close', () => { for (const { reject } of resp.#waiting.splice(0)) reject(new Error('Redis is gone')); });
    return resp;
  }

  #read(data, heard) {
    this.#bytes = Buffer.concat([this.#bytes, data]);
    for (let one = read(this.#bytes, 0); one; one = read(this.#bytes, 0)) {
      const [value, next] = one;
      this.#bytes = this.#bytes.subarray(next);
      const kind = Array.isArray(value) ? `${value[0]}` : '';
      if (/^p?message$/.test(kind)) heard(`${value.at(-2)}`, Buffer.from(value.at(-1)));
      else if (value instanceof Error) this.#waiting.shift()?.reject(value);
      else this.#waiting.shift()?.resolve(value);
    }
  }

  ask(...args) {
    const parts = args.map((arg) => (Buffer.isBuffer(arg) ? arg : Buffer.from(String(arg))));
    this.socket.write(Buffer.concat([
      Buffer.from(`*${parts.length}\r\n`), ...parts.flatMap((part) => [Buffer.from(`$${part.length}\r\n`), part, Buffer.from('\r\n')]),
    ]));
    return new Promise((resolve, reject) => { this.#waiting.push({ resolve, reject }); });
  }

  close() { this.socket.destroy(); }
}

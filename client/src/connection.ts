import type { Wire } from './client.js';
import { type OrdercastError, failure } from './errors.js';
import { Store } from './store.js';

/** A token, or a function that gives one. The function is asked anew at every connection, and when the token is about to end. */
export type TokenSource = string | (() => string | Promise<string>);

export interface ConnectionState {
  /**
   * `connecting`: never connected yet. `connected`. `reconnecting`: lost, and comes back by itself.
   * `refused`: the server does not want this token, and the client has no other; see `setToken` and `retry`. `closed`: by `close`.
   */
  readonly phase: 'connecting' | 'connected' | 'reconnecting' | 'refused' | 'closed';
  /** What is wrong and what to do. Null while all is well. */
  readonly error: OrdercastError | null;
  /** Whose token it is, as the server reads it. */
  readonly userId: string | null;
  readonly role: string | null;
  /** Whether the last connection went on where the one before was cut. */
  readonly recovered: boolean;
  /** When the token ends, once the server has warned of it (a minute before). */
  readonly tokenEndsAt: string | null;
}

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
/** A connection that has lived that long counts as a good one: the next trouble is waited for from the start. */
const GOOD_MS = 10_000;
const RENEW_AGAIN_MS = 10_000;

/** Waits that double, from half a second to half a minute. */
export class Backoff {
  #timer: ReturnType<typeof setTimeout> | undefined;
  #wait = FIRST_WAIT_MS;

  /** Calls `then` after the next wait, or after `ms`. Whatever waited before does not wait any more. */
  again(then: () => void, ms = this.#wait): void {
    clearTimeout(this.#timer);
    this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT_MS);
    this.#timer = setTimeout(then, ms);
  }

  /** Waits for nothing, and begins anew. */
  reset(): void {
    clearTimeout(this.#timer);
    this.#wait = FIRST_WAIT_MS;
  }
}

const WHAT_TO_DO: Record<string, string> = {
  token_expired: 'Give a token that has not ended: let `token` be a function that gets a fresh one, or call `setToken`.',
  unauthorized: 'The server cannot verify this token: look at its key, issuer and audience, sign in again, then call `setToken`.',
  session_ended: 'The user was signed out: sign in again, then call `setToken`.',
};

/** Keeps one socket connected, with a token that is good. socket.io-client itself comes back from lost connections. */
export class Connection extends Store<ConnectionState> {
  readonly #socket: Wire;
  readonly #url: string;
  readonly #renewOn: (token: string) => Promise<unknown>;
  #source: TokenSource;
  #given: string | undefined;
  /** A token that was refused is not given again. */
  #refused: string | undefined;
  #turn = 0;
  #wasConnected = false;
  readonly #backoff = new Backoff();
  readonly #good = new Backoff();
  readonly #renewal = new Backoff();

  /** `renewOn` sends `token:refresh` on the live socket. */
  constructor(socket: Wire, url: string, source: TokenSource, renewOn: (token: string) => Promise<unknown>) {
    super({ phase: 'connecting', error: null, userId: null, role: null, recovered: false, tokenEndsAt: null });
    this.#socket = socket;
    this.#url = url;
    this.#source = source;
    this.#renewOn = renewOn;
    socket.auth = (give) => void this.#authenticate(give);
    socket.on('connect', () => this.#connected());
    socket.on('connected', ({ userId, role, recovered }) => this.set({ userId, role, recovered }));
    socket.on('disconnect', (reason) => this.#lost(reason));
    socket.on('connect_error', (error) => this.#failed(error));
    for (const event of ['token:expiring', 'token:expired'] as const) {
      socket.on(event, ({ expiresAt }) => {
        this.set({ tokenEndsAt: expiresAt });
        this.#renew();
      });
    }
  }

  /** Goes on with another token: on the live socket, or at the next connection, which is tried at once. */
  setToken(source: TokenSource): void {
    this.#source = source;
    if (this.#socket.connected) this.#renew();
    else this.retry();
  }

  /** Tries again now, after a refusal too. */
  retry(): void {
    this.#refused = undefined;
    this.#backoff.reset();
    if (this.get().phase === 'refused' || this.get().phase === 'closed') this.set({ phase: this.#away, error: null });
    if (!this.#socket.active) this.#socket.connect();
  }

  close(): void {
    this.#turn += 1;
    for (const timer of [this.#backoff, this.#good, this.#renewal]) timer.reset();
    this.#socket.disconnect();
    this.set({ phase: 'closed', error: failure('closed', 'The client was closed by `close`.') });
  }

  get #away() {
    return this.#wasConnected ? 'reconnecting' : 'connecting';
  }

  async #ask(): Promise<string> {
    try {
      const token = typeof this.#source === 'function' ? await this.#source() : this.#source;
      if (token) return token;
      throw new Error('it gave nothing');
    } catch (error) {
      throw failure('no_token', `The token function failed: ${error instanceof Error ? error.message : error}. It is asked again in a while.`);
    }
  }

  async #authenticate(give: (auth: object) => void): Promise<void> {
    const turn = ++this.#turn;
    const token = await this.#ask().catch((error) => {
      if (turn !== this.#turn) return;
      this.set({ error });
      // The next connection asks again.
      this.#backoff.again(() => turn === this.#turn && this.#socket.io.engine.close());
    });
    if (turn !== this.#turn || !token) return;
    if (token === this.#refused) {
      this.#socket.disconnect();
      this.set({ phase: 'refused' });
      return;
    }
    this.#given = token;
    give({ token });
  }

  #connected(): void {
    this.#wasConnected = true;
    this.#refused = undefined;
    this.#good.again(() => this.#backoff.reset(), GOOD_MS);
    this.set({ phase: 'connected', error: null, tokenEndsAt: null });
  }

  #lost(reason: string): void {
    this.#good.reset();
    this.#renewal.reset();
    if (reason === 'io client disconnect') return;
    if (reason === 'io server disconnect') this.#notWanted('session_ended', 'The server has ended the session.');
    else if (this.get().phase === 'connected') this.set({ phase: 'reconnecting', error: failure('disconnected', `The connection to ${this.#url} was lost (${reason}). It comes back by itself.`) });
  }

  #failed({ message }: Error): void {
    if (this.#socket.active) {
      const what = `No connection to ${this.#url} (${message}). Is the server running, is this its address, and does its CORS_ORIGIN name this page? The client goes on trying.`;
      this.set({ phase: this.#away, error: failure('unreachable', what) });
      return;
    }
    const code = /^\w+(?=:)/.exec(message)?.[0] ?? 'refused';
    this.#notWanted(code, message);
  }

  /** Comes back with another token, if there may be one. */
  #notWanted(code: string, message: string): void {
    this.#refused = this.#given;
    const error = failure(code, `${message} ${WHAT_TO_DO[code] ?? ''}`.trim());
    if (typeof this.#source !== 'function') {
      this.set({ phase: 'refused', error });
      return;
    }
    this.set({ phase: this.#away, error });
    this.#backoff.again(() => this.#socket.connect());
  }

  /** Brings a newer token to the live socket, so that it need not connect again. */
  async #renew(): Promise<void> {
    const turn = this.#turn;
    const isCurrent = () => turn === this.#turn && this.#socket.connected;
    try {
      const token = await this.#ask();
      if (!isCurrent()) return;
      if (token !== this.#given) {
        await this.#renewOn(token);
        this.#given = token;
        if (isCurrent()) this.set({ tokenEndsAt: null, error: null });
        return;
      }
    } catch (error) {
      if (isCurrent()) this.set({ error: error as OrdercastError });
    }
    if (typeof this.#source === 'function' && this.get().tokenEndsAt) this.#renewal.again(() => isCurrent() && void this.#renew(), RENEW_AGAIN_MS);
  }
}

import type { Refusal } from './events.js';

/** What went wrong, with a code for programs and a message for people. */
export class OrdercastError extends Error {
  /**
   * The server's code (`not_found`, `forbidden`, `rate_limited` …), or one of the client's own: `timeout`, `disconnected`,
   * `unreachable`, `no_token`, `session_ended`, `unassigned`, `closed`.
   */
  readonly code: string;
  /** The member of the payload that is at fault. */
  readonly member: string | undefined;
  /** How long to wait before the request is repeated, in milliseconds. */
  readonly retryAfterMs: number | undefined;
  /** All that the server said: `allowed` and `status` of an illegal transition, `seq` of a stale one … */
  readonly details: Partial<Refusal>;

  constructor(problem: { code: string; message: string } & Partial<Refusal>) {
    super(problem.message);
    this.name = 'OrdercastError';
    this.code = problem.code;
    this.member = problem.member;
    this.retryAfterMs = problem.retryAfterMs;
    this.details = problem;
  }
}

/** An error of the client itself. */
export const failure = (code: string, message: string) => new OrdercastError({ code, message });

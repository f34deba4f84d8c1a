// A request over Socket.IO, answered with an ack.

const ACK_TIMEOUT = 8000;

export class RequestError extends Error {
  constructor({ code = 'failed', message, ...rest } = {}) {
    super(message || code);
    this.code = code;
    this.details = rest;
  }
}

/**
 * Emits with an ack. Resolves with the answer, rejects with a RequestError.
 * @param note called with what goes out and what comes back: {direction, payload, ms?, error?}
 */
export function request(socket, event, payload, note = () => {}) {
  if (!socket?.connected) return Promise.reject(new RequestError({ code: 'not_connected', message: 'Not connected' }));
  const started = performance.now();
  note({ direction: 'out', payload });
  return new Promise((resolve, reject) => {
    socket.timeout(ACK_TIMEOUT).emit(event, payload, (timedOut, answer) => {
      const ms = performance.now() - started;
      if (timedOut) {
        note({ direction: 'ack', payload: { error: 'no answer' }, ms, error: true });
        reject(new RequestError({ code: 'timeout', message: 'The server did not answer' }));
        return;
      }
      const failed = answer?.ok === false;
      note({ direction: 'ack', payload: answer, ms, error: failed });
      if (failed) reject(new RequestError(answer.error));
      else resolve(answer ?? {});
    });
  });
}

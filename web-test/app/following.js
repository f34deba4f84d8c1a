// The orders one connection follows by name, also over reconnects.

export class Following {
  #wanted = new Set();
  #joined = new Set();
  #request;
  #note;

  /** @param request sends a request with an ack; note writes a line into the log */
  constructor(request, note) {
    this.#request = request;
    this.#note = note;
  }

  get wanted() {
    return this.#wanted;
  }

  clear() {
    this.#wanted.clear();
    this.#joined.clear();
  }

  /** Follows an order until `unsubscribe`. */
  async subscribe(orderId) {
    this.#wanted.add(orderId);
    return this.#join(orderId);
  }

  async unsubscribe(orderId, connected) {
    this.#wanted.delete(orderId);
    if (connected && this.#joined.has(orderId)) await this.#part(orderId);
  }

  /**
   * A recovered session still follows what it followed when it was cut; a new one follows nothing.
   * @param last gives the number of the last event heard of an order
   */
  rejoin(recovered, last) {
    if (!recovered) this.#joined.clear();
    for (const id of this.#joined) if (!this.#wanted.has(id)) this.#part(id);
    for (const id of this.#wanted) {
      if (this.#joined.has(id)) continue;
      const since = recovered ? undefined : last(id);
      this.#join(id, since).catch((error) => this.#note('subscribe failed', { orderId: id, code: error.code }, { error: true }));
    }
  }

  async #join(orderId, since) {
    const answer = await this.#request('subscribe:order', since === undefined ? { orderId } : { orderId, since });
    this.#joined.add(orderId);
    if (!this.#wanted.has(orderId)) this.#part(orderId); // changed their mind meanwhile
    return answer;
  }

  async #part(orderId) {
    this.#joined.delete(orderId);
    await this.#request('unsubscribe:order', { orderId }).catch(() => {});
  }
}

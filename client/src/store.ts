/** A value that changes. It is a store of Svelte, and has the two functions of React's `useSyncExternalStore`. */
export interface Readable<T> {
  /** Calls `listener` with the value now and at every change. Returns the function that ends it. */
  readonly subscribe: (listener: (value: T) => void) => () => void;
  /** The value. It is never changed: a new value is a new object. */
  readonly get: () => T;
  /** The same as `get`. */
  readonly getSnapshot: () => T;
}

/** Calls all listeners. One that throws costs the others nothing, and its error is an uncaught one. */
export function tell<T>(listeners: Iterable<(value: T) => void>, value: T): void {
  for (const listener of [...listeners]) {
    try {
      listener(value);
    } catch (error) {
      queueMicrotask(() => { throw error; });
    }
  }
}

/** A `Readable` that can be written. Its functions need no `this`. */
export class Store<T extends object> implements Readable<T> {
  #value: T;
  readonly #listeners = new Set<(value: T) => void>();

  constructor(value: T) {
    this.#value = value;
  }

  readonly get = (): T => this.#value;
  readonly getSnapshot = this.get;

  readonly subscribe = (listener: (value: T) => void): (() => void) => {
    const own = (value: T) => listener(value); // the same function may subscribe twice
    this.#listeners.add(own);
    own(this.#value);
    return () => void this.#listeners.delete(own);
  };

  set(change: Partial<T>): void {
    this.#value = { ...this.#value, ...change };
    tell(this.#listeners, this.#value);
  }
}

// A value outside of components that components can follow.

import { createSubscriber } from 'svelte/reactivity';

/** A value whose readers in effects and templates run again when it changes. */
export class Cell<T> {
  #value: T;
  #update: (() => void) | undefined;
  readonly #subscribe: () => void;

  constructor(value: T) {
    this.#value = value;
    this.#subscribe = createSubscriber((update) => {
      this.#update = update;
      return () => (this.#update = undefined);
    });
  }

  get value(): T {
    this.#subscribe();
    return this.#value;
  }

  /** The value, without following it. */
  peek(): T {
    return this.#value;
  }

  set value(value: T) {
    if (value === this.#value) return;
    this.#value = value;
    this.#update?.();
  }
}

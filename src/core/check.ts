/**
 * Assertions that are on in production.
 *
 * A state that must not be is damage that travels: it is cheaper to end the thread where it is seen than to find out, a thousand
 * events later, what it has led to. A condition here says something about this program alone; what a device, a client or a
 * caller can cause is an operating error, and has a code.
 *
 * In control work, which is made of promises, what fails by it is the operation: nothing of it is done, and whoever asked for it
 * learns why. What it says is a constant text, so that on the way of every request an assertion costs a comparison only.
 */

/** This program has contradicted itself. Nobody handles it: it ends the thread in which it happens. */
export class InternalError extends Error {
  override readonly name = 'InternalError';
}

/** For `catch`: an operating error counts as `otherwise`; that this program has contradicted itself goes on to whoever asked. */
export function unlessInternal<T>(otherwise: T): (error: unknown) => T {
  return (error) => {
    if (error instanceof InternalError) throw error;
    return otherwise;
  };
}

/**
 * Throws an `InternalError` that says `what` is wrong, and of which number, if a condition does not hold.
 *
 * The error is made elsewhere, so that this is short enough for the optimizing compiler to put it in place wherever it is called,
 * beside all else that it puts there.
 */
export function check(condition: boolean, what: string, value?: number): asserts condition {
  if (!condition) contradict(what, value);
}

function contradict(what: string, value: number | undefined): never {
  throw new InternalError(value === undefined ? what : `${what}: ${value}`);
}

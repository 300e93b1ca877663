/** Errors that are expected. */

import * as assert from 'uvu/assert';
import { type ErrorName, StrakeError } from '#strake/core/errors.js';

/** The error that `attempt` ends with, which must have this code, and say what `words` finds in it. */
export async function failure(name: ErrorName, attempt: Promise<unknown>, words?: RegExp): Promise<StrakeError> {
  try {
    await attempt;
  } catch (error) {
    assert.instance(error, StrakeError, String(error));
    const found = error as StrakeError;
    assert.is(found.code, `ERR_STRAKE_${name}`, found.message);
    if (words !== undefined) assert.match(found.message, words);
    return found;
  }
  throw new Error(`no error; ERR_STRAKE_${name} was expected`);
}

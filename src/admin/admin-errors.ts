/** Errors as the admin API tells them: a status of HTTP, and what was wrong, why, and what to do. */

import { ERRORS, type ErrorName, StrakeError, toStrakeError } from '../core/errors.js';
import { ADMIN_VERSION } from './admin-schemas.js';

/** Statuses of single errors; of the others they follow from what the command line exits with. */
const STATUS: { readonly [Name in ErrorName]?: number } = {
  NO_VOLUME: 404,
  NOT_FOUND: 404,
  EXISTS: 409,
  NAME_CONFLICT: 409,
  NO_PERMISSION: 403,
  NO_SPACE: 507,
  INVALID_ARGUMENT: 400,
};
const BY_EXIT_CODE: Readonly<Record<number, number>> = { 1: 500, 2: 400, 4: 503, 5: 409 };

/** An error that has a status of its own: a request that is none of the API's. */
export class RequestError extends StrakeError {
  readonly status: number;

  constructor(status: number, name: ErrorName, message: string, remedy?: string) {
    super(name, message, remedy === undefined ? {} : { remedy });
    this.status = status;
  }
}

export interface ToldError {
  readonly status: number;
  readonly body: object;
  /** It is a mistake of this program, and not of whoever asks. */
  readonly isBug: boolean;
}

/** What a request that fails is answered with. */
export function toldError(thrown: unknown): ToldError {
  const isBug = !(thrown instanceof StrakeError);
  const error = toStrakeError(thrown);
  const { code, remedy, retryable } = error;
  const name = code.slice('ERR_STRAKE_'.length) as ErrorName;
  const status = error instanceof RequestError ? error.status : (STATUS[name] ?? BY_EXIT_CODE[ERRORS[name].exitCode]);
  // What a bug says may be anything.
  const message = isBug ? 'an error that should not be; the log of the manager has it' : error.message;
  return { status, body: { schema: 'strake.error', version: ADMIN_VERSION, code, message, remedy, retryable }, isBug };
}

/**
 * Error numbers of Linux, as engines return them (negated) and as NBD carries them (it uses the same numbers).
 */

import { StrakeError } from './errors.js';

export const EPERM = 1;
export const ENOENT = 2;
export const EIO = 5;
export const EBADF = 9;
/** What was read may not be on every member in-sync. */
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EACCES = 13;
export const EBUSY = 16;
export const EEXIST = 17;
export const ENOTDIR = 20;
export const EINVAL = 22;
export const ENOSPC = 28;
export const EROFS = 30;
export const EPIPE = 32;
export const ENAMETOOLONG = 36;
export const ENODATA = 61;
export const EBADMSG = 74;
export const EOPNOTSUPP = 95;
export const EADDRINUSE = 98;
export const ECONNRESET = 104;
export const ESHUTDOWN = 108;
/** A newer map has taken the place of the one under which something was asked for. */
export const ECONNREFUSED = 111;
export const ESTALE = 116;
export const ECANCELED = 125;
export const EDQUOT = 122;

/** The error of a failed device operation; `errno` is positive, `what` names operation and device. */
export function deviceError(errno: number, what: string): StrakeError {
  switch (errno) {
    case ENOSPC:
    case EDQUOT:
      return new StrakeError('NO_SPACE', `${what}: no space left`, { errno });
    case EOPNOTSUPP:
      return new StrakeError('NOT_SUPPORTED', `${what}: not supported`, { errno });
    case EPERM:
    case EROFS:
      return new StrakeError('READ_ONLY', `${what}: the device is open read-only`, { errno });
    case EINVAL:
      return new StrakeError('OUT_OF_RANGE', `${what}: outside of the device`, { errno });
    case EBUSY:
    case ENOMEM:
      return new StrakeError('BUSY', `${what}: no free slot`, { errno });
    case EBADF:
    case ECANCELED:
    case ESHUTDOWN:
      return new StrakeError('CLOSED', `${what}: the device is closed`, { errno });
    default:
      return new StrakeError('IO', `${what}: input/output error (errno ${errno})`, { errno });
  }
}

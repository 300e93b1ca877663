/** What is said of a device that a node was told to drive and does not. */

import { type ErrorName, StrakeError } from '../core/errors.js';
import type { UnavailableDevice } from './node-types.js';

const again = (path: string) => `then: strake device add ${path}`;
const instead = (id: string | null) => `strake device replace ${id ?? 'ID'} NEWPATH`;

/** What to do, by the reason. */
const REMEDIES: Partial<Record<ErrorName, (path: string, id: string | null) => string>> = {
  NOT_FOUND: (path, id) => `Bring it back, ${again(path)}; if it is lost for good: ${instead(id)}`,
  NO_PERMISSION: (path) => `Give the user that runs the node access to it, ${again(path)}`,
  READ_ONLY: (path) => `Make it writable (\`blockdev --setrw\`, or mount its file system so), ${again(path)}`,
  IN_USE: (path) => `Stop what uses it, ${again(path)}`,
  NOT_FORMATTED: (path) =>
    `Check that it is the right one. A new one: strake device format ${path} --cluster ID, ${again(path)}`,
  DAMAGED: (path, id) =>
    `See \`strake device fsck ${path}\`; a member of a mirror is rebuilt on another: ${instead(id)}`,
  IO: (path, id) =>
    `Look at the kernel log (\`dmesg\`). If it works again: strake device add ${path}; else: ${instead(id)}`,
  FENCED: (path, id) =>
    `Look at the kernel log (\`dmesg\`). If it works again: strake device add ${path}; else: ${instead(id)}`,
  SYMLINK: () => 'Name its target instead, then: strake device add TARGET',
};

/** `error` is null as long as the device has not answered. */
export function explainUnavailable(
  path: string,
  deviceId: string | null,
  error: StrakeError | null,
): UnavailableDevice {
  if (error === null) {
    const remedy = `It joins when it answers. Look at the kernel log (\`dmesg\`); if it is dead: ${instead(deviceId)}`;
    return { path, deviceId, code: 'ERR_STRAKE_TIMED_OUT', reason: `${path} has not answered yet`, remedy };
  }
  const name = error.code.slice('ERR_STRAKE_'.length) as ErrorName;
  const remedy = REMEDIES[name]?.(path, deviceId) ?? error.remedy;
  return { path, deviceId, code: error.code, reason: error.message, remedy };
}

/** The same as an error. */
export function unavailableError({ path, code, reason, remedy }: UnavailableDevice): StrakeError {
  const name = code.slice('ERR_STRAKE_'.length) as ErrorName;
  return new StrakeError(name, reason.includes(path) ? reason : `${path}: ${reason}`, { remedy });
}

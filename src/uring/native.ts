/**
 * The native addon, loaded at first use: importing Strake works everywhere and starts nothing.
 */

import { createRequire } from 'node:module';
import { ERRORS, type ErrorName, StrakeError } from '../core/errors.js';

type Binding = typeof import('../../native/index.js');
export type NativeEngine = InstanceType<Binding['NativeEngine']>;
export type NativeDeviceFacts = Parameters<Parameters<Binding['inspectNativeDevice']>[1]>[1];
export type FaultRule = Parameters<NativeEngine['injectFaults']>[0][number];

let binding: Binding | undefined;

/** The addon. Throws `ERR_STRAKE_UNSUPPORTED_PLATFORM` where it does not load. */
export function native(): Binding {
  if (binding === undefined) {
    try {
      binding = createRequire(import.meta.url)('../../native/index.cjs') as Binding;
    } catch (cause) {
      const { platform, arch } = process;
      throw new StrakeError('UNSUPPORTED_PLATFORM', `the native addon does not load on ${platform} ${arch}`, { cause });
    }
  }
  return binding;
}

/** An error of the addon (`CODE|errno|message`) as a typed one; `fallback` is the code of an unknown system error. */
export function nativeError(error: unknown, fallback: ErrorName): StrakeError {
  const text = error instanceof Error ? error.message : String(error);
  const [code, errno, ...rest] = text.split('|');
  if (rest.length === 0) return new StrakeError(fallback, text, { cause: error });
  const name = Object.hasOwn(ERRORS, code) ? (code as ErrorName) : fallback;
  return new StrakeError(name, rest.join('|'), { cause: error, errno: Number(errno) });
}

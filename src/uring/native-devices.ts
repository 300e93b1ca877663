/**
 * Opening and examining devices in threads of their own, one for each call: a device may take for ever, and holds up nothing
 * else then. A promise of these does not keep the process alive; whoever waits says for how long (`within`).
 */

import { StrakeError } from '../core/errors.js';
import { IO_TIMEOUT_MS } from '../core/limits.js';
import { type NativeDeviceFacts, native, nativeError } from './native.js';

/** An open, locked device that waits to be adopted by an engine, under the number `handle`. */
export interface OpenedDevice {
  readonly handle: number;
  readonly facts: NativeDeviceFacts;
}

/** What device a path names. */
export interface DeviceIdentity {
  /** The same for all names of a device. */
  readonly key: string;
  /** The path is a link that is not followed when it is opened. */
  readonly refusedLink: boolean;
}

function inThread<T>(begin: (done: (error: Error | null, value: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const fail = (error: unknown) => reject(nativeError(error, 'IO'));
    try {
      begin((error, value) => (error === null ? resolve(value) : fail(error)));
    } catch (error) {
      fail(error);
    }
  });
}

/** Opens and locks a device: alone for writing, with other readers for reading. */
export function openDeviceFile(path: string, readOnly: boolean): Promise<OpenedDevice> {
  return inThread((done) => native().openNativeDevice(path, readOnly, done));
}

/** Looks at a device without locking it. */
export function inspectDeviceFile(path: string): Promise<NativeDeviceFacts> {
  return inThread((done) => native().inspectNativeDevice(path, done));
}

/** Tells which device a path names, whatever links it leads through. */
export function identifyDevice(path: string): Promise<DeviceIdentity> {
  return inThread((done) => native().identifyNativeDevice(path, done));
}

/** The key of an open device, as `identifyDevice` tells it for its names. */
export function keyOf({ kind, identity }: NativeDeviceFacts): string {
  return kind === 'block' ? `block:${identity.split(':')[0]}` : `file:${identity}`;
}

/** Reads from a device that no engine has adopted. */
export function readDeviceFile(handle: number, offset: number, length: number): Promise<Uint8Array> {
  return inThread((done) => native().readNativeDevice(handle, offset, length, done));
}

/**
 * What `work` resolves with, if that is within a time; rejects with `ERR_STRAKE_TIMED_OUT` else. What comes later goes to
 * `late`. Keeps the process alive meanwhile.
 */
export function within<T>(
  work: Promise<T>,
  what: string,
  late: (value: T) => void = () => {},
  milliseconds = IO_TIMEOUT_MS,
): Promise<T> {
  return new Promise((resolve, reject) => {
    let over = false;
    const timer = setTimeout(() => {
      over = true;
      const text = `${what} has not answered within ${milliseconds / 1000} s`;
      reject(new StrakeError('TIMED_OUT', text, { remedy: 'Look at the kernel log (`dmesg`); it may be failing.' }));
    }, milliseconds);
    work.then(
      (value) => {
        clearTimeout(timer);
        if (over) late(value);
        else resolve(value);
      },
      (error: unknown) => {
        clearTimeout(timer);
        reject(error);
      },
    );
  });
}

/** The processors that this process may run on, by core. */

import { readFileSync } from 'node:fs';
import { findProgram } from '../embed/programs.js';
import { divide, type Pinning } from './paired.js';

/** Such as `0-3,8` as a list of numbers. */
export function parseList(text: string): number[] {
  return text
    .trim()
    .split(',')
    .flatMap((range) => {
      const [first, last = first] = range.split('-').map(Number);
      return Array.from({ length: last - first + 1 }, (_, index) => first + index);
    });
}

/** Allowed processors, those of one core together. */
export function cores(): number[][] {
  const [, list] = /^Cpus_allowed_list:\s+(.+)$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  const found = new Map<string, number[]>();
  for (const processor of parseList(list ?? '0')) {
    let siblings = String(processor);
    try {
      siblings = readFileSync(`/sys/devices/system/cpu/cpu${processor}/topology/thread_siblings_list`, 'utf8').trim();
    } catch {
      // The system does not tell: it counts as a core of its own.
    }
    found.set(siblings, [...(found.get(siblings) ?? []), processor]);
  }
  return [...found.values()];
}

/** How to pin servers and clients apart; null where that cannot be done: it takes taskset and two processors. */
export function pinning(): Pinning | null {
  return findProgram('taskset') === undefined ? null : divide(cores());
}

/** A command line that runs only on these processors. */
export function onProcessors(processors: readonly number[], line: readonly string[]): string[] {
  return ['taskset', '-c', processors.join(','), ...line];
}

/** The processors that this process may run on, by core. */

import { readFileSync } from 'node:fs';

/** Such as `0-3,8` as a list of numbers. */
export function parseList(text) {
  return text
    .trim()
    .split(',')
    .flatMap((range) => {
      const [first, last = first] = range.split('-').map(Number);
      return Array.from({ length: last - first + 1 }, (_, index) => first + index);
    });
}

/** Allowed processors, those of one core together. */
export function cores() {
  const allowed = parseList(/^Cpus_allowed_list:\s+(.+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]);
  const found = new Map();
  for (const processor of allowed) {
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

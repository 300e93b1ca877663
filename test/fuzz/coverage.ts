/**
 * Which blocks of the compiled code have run, as V8 tells its inspector: block coverage with counts, which are set to zero each
 * time they are read. Whatever runs on this thread counts, so only one target is fuzzed at a time.
 */

import { type Profiler, Session } from 'node:inspector';

export class Coverage {
  private readonly session = new Session();
  private readonly folders: readonly string[];
  /** For each file, each character that has run. */
  private readonly seen = new Map<string, Uint8Array>();
  /** Likewise, as of inputs that were kept: those of a batch are run again to see which of them it was. */
  private readonly attributed = new Map<string, Uint8Array>();

  /** `folders`: of `dist`. */
  constructor(folders: readonly string[]) {
    this.folders = folders.map((folder) => `/dist/${folder}/`);
    this.session.connect();
    this.session.post('Profiler.enable');
    this.session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  /** Whether anything has run since the last call that had not before: at all, or among `attributed` inputs. */
  grown(attributed: boolean): boolean {
    let found: Profiler.ScriptCoverage[] = [];
    // The inspector of the own thread answers before `post` returns.
    this.session.post('Profiler.takePreciseCoverage', (error, result) => {
      if (error === null) found = result.result;
    });
    const known = attributed ? this.attributed : this.seen;
    let grown = false;
    for (const { url, functions } of found) {
      if (!this.folders.some((folder) => url.includes(folder))) continue;
      const now = ranOf(functions);
      if (merge(known, url, now)) grown = true;
    }
    return grown;
  }

  close(): void {
    this.session.post('Profiler.stopPreciseCoverage');
    this.session.disconnect();
  }
}

/** A byte for each character of a file: whether it ran. Ranges are nested, the outer ones come first. */
function ranOf(functions: readonly Profiler.FunctionCoverage[]): Uint8Array {
  const end = Math.max(0, ...functions.flatMap(({ ranges }) => ranges.map(({ endOffset }) => endOffset)));
  const ran = new Uint8Array(end);
  for (const { ranges } of functions) {
    for (const { startOffset, endOffset, count } of ranges) ran.fill(count > 0 ? 1 : 0, startOffset, endOffset);
  }
  return ran;
}

/** Adds what ran to what is known. Returns whether any of it is new. */
function merge(known: Map<string, Uint8Array>, url: string, ran: Uint8Array): boolean {
  const before = known.get(url);
  if (before === undefined || before.length < ran.length) {
    const longer = new Uint8Array(ran.length);
    if (before !== undefined) longer.set(before);
    known.set(url, longer);
  }
  const all = known.get(url) as Uint8Array;
  let grown = false;
  for (let at = 0; at < ran.length; at += 1) {
    if (ran[at] === 0 || all[at] === 1) continue;
    all[at] = 1;
    grown = true;
  }
  return grown;
}

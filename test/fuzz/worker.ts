/**
 * One thread that fuzzes one target, for `main.ts`, which watches it from outside: the input that is being run lies in shared
 * memory, so one that never ends is known.
 */

import { parentPort, workerData } from 'node:worker_threads';
import { Coverage } from './coverage.js';
import { Fuzzer } from './engine.js';
import { tell } from './findings.js';
import type { FuzzTarget } from './target.js';
import { targets } from './targets/index.js';
import { CURRENT_HEADER_WORDS, type Done, type Task } from './task.js';

function show(task: Task, fuzzer: Fuzzer): void {
  const words = new Int32Array(task.current, 0, CURRENT_HEADER_WORDS);
  const bytes = new Uint8Array(task.current, CURRENT_HEADER_WORDS * 4);
  fuzzer.onInput = (index, input) => {
    words[1] = index;
    words[2] = input.length;
    bytes.set(input);
    Atomics.add(words, 0, 1);
  };
}

async function fuzz(task: Task): Promise<Done> {
  const target = targets.find(({ name }) => name === task.target) as FuzzTarget;
  const coverage = task.guided ? new Coverage(target.covers) : null;
  const fuzzer = await Fuzzer.make(target, task.seed, coverage);
  show(task, fuzzer);
  const started = performance.now();
  const seconds = () => (performance.now() - started) / 1000;
  let finding = '';
  for (let index = task.from; finding === '' && seconds() < task.seconds; index += task.step) {
    const found = await fuzzer.step(index);
    if (found !== undefined) finding = tell(target.name, await fuzzer.minimise(found));
  }
  coverage?.close();
  return { inputs: fuzzer.count, kept: fuzzer.keptInputs, seconds: seconds(), finding };
}

const done = await fuzz(workerData as Task);
parentPort?.postMessage(done);

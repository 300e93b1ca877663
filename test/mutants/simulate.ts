/**
 * Trials of the simulator in the checkout that this file lies in, one seed after the other until one fails. Arguments: kinds
 * of faults (or `all`), first seed, last seed. Prints a JSON line when it is ready, and one for each seed.
 */

import { makeTrial } from '#strake/embed/trials.js';
import { FAULT_KINDS } from '#strake/sim/trial/plan.js';

const [words, from, to] = process.argv.slice(2);
const faults = words === 'all' ? FAULT_KINDS : FAULT_KINDS.filter((kind) => words.split(',').includes(kind));
const print = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);

print({ ready: true });
for (let seed = Number(from); seed <= Number(to); seed += 1) {
  const { failure } = await makeTrial(seed, faults);
  print({ seed, failure });
  if (failure !== undefined) break;
}

/** Mutants of what NBD requests mean. */

import { type Mutant, sim, tests } from './mutant.js';

export const NBD_MUTANTS: readonly Mutant[] = [
  {
    name: 'nbd-flush-answered-at-once',
    breaks: 'FLUSH is answered without asking the volume',
    rule: 'FLUSH covers all that was acknowledged',
    edits: [
      {
        file: 'nbd/writes.ts',
        find: 'volume.flush(token);',
        replace: 'this.resources.ports.completions.defer(token, 0);',
      },
    ],
    judges: [sim(['power']), tests('nbd/transmission.test.ts')],
  },
  {
    name: 'nbd-fua-dropped',
    breaks: 'The FUA flag of a write is not passed on',
    rule: 'FUA is durable when it is answered',
    edits: [
      {
        file: 'nbd/writes.ts',
        find: '    request.running += 1;\n    const flags = (request.flags & CMD_FLAG_FUA) !== 0 ? DEVICE_FUA : 0;',
        replace: '    request.running += 1;\n    const flags = 0;',
      },
    ],
    judges: [sim(['power']), tests('nbd/transmission.test.ts')],
  },
  {
    name: 'trim-does-nothing',
    breaks: 'A trim is answered as done, and nothing becomes zero',
    rule: 'what was trimmed reads as zeroes',
    edits: [
      {
        file: 'nbd/writes.ts',
        find: 'volume.discardRange(request.offset, request.length, fua, token);',
        replace: 'this.resources.ports.completions.defer(token, 0);',
      },
    ],
    judges: [sim([]), tests('nbd/transmission.test.ts')],
  },
];

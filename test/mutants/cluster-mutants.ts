/** Mutants of what trials of whole clusters have found. */

import { cluster, type Mutant, tests } from './mutant.js';

export const CLUSTER_MUTANTS: readonly Mutant[] = [
  {
    name: 'payload-left-by-failed-member',
    breaks: 'A member that has failed does not copy the payload that the next one is to find in place',
    rule: 'a payload is in its place whatever comes of the request',
    edits: [
      {
        file: 'client/members/node-session.ts',
        find: '    request.bring(this.ports.memory);\n',
        replace: '',
      },
    ],
    judges: [tests('members/payloads.test.ts'), cluster(['attach', 'kill'], 40)],
  },
  {
    name: 'payload-left-by-store',
    breaks:
      'A store that leaves every block of a write does not copy the payload that the next member is to find in place',
    rule: 'a payload is in its place whatever comes of the request',
    edits: [
      {
        file: 'store/segment-store.ts',
        find: '    saveSource(this.memory, op);\n    this.steps.end(op);',
        replace: '    this.steps.end(op);',
      },
    ],
    judges: [tests('store/conditions.test.ts')],
  },
];

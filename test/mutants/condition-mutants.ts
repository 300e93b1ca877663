/** Mutants of what a store does with requests that have conditions. */

import { type Mutant, tests } from './mutant.js';

const LATE = tests('client/late-writes.test.ts');
const CONDITIONS = tests('store/conditions.test.ts');

export const CONDITION_MUTANTS: readonly Mutant[] = [
  {
    name: 'older-write-applied',
    breaks: 'A write that is not newer than the block is applied',
    rule: 'a write that comes late is answered, not applied',
    edits: [
      {
        file: 'store/running/conditions.ts',
        find: 'return (op.flags & REQUEST_NEWER) === 0 || this.isNewer(op, index, word);',
        replace: 'return true;',
      },
    ],
    judges: [CONDITIONS],
  },
  {
    name: 'late-write-overtakes',
    breaks: 'A write that comes late is compared with what the write before it had found',
    rule: 'a write that comes late is answered, not applied',
    edits: [
      {
        file: 'store/running/conditions.ts',
        find: '      if (this.meets(op)) {',
        replace: '      if (this.meets(op) && op.blocks === 0) {',
      },
    ],
    judges: [CONDITIONS],
  },
  {
    name: 'changed-block-copied-over',
    breaks: 'A block is replaced although it is not as it was when it was compared',
    rule: 'what has no stamp of its own is applied only if the entry is what was compared',
    edits: [
      {
        file: 'store/running/conditions.ts',
        find: '      if (words[word + at] !== entries[index * ENTRY_WORDS + at]) return false;',
        replace: '      if (words[word] !== entries[index * ENTRY_WORDS]) return false;',
      },
    ],
    judges: [CONDITIONS],
  },
  {
    name: 'copy-left-for-old-generation',
    breaks: 'A copy does not replace what an earlier generation has left on its target, if that has the higher stamp',
    rule: 'what copies have agreed on for a generation replaces what an earlier one has left elsewhere',
    edits: [
      {
        file: 'store/running/conditions.ts',
        find: 'return copy && generationOf(',
        replace: 'return copy && op.blocks < 0 && generationOf(',
      },
    ],
    judges: [CONDITIONS],
  },
  {
    name: 'copy-over-newer',
    breaks: 'A copy replaces whatever its target has, though a client has written it since the source was read',
    rule: 'a copy never replaces a newer block',
    edits: [
      {
        file: 'store/running/conditions.ts',
        find: '< this.parts.generationOf(op.volume);',
        replace: '<= this.parts.generationOf(op.volume);',
      },
    ],
    judges: [CONDITIONS],
  },
  {
    name: 'poison-unasked',
    breaks: 'Blocks become unreadable whatever they hold, if no condition is named',
    rule: 'what has been written since a block was found to be lost is not lost',
    edits: [
      {
        file: 'layout/request-checks.ts',
        find: 'if (kind === REQUEST_POISON && (flags & (REQUEST_NEWER | REQUEST_SAME)) === 0) {',
        replace: 'if (kind === REQUEST_POISON && flags < 0) {',
      },
    ],
    judges: [CONDITIONS],
  },
  {
    name: 'poison-over-newer',
    breaks: 'A block becomes unreadable that has been written since it was found to be lost',
    rule: 'what has been written since a block was found to be lost is not lost',
    edits: [
      {
        file: 'client/members/member-work.ts',
        find: '    request.flags = REQUEST_SAME;\n    return this.runUnless(member, request);',
        replace: '    request.flags = 0;\n    return this.runUnless(member, request);',
      },
    ],
    judges: [LATE],
  },
  {
    name: 'sent-again-not-durable',
    breaks: 'A FUA write that is sent again is answered although the first is not durable',
    rule: 'FUA is durable on every member that is in-sync',
    edits: [
      {
        file: 'store/running/op-steps.ts',
        find: '    if (op.blocks > 0 && op.left === op.blocks) {\n      this.endRecords(op);',
        replace:
          '    if (op.blocks > 0 && op.left === op.blocks) {\n      this.parts.finish(op, op.blocks * BLOCK_BYTES);',
      },
    ],
    judges: [CONDITIONS],
  },
  {
    name: 'left-block-written',
    breaks: 'The content of blocks that are left is written all the same',
    rule: 'a write that comes late is answered, not applied',
    edits: [
      {
        file: 'store/running/transfers.ts',
        find: 'while (to < end && !op.isLeft(to - op.block)) to += 1;',
        replace: 'to = end;',
      },
    ],
    judges: [CONDITIONS],
  },
  {
    name: 'doubtful-block-left',
    breaks: 'A write that is sent again is not applied to a block that a crash has left in doubt',
    rule: 'a write that was answered is what the block holds',
    edits: [
      {
        file: 'store/running/conditions.ts',
        find: '    if ((words[word + ENTRY_FLAGS] & BLOCK_SUSPECT) !== 0) return true;\n',
        replace: '',
      },
    ],
    judges: [CONDITIONS],
  },
];

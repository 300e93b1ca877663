/** Mutants of what nodes believe of each other. */

import { type Mutant, tests } from './mutant.js';

const REFUSALS = [tests('wire/refusals.test.ts')];
const HELLO = [tests('wire/hello.test.ts')];

export const WIRE_MUTANTS: readonly Mutant[] = [
  {
    name: 'wire-header-not-summed',
    breaks: 'A header is believed whatever its sum is',
    rule: 'a frame is judged by its header before anything else',
    edits: [{ file: 'wire/framing.ts', find: 'if (!isSummed(this.memory, at))', replace: 'if (false as boolean)' }],
    judges: REFUSALS,
  },
  {
    name: 'wire-vector-not-summed',
    breaks: 'A vector is believed whatever its sum is',
    rule: 'each byte is under a sum',
    edits: [{ file: 'wire/framing.ts', find: 'if (sum === frame.vectorSum)', replace: 'if (sum >= 0)' }],
    judges: REFUSALS,
  },
  {
    name: 'wire-payload-longer-than-blocks',
    breaks: 'A write may have more bytes than its blocks',
    rule: 'a payload is as long as its vector and blocks',
    edits: [{ file: 'wire/framing.ts', find: 'payload === wanted ?', replace: 'payload >= wanted ?' }],
    judges: REFUSALS,
  },
  {
    name: 'wire-request-from-node',
    breaks: 'A frame is taken from the wrong end',
    rule: 'each kind has the end that it comes from',
    edits: [
      { file: 'wire/framing.ts', find: '(rule.from & this.from) === 0', replace: '(rule.from | this.from) === 0' },
    ],
    judges: REFUSALS,
  },
  {
    name: 'wire-block-sum-of-the-first',
    breaks: 'Of the blocks of a write only the first is compared with its sum',
    rule: 'a block with another sum is refused before a device sees it',
    edits: [
      {
        file: 'wire/request-codec.ts',
        find: 'if (memory.view.getUint32(at + SUM_BYTES * block, true) !== sums[block]) return block;',
        replace:
          'if (memory.view.getUint32(at + SUM_BYTES * block, true) !== sums[block] && block === 0) return block;',
      },
    ],
    judges: [tests('wire/round-trips.test.ts')],
  },
  {
    name: 'sums-not-compared',
    breaks: 'A store takes the sums of a write for those of its content, whoever it is from',
    rule: 'a block with another sum is refused before a device sees it',
    edits: [
      {
        file: 'store/running/transfers.ts',
        find: 'return sums !== null && !proven ? DEVICE_SUMMED : 0;',
        replace: 'return sums !== null && proven ? DEVICE_SUMMED : 0;',
      },
    ],
    judges: [tests('store/sums.test.ts')],
  },
  {
    name: 'sums-of-a-part-compared',
    breaks: 'Of a write of which blocks are left as they are, sums are compared run by run',
    rule: 'of a write that is refused no block is written',
    edits: [
      {
        file: 'store/running/transfers.ts',
        find: 'if (op.sums !== null && !op.proven && !this.hasSums(op, op.sums)) {',
        replace: 'if (op.sums !== null && !op.proven && !this.hasSums(op, op.sums) && op.blocks === 1) {',
      },
    ],
    judges: [tests('store/sums.test.ts')],
  },
  {
    name: 'early-record-of-refused',
    breaks: 'The record of a write that will be refused is sent to the journal',
    rule: 'a record that is sent along with its data has the sum of what is written',
    edits: [
      {
        file: 'store/running/entry-updates.ts',
        find: 'if (earlySums[index] !== sums[index]) return false;',
        replace: 'if (earlySums[index] !== sums[index]) continue;',
      },
    ],
    judges: [tests('store/sums.test.ts')],
  },
  {
    name: 'wire-hello-of-another-connection',
    breaks: 'The proof of a client does not depend on the nonce of the node',
    rule: 'what was seen on another connection proves nothing',
    edits: [
      {
        file: 'wire/hello.ts',
        find: 'this.key.verify(transcript(HELLO_LABEL, this.said, nonce, about), proof)',
        replace: 'this.key.verify(transcript(HELLO_LABEL, new Uint8Array(0), nonce, about), proof)',
      },
      {
        file: 'wire/hello.ts',
        find: 'this.key.authenticate(transcript(HELLO_LABEL, this.heard, nonce, about))',
        replace: 'this.key.authenticate(transcript(HELLO_LABEL, new Uint8Array(0), nonce, about))',
      },
    ],
    judges: HELLO,
  },
  {
    name: 'wire-node-not-proven',
    breaks: 'A client believes a node that has another key',
    rule: 'both ends prove that they have the key',
    edits: [
      {
        file: 'wire/hello.ts',
        find: 'if (!this.key.verify(transcript(WELCOME_LABEL',
        replace: 'if (payload.length === 0 && !this.key.verify(transcript(WELCOME_LABEL',
      },
    ],
    judges: HELLO,
  },
  {
    name: 'wire-map-not-proven',
    breaks: 'A map is believed without the proof of a manager',
    rule: 'anybody may hand on a map, and nobody can make one',
    edits: [
      { file: 'wire/maps.ts', find: '} else if (!isAuthentic(map, key)) {', replace: '} else if (map.group < 0) {' },
    ],
    judges: REFUSALS,
  },
];

/** Mutants of what two shards of a node ask of each other. */

import { type Mutant, tests } from './mutant.js';

const RINGS = [tests('across/rings.test.ts')];
const VOLUMES = [tests('across/volumes.test.ts')];
const ENGINES = [tests('node/engines.test.ts')];
const DEATH = [tests('node-sim/shards.test.ts')];

export const ACROSS_MUTANTS: readonly Mutant[] = [
  {
    name: 'across-shown-before-copied',
    breaks: 'A request is shown to the other shard before its payload has been copied',
    rule: 'what is asked to be copied is copied before entries are shown',
    edits: [{ file: 'across/asking-ring.ts', find: '    this.parts.takeCopies();\n', replace: '' }],
    judges: RINGS,
  },
  {
    name: 'across-own-memory',
    breaks: 'The other shard reads and writes its own memory in place of the payload',
    rule: 'a payload stays in the arena of the asking shard',
    edits: [
      {
        file: 'across/member-answerer.ts',
        find: 'return guestStart + memory;',
        replace: 'return guestStart * 0 + memory;',
      },
    ],
    judges: RINGS,
  },
  {
    name: 'across-late-memory-used',
    breaks: 'Memory that a device of another shard may still write to is used again',
    rule: 'memory of an operation that was given up is lent until it has ended',
    edits: [
      {
        file: 'across/member-asker.ts',
        find: 'if ((flags & COMPLETION_ABANDONED) !== 0 && asked',
        replace: 'if ((flags & COMPLETION_ABANDONED) > 8 && asked',
      },
    ],
    judges: RINGS,
  },
  {
    name: 'across-late-memory-kept',
    breaks: 'Memory that a device of another shard has given back is never used again',
    rule: 'memory of an operation that was given up is lent until it has ended',
    edits: [
      {
        file: 'across/member-answerer.ts',
        find: 'if (abandoned && page === null) this.returnLater',
        replace: 'if (abandoned && page !== null) this.returnLater',
      },
    ],
    judges: RINGS,
  },
  {
    name: 'across-bad-blocks-unseen',
    breaks: 'Which blocks another shard could not read is not told',
    rule: 'an answer names the blocks that an error concerns',
    edits: [
      {
        file: 'across/member-answerer.ts',
        find: 'if (bad.count + left.count === 0) return;',
        replace: 'if (left.count >= 0) return;',
      },
    ],
    judges: RINGS,
  },
  {
    name: 'across-fence-unseen',
    breaks: 'A device on another shard that takes no more writes counts as one that does',
    rule: 'each answer tells what the device accepts',
    edits: [
      {
        file: 'across/member-asker.ts',
        find: 'traffic.fence = words[word + 4];',
        replace: 'traffic.fence = words[word + 9] & 0;',
      },
    ],
    judges: RINGS,
  },
  {
    name: 'across-waiting-forgotten',
    breaks: 'What waits for room when the other shard dies is never answered',
    rule: 'a shard that dies answers everything',
    edits: [
      {
        file: 'across/member-asker.ts',
        find: 'this.parts.completions.finish(asked.token, -EIO, 0);',
        replace: 'this.drain();',
      },
    ],
    judges: RINGS,
  },
  {
    name: 'across-entries-stay',
    breaks: 'Entries that another shard was asked for stay there',
    rule: 'an answer is that of its request',
    edits: [
      {
        file: 'across/member-asker.ts',
        find: 'if (request.kind === REQUEST_ENTRIES && request.entries !== null) {',
        replace: 'if (request.kind === -1 && request.entries !== null) {',
      },
    ],
    judges: RINGS,
  },
  {
    name: 'across-lost-copy-current',
    breaks: 'A copy stays in the map though the shard of its device has died',
    rule: 'what may miss a write is in no map before that is answered',
    edits: [
      {
        file: 'client/volume-engine.ts',
        find: 'const leaving = slots.map((slot) => membership.expel(slot, reason));',
        replace: 'const leaving = slots.map((slot) => reason !== membership.deviceId(slot));',
      },
    ],
    judges: DEATH,
  },
  {
    name: 'across-lost-volume-serves',
    breaks: 'A volume none of whose copies answers goes on with errors when the shard of its devices has died',
    rule: 'a volume that has no copy left is stopped until one is back',
    edits: [
      {
        file: 'volumes/device-changes.ts',
        find: 'if (await engine.loseDevice(deviceId, reason)) continue;',
        replace: 'if ((await engine.loseDevice(deviceId, reason)) || volume.started) continue;',
      },
    ],
    judges: DEATH,
  },
  {
    name: 'across-volume-own-memory',
    breaks: 'A volume on another shard reads and writes the memory of that shard in place of the payload',
    rule: 'a payload stays in the arena of the asking shard',
    edits: [
      {
        file: 'across/volume-answerer.ts',
        find: 'return guestStart + memory;',
        replace: 'return guestStart * 0 + memory;',
      },
    ],
    judges: VOLUMES,
  },
  {
    name: 'across-volume-extents-stay',
    breaks: 'What a volume on another shard tells of its extents stays there',
    rule: 'an answer is that of its request',
    edits: [
      {
        file: 'across/volume-answerer.ts',
        find: '    guest.set(own.bytes.subarray(extents, extents + room), memory);\n',
        replace: '    guest.subarray(memory, memory + own.bytes.length * 0);\n',
      },
    ],
    judges: VOLUMES,
  },
  {
    name: 'across-volume-late-memory-used',
    breaks: 'Memory that a volume on another shard may still read to is used again',
    rule: 'memory of an operation that was given up is lent until it has ended',
    edits: [
      {
        file: 'across/volume-asker.ts',
        find: 'if ((flags & COMPLETION_ABANDONED) !== 0 && memory >= 0)',
        replace: 'if ((flags & COMPLETION_ABANDONED) > 8 && memory >= 0)',
      },
    ],
    judges: VOLUMES,
  },
  {
    name: 'across-volume-late-memory-kept',
    breaks: 'Memory that a volume on another shard has given back is never used again',
    rule: 'memory of an operation that was given up is lent until it has ended',
    edits: [
      {
        file: 'across/volume-answerer.ts',
        find: 'if ((flags & COMPLETION_ABANDONED) !== 0) this.returnLater(',
        replace: 'if ((flags & COMPLETION_ABANDONED) > 8) this.returnLater(',
      },
    ],
    judges: VOLUMES,
  },
  {
    name: 'across-volume-dead-awaited',
    breaks: 'A flush that a shard was asked for that has died is waited for',
    rule: 'a shard that dies answers everything',
    edits: [
      {
        file: 'across/volume-asker.ts',
        find: 'if (traffic !== null) this.end(',
        replace: 'if (traffic !== null && this.memories[tag] >= 0) this.end(',
      },
    ],
    judges: VOLUMES,
  },
  {
    name: 'across-volume-dead-answers',
    breaks: 'Clients are told errors of a volume whose shard has died, in place of being disconnected',
    rule: 'what was in flight when a worker dies has no answer',
    edits: [
      {
        file: 'nbd/server.ts',
        find: 'if (lost) connection.end(',
        replace: 'if (lost && this.offered.size < 0) connection.end(',
      },
    ],
    judges: ENGINES,
  },
];

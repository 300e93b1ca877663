/** Which requests of another process are admitted: the order in which they are judged, and each of the answers. */

import * as assert from 'uvu/assert';
import { admission, type ReplicaAccess } from '#strake/node/access-check.js';
import { REQUEST_ENTRIES, REQUEST_READ, REQUEST_WRITE } from '#strake/ports/segment-request.js';
import {
  KIND_LIST,
  KIND_REQUEST,
  STATUS_NEED_MAP,
  STATUS_NEW_INCARNATION,
  STATUS_NOT_OPEN,
  STATUS_NOT_YET,
  STATUS_OK,
  STATUS_STALE_MAP,
} from '#strake/wire/messages.js';
import { check, run } from '../support/check.js';

const REPLICA: ReplicaAccess = {
  ...{ mapVersion: 7, answered: true, storing: false, incarnation: 3 },
  ...{ role: 'writer', current: true, readable: true },
};
const WRITE = { kind: KIND_REQUEST + REQUEST_WRITE, mapVersion: 7, incarnation: 3 };

check('a request is admitted under the version that is stored and answered, and under no other', () => {
  assert.is(admission(REPLICA, WRITE), STATUS_OK);
  assert.is(admission(REPLICA, { ...WRITE, incarnation: 0 }), STATUS_OK);
  assert.is(admission(REPLICA, { ...WRITE, mapVersion: 6 }), STATUS_STALE_MAP);
  assert.is(admission(REPLICA, { ...WRITE, mapVersion: 8 }), STATUS_NEED_MAP);
  assert.is(admission({ ...REPLICA, storing: true, answered: false }, { ...WRITE, mapVersion: 8 }), STATUS_NOT_YET);
  assert.is(admission({ ...REPLICA, answered: false }, WRITE), STATUS_NOT_YET);
  // What is behind is told so, whether the newer map is answered or not.
  assert.is(admission({ ...REPLICA, answered: false }, { ...WRITE, mapVersion: 6 }), STATUS_STALE_MAP);
  assert.is(admission(REPLICA, { ...WRITE, incarnation: 2 }), STATUS_NEW_INCARNATION);
  assert.is(admission(null, WRITE), STATUS_NOT_OPEN);
});

check('who has opened a replica as a reader changes nothing', () => {
  const reader = { ...REPLICA, role: 'reader' } as const;
  for (const kind of [KIND_LIST, KIND_REQUEST + REQUEST_READ, KIND_REQUEST + REQUEST_ENTRIES]) {
    assert.is(admission(reader, { ...WRITE, kind }), STATUS_OK);
  }
  for (let kind = KIND_REQUEST; kind <= KIND_REQUEST + 10; kind += 1) {
    const looks = kind === KIND_REQUEST + REQUEST_READ || kind === KIND_REQUEST + REQUEST_ENTRIES;
    assert.is(admission(reader, { ...WRITE, kind }), looks ? STATUS_OK : STATUS_NOT_OPEN, `${kind}`);
  }
});

check('who has opened a replica under an earlier generation changes nothing, whatever version it names', () => {
  const superseded = { ...REPLICA, current: false };
  for (const mapVersion of [6, 7, 8]) {
    assert.is(admission(superseded, { ...WRITE, mapVersion }), STATUS_STALE_MAP);
  }
  assert.is(admission(superseded, { ...WRITE, kind: KIND_REQUEST + REQUEST_READ }), STATUS_OK);
});

run();

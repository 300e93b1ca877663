/** Addresses as text, and what is none. */

import * as assert from 'uvu/assert';
import { addressText, isLocal, parseAddress } from '#strake/core/stream-address.js';
import { check, run } from '../support/check.js';
import { failure } from '../support/failure.js';

check('an address is the path of a socket, or an IP address and a port, and text of it is read as itself', () => {
  for (const text of ['/run/strake/manager.sock', './manager.sock', '127.0.0.1:7070', '10.0.0.12:1', '[::1]:65535']) {
    assert.is(addressText(parseAddress(text)), text);
  }
});

check('what is none is refused, names of hosts too', async () => {
  const bad = ['', 'manager', 'localhost:7070', '127.0.0.1', '127.0.0.1:', '127.0.0.1:65536', '256.0.0.1:1', '1.2.3:1'];
  for (const text of [...bad, '::1:7070', '[127.0.0.1]:70', '[::1]', '/run/\0/x', '127.0.0.1:0x10', ' 127.0.0.1:1']) {
    await failure('INVALID_ARGUMENT', (async () => parseAddress(text))());
  }
});

check('an address is local if nobody elsewhere reaches it', () => {
  const local = (text: string) => isLocal(parseAddress(text));
  assert.equal(['/s', '127.0.0.1:1', '127.9.9.9:1', '[::1]:1'].map(local), [true, true, true, true]);
  assert.equal(['10.0.0.1:1', '0.0.0.0:1', '[::]:1', '[fe80::1]:1'].map(local), [false, false, false, false]);
});

run();

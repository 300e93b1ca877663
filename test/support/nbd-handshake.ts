/** What tests of the handshake share. */

import * as assert from 'uvu/assert';
import type { NbdClient } from './nbd-client.js';

const MIB = 1 << 20;
export const DESCRIPTION = 'a device under test';

/** A client that goes on after a refusal: the connection must still lead to an export. */
export async function goesOn(client: NbdClient, name = ''): Promise<void> {
  await client.handshake({ name });
  assert.is(client.sizeBytes, MIB);
  await client.read(0, 512);
  await client.disconnect();
}

/**
 * The store of a manager whose database is on the main thread of its process: there alone it can be opened. What is asked for
 * goes there as messages.
 */

import type { MessagePort } from 'node:worker_threads';
import type { MetaBatch, MetaContents, MetaStore } from '../ports/meta-store.js';
import { answerCalls, PortAsker } from './port-calls.js';

type MetaCalls = {
  load: { readonly request: null; readonly response: MetaContents };
  commit: { readonly request: MetaBatch; readonly response: null };
  close: { readonly request: null; readonly response: null };
};

/** The end on the shard. */
export class PortMetaStore implements MetaStore {
  private readonly asker: PortAsker<MetaCalls>;

  constructor(port: MessagePort) {
    this.asker = new PortAsker(port);
  }

  load(): Promise<MetaContents> {
    return this.asker.call('load', null);
  }

  async commit(batch: MetaBatch): Promise<void> {
    await this.asker.call('commit', batch);
  }

  async close(): Promise<void> {
    await this.asker.call('close', null);
    this.asker.close();
  }
}

/** The end on the main thread. */
export function serveMetaStore(port: MessagePort, store: MetaStore): void {
  answerCalls<MetaCalls>(port, (async (name: keyof MetaCalls, request: MetaBatch) => {
    if (name === 'load') return store.load();
    if (name === 'commit') await store.commit(request);
    else await store.close();
    return null;
  }) as never);
}

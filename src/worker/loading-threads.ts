/**
 * The threads of a pool that are still loading their program.
 *
 * Such a thread must not be terminated: Node.js 20 may find a module that the termination has left half instantiated, and ends
 * the whole process (`v8::Module::IsGraphAsync must be used on an instantiated module`, in `ModuleWrap::InstantiateSync`).
 */

import type { Worker } from 'node:worker_threads';

export class LoadingThreads {
  /** Resolves when the thread has loaded its program, or has ended. */
  private readonly loaded = new WeakMap<Worker, Promise<void>>();

  /** Begins to watch those of the threads that are new. Called before a new one can have said anything. */
  note(threads: readonly Worker[]): void {
    for (const thread of threads) {
      if (this.loaded.has(thread)) continue;
      this.loaded.set(
        thread,
        new Promise((resolve) => {
          // The pool's part of a thread says one thing by this way: that the program has been loaded.
          thread.once('message', () => resolve());
          thread.once('exit', () => resolve());
        }),
      );
    }
  }

  /** Resolves when none of these threads is loading its program. */
  async done(threads: readonly Worker[]): Promise<void> {
    await Promise.all(threads.map((thread) => this.loaded.get(thread)));
  }
}

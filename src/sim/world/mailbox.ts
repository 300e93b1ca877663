/**
 * Calls between threads in a simulation: what is posted is copied, as it is between threads, and arrives in the order in which
 * it was posted, after a delay that the seed decides. The other thread goes on meanwhile, so control calls race with the data
 * path.
 */

import type { SimSource } from './events.js';
import type { SimProcess } from './process.js';
import type { SimRandom } from './random.js';

/** How long a message takes, in microseconds. */
const DELAY_US: readonly [number, number] = [5, 200];
/** One message in so many comes this much later: its thread was busy. */
const LATE_ONE_IN = 16;
const LATE_FACTOR = 50;

/** What is posted to one thread, in order. */
export class Lane implements SimSource {
  private readonly process: SimProcess;
  private readonly random: SimRandom;
  private readonly posted: (() => void)[] = [];
  private readonly party: number;
  private lastUs = 0;

  constructor(process: SimProcess, random: SimRandom) {
    this.process = process;
    this.party = process.time.nextParty();
    this.random = random;
  }

  post(arrive: () => void): void {
    const [least, most] = DELAY_US;
    let us = this.random.between(least, most);
    if (this.random.below(LATE_ONE_IN) === 0) us *= LATE_FACTOR;
    this.lastUs = Math.max(this.lastUs, this.process.nowUs + us);
    this.posted.push(arrive);
    this.process.schedule(this, 0, this.lastUs - this.process.nowUs);
  }

  start(): void {}

  /** Messages due at the same time may be told in any order; they arrive in theirs. */
  fire(): void {
    this.process.trace.add('message', this.process.nowUs, 0, this.party, 0);
    this.posted.shift()?.();
  }
}

export class SimMailbox<Request, Response> {
  private readonly requests: Lane;
  private readonly answers: Lane;
  private readonly handle: (request: Request) => Promise<Response>;

  /** `handle` is what the other thread does with a request. */
  constructor(process: SimProcess, handle: (request: Request) => Promise<Response>) {
    const random = process.random.fork('mailbox');
    this.requests = new Lane(process, random);
    this.answers = new Lane(process, random);
    this.handle = handle;
  }

  /** Posts a request. Resolves or rejects, when the answer has arrived, as `handle` does. Rejects are not copied. */
  call(request: Request): Promise<Response> {
    const copy = structuredClone(request);
    return new Promise((resolve, reject) => {
      this.requests.post(() => {
        this.handle(copy).then(
          (response) => {
            const answer = structuredClone(response);
            this.answers.post(() => resolve(answer));
          },
          (error: unknown) => this.answers.post(() => reject(error)),
        );
      });
    });
  }
}

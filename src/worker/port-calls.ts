/** Calls from one thread to another over a message port: what is asked has a number, and is answered under it. */

import type { MessagePort } from 'node:worker_threads';
import { StrakeError, toStrakeError, type WireError } from '../core/errors.js';

/** By name: what is sent, and what comes back. */
export type PortCalls<Names> = {
  readonly [Name in keyof Names]: { readonly request: unknown; readonly response: unknown };
};

interface Question {
  readonly id: number;
  readonly name: string;
  readonly request: unknown;
}

type Answer = { readonly id: number; readonly response: unknown } | { readonly id: number; readonly error: WireError };

interface Pending {
  readonly resolve: (response: unknown) => void;
  readonly reject: (error: StrakeError) => void;
}

/** The end that asks. */
export class PortAsker<Calls extends PortCalls<Calls>> {
  private readonly port: MessagePort;
  private readonly pending = new Map<number, Pending>();
  private nextId = 1;
  private dead: StrakeError | null = null;

  constructor(port: MessagePort) {
    this.port = port;
    port.on('message', (answer: Answer) => this.take(answer));
    // Whoever answers has gone, or has closed its end.
    port.on('close', () => this.lose(new StrakeError('WORKER_DIED', 'the thread that was asked has ended')));
  }

  private take(answer: Answer): void {
    const pending = this.pending.get(answer.id);
    if (pending === undefined) return;
    this.pending.delete(answer.id);
    if ('error' in answer) pending.reject(StrakeError.fromWire(answer.error));
    else pending.resolve(answer.response);
  }

  /** Rejects with a `StrakeError`: what the other end rejects with, or `ERR_STRAKE_WORKER_DIED`. */
  call<Name extends keyof Calls & string>(
    name: Name,
    request: Calls[Name]['request'],
  ): Promise<Calls[Name]['response']> {
    if (this.dead !== null) return Promise.reject(this.dead);
    return new Promise((resolve, reject) => {
      const id = this.nextId++;
      this.pending.set(id, { resolve: resolve as Pending['resolve'], reject });
      const question: Question = { id, name, request };
      this.port.postMessage(question);
    });
  }

  /** Nothing is asked any more, and what was asked fails. */
  lose(error: StrakeError): void {
    this.dead ??= error;
    for (const { reject } of this.pending.values()) reject(this.dead);
    this.pending.clear();
  }

  close(): void {
    this.lose(new StrakeError('CLOSED', 'nothing is asked of the other thread any more'));
    this.port.close();
  }
}

/** The end that answers: `carryOut` is called in the order in which calls come, and each is answered when it has ended. */
export function answerCalls<Calls extends PortCalls<Calls>>(
  port: MessagePort,
  carryOut: <Name extends keyof Calls & string>(
    name: Name,
    request: Calls[Name]['request'],
  ) => Promise<Calls[Name]['response']>,
): void {
  port.on('message', ({ id, name, request }: Question) => {
    const answer = (what: Answer) => port.postMessage(what);
    carryOut(name as keyof Calls & string, request as never).then(
      (response) => answer({ id, response }),
      (error: unknown) => answer({ id, error: toStrakeError(error).toWire() }),
    );
  });
}

/** How a server in the foreground is told to stop: by signals, by what happens to it, or by a call. */

import { subscribe } from 'node:diagnostics_channel';
import type { StrakeEvent } from '../embed/events.js';
import { EXIT_INTERRUPTED, note } from './output.js';

/** Signals this close to the first are the same wish to stop. */
const SAME_SIGNAL_MS = 1_000;

/** What a server wants to hear of while it runs. */
export interface StopOptions {
  /** What people are told when a device is fenced; `accepts` is `reads only` or `nothing any more`. */
  readonly fenced: (path: string, accepts: string) => string;
}

/** Resolves when the server is to end. */
export interface Stopping {
  /** The signal; `lost` if something made the server useless; or what `stop` was given. */
  readonly stopped: Promise<string>;
  /** Ends it from within the program. */
  readonly stop: (reason: string) => void;
}

/** Listens for reasons to stop. Another signal, a second or more after the first, ends the process with code 130. */
export function untilStopped(options: StopOptions): Stopping {
  let stop: (reason: string) => void = () => {};
  const stopped = new Promise<string>((resolve) => {
    stop = resolve;
  });
  let first: number | undefined;
  const onSignal = (signal: string) => {
    first ??= performance.now();
    // Ctrl-C below npm arrives twice: from the terminal, and from npm, which passes it on.
    if (performance.now() - first > SAME_SIGNAL_MS) process.exit(EXIT_INTERRUPTED);
    stop(signal);
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, onSignal);
  subscribe('strake:event', (message) => {
    const event = message as StrakeEvent;
    if (event.type === 'device-fenced') {
      note(`strake: ${options.fenced(event.path, event.fence > 1 ? 'nothing any more' : 'reads only')}`);
    } else if (event.type === 'shard-replaced') {
      note(`strake: worker ${event.shard} ended and was replaced; clients have to connect again`);
    } else if (event.type === 'server-lost') {
      note(`strake: nothing listens at ${event.address} any more: ${event.error.message}`);
      stop('lost');
    } else {
      note(`strake: worker ${event.shard} ended and could not be replaced: ${event.error.message}`);
      stop('lost');
    }
  });
  return { stopped, stop };
}

/** Tells that the drain begins, lets `close` do it, and tells that it is over. */
export async function drain(close: () => Promise<void>, quiet = false): Promise<void> {
  note('strake: stopping: finishing the requests in flight (a second signal stops at once)', quiet);
  await close();
  note('strake: stopped; everything acknowledged is on the device', quiet);
}

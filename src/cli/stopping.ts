/**
 * How a server in the foreground is told to stop: by signals, by what happens to it, or by a call.
 *
 * Whatever signal would end a process and can be caught is either a wish to stop in order or does nothing, so that none of them
 * is a crash. A terminal that goes away sends SIGHUP, and what is printed from then on fails, which is no reason to end.
 */

import { subscribe } from 'node:diagnostics_channel';
import { readFileSync } from 'node:fs';
import type { StrakeEvent } from '../embed/events.js';
import { EXIT_INTERRUPTED, isGone, note } from './output.js';

const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGXCPU'] as const;
/** The first would open a port for debuggers, through which every local user could run code in this process. */
const IDLE_SIGNALS = ['SIGUSR1', 'SIGUSR2', 'SIGALRM', 'SIGVTALRM', 'SIGIO', 'SIGPWR'] as const;

/** Signals this close to the first are the same wish to stop. */
const SAME_SIGNAL_MS = 1_000;

/**
 * Set to `1` for processes that another one starts and stops. Their standard input ends with that process, however it ends, and
 * then nobody is left who would stop them.
 */
export const STOP_WITH_INPUT = 'STRAKE_STOP_WITH_INPUT';

/** Calls `stop` when the standard input has ended, for as long as something else keeps the process alive. */
function stopWithInput(stop: (reason: string) => void): void {
  process.stdin.on('end', () => stop('input'));
  process.stdin.on('error', () => stop('input'));
  process.stdin.resume();
  process.stdin.unref();
}

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
  for (const signal of STOP_SIGNALS) process.on(signal, onSignal);
  if (process.env[STOP_WITH_INPUT] === '1') stopWithInput(onSignal);
  for (const signal of IDLE_SIGNALS) process.on(signal, () => note(`strake: ${signal} does nothing here`));
  serving = true;
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (isGone(error)) return;
    note(`strake: the output could not be written: ${error.message}`);
    stop('lost');
  });
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

/** For commands that leave something behind if a signal ends them: `cleanUp` takes it away, and the exit code is 130. */
export function endOnSignals(cleanUp: () => void): void {
  for (const signal of STOP_SIGNALS) {
    process.once(signal, () => {
      cleanUp();
      process.exit(EXIT_INTERRUPTED);
    });
  }
}

let serving = false;

/** Whether this process has something to close in order before it ends. */
export function isServing(): boolean {
  return serving;
}

/**
 * Whether Ctrl-C reaches this process: it has a terminal, and is what runs there in the foreground. A shell ignores SIGINT for
 * what it starts in the background, and Node.js stops ignoring it, so the disposition tells nothing.
 */
function hasCtrlC(): boolean {
  try {
    const stat = readFileSync('/proc/self/stat', 'utf8');
    // After the name: state, parent, group, session, terminal, and the group that is in its foreground.
    const [, , group, , terminal, foreground] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return terminal !== '0' && group === foreground;
  } catch {
    return false;
  }
}

/** How whoever has started this process can stop it; `others` are ways beside signals. */
export function howToStop(...others: readonly string[]): string {
  const first = hasCtrlC() ? ['Ctrl-C', 'SIGTERM'] : [`kill ${process.pid} (SIGTERM)`];
  return [...first, ...others].join(', or ');
}

/** Tells that the drain begins, lets `close` do it, and tells that it is over. */
export async function drain(close: () => Promise<void>, quiet = false): Promise<void> {
  note('strake: stopping: finishing the requests in flight (a second signal stops at once)', quiet);
  await close();
  note('strake: stopped; everything acknowledged is on the device', quiet);
}

/** What the arguments of this folder have to be, where several files need to know. */

import { amount, fields, list, made, oneOf, optional, type Rule, whole, wrongArgument } from '../core/arguments.js';
import { CHUNK_BYTES, FAULT_RULES_MAX, SHARD_REQUESTS_MAX } from '../core/limits.js';
import type { FaultRule } from '../uring/native.js';
import type { LoadMessage } from '../worker/messages.js';
import { COUNT_MAX, ERRNO_MAX, LOAD_MS_MAX } from './limits.js';

const place = whole(0);
const count = whole(0, COUNT_MAX);

/** What a fault does: the addon takes exactly one of these. */
const faultRule: Rule<FaultRule> = fields<FaultRule>({
  op: optional(oneOf('read', 'write', 'sync', 'discard', 'zero', 'extents')),
  start: optional(place),
  end: optional(place),
  skip: optional(count),
  count: optional(count),
  oneIn: optional(whole(1, COUNT_MAX)),
  seed: optional(whole(0, 2 ** 31 - 1)),
  errno: optional(whole(1, ERRNO_MAX)),
  delayMs: optional(count),
  corrupt: optional(made<boolean>('true', (value) => value === true)),
  lose: optional(made<boolean>('true', (value) => value === true)),
  kill: optional(oneOf('before', 'done')),
});

const ACTIONS = ['errno', 'delayMs', 'corrupt', 'lose', 'kill'] as const;

/** What a load is. */
export const LOAD = fields<Omit<LoadMessage, 'device'>>({
  pattern: oneOf('read', 'write', 'randread', 'randwrite', 'mixed', 'sync'),
  blockBytes: whole(1, CHUNK_BYTES),
  depth: whole(1, SHARD_REQUESTS_MAX),
  milliseconds: amount(0, LOAD_MS_MAX),
  seed: whole(0, 2 ** 32 - 1),
});

/** Faults to inject. */
export const faultRules: Rule<readonly FaultRule[]> = list(
  {
    expected: faultRule.expected,
    take: (value, name) => {
      const taken = faultRule.take(value, name);
      const actions = ACTIONS.filter((action) => taken[action] !== undefined);
      if (actions.length !== 1) throw wrongArgument(name, `an object with one of ${ACTIONS.join(', ')}`, value);
      return taken;
    },
  },
  0,
  FAULT_RULES_MAX,
);

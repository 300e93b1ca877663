/**
 * A process that runs a node, for tests that kill it. Its argument says what to open; then it takes commands on its standard
 * input and answers on its standard output, one JSON object a line: `{id, method, args}` calls a method of the node, and
 * what happens in the node is told as `{event}`. It closes the node in order when its input ends.
 */

import { createInterface } from 'node:readline';
import { openNode } from '#strake/index.js';

const { devices, without, faults, socket, strict, shards, network } = JSON.parse(process.argv[2]);

function tell(message) {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

function wireError(error) {
  return { code: error.code ?? error.name, message: error.message };
}

/** What a method answers, as far as it is plain data. */
function plain(value) {
  return value?.constructor === Object || Array.isArray(value) ? value : null;
}

const own = {
  /** Ends the worker that drives the devices. */
  killWorker: (node) => node.owner.kill(node.shard),
  /** Ends another worker of the node, which has devices. */
  killShard: (node, shard) => node.owner.kill(shard),
  /** Ends without closing anything, as a failure of the program would. */
  exit: () => process.exit(7),
};

async function answer(node, { id, method, args }) {
  try {
    const result = await (own[method]?.(node, ...args) ?? node[method](...args));
    tell({ id, result: plain(result) });
  } catch (error) {
    tell({ id, error: wireError(error) });
  }
}

try {
  const onEvent = (event) => tell({ event });
  const node = await openNode({ devices, without, faults, strict, shards, ...network, onEvent });
  await node.serve({ socket });
  tell({ ready: true });
  const lines = createInterface({ input: process.stdin });
  lines.on('line', (line) => void answer(node, JSON.parse(line)));
  lines.on('close', async () => {
    try {
      await node.close();
    } catch (error) {
      tell({ failed: wireError(error) });
      process.exitCode = 1;
    }
  });
} catch (error) {
  tell({ failed: wireError(error) });
  process.exitCode = 1;
}

/** A mounted ext4 on a mirror of a cluster that one command runs: nodes and the client that serves it are killed under load. */

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { check, repetitions, run } from '../support/check.js';
import { type Serving, serving } from '../support/cluster-processes.js';
import { FileLoad, MountedVolume, mountable } from '../support/mounted-volume.js';
import { ask } from '../support/node-commands.js';
import { socketPath, until } from '../support/scratch.js';
import { nodeFolder } from '../support/up.js';

interface Listed {
  readonly groups: readonly { readonly members: readonly { readonly nodeName: string; readonly state: string }[] }[];
}

class Whole {
  readonly folder: string;
  private readonly command: Serving;

  private constructor(folder: string, command: Serving) {
    this.folder = folder;
    this.command = command;
  }

  static async start(): Promise<Whole> {
    const folder = nodeFolder();
    const sizes = ['--device-size', '96M', '--create', 'main=64M,mirror:2'];
    return new Whole(folder, await serving(['up', folder, '--nodes', '4', '--processes', ...sizes]));
  }

  get reach(): string[] {
    return ['--manager', String(this.command.data.manager), '--key-file', String(this.command.data.keyFile)];
  }

  get uri(): string {
    return (this.command.data.volumes as { uri: string }[])[0].uri;
  }

  kill(part: string): void {
    const { pid } =
      (this.command.data.parts as { name: string; pid: number }[]).find(({ name }) => name === part) ?? {};
    if (pid === undefined) throw new Error(`there is no ${part}`);
    process.kill(pid, 'SIGKILL');
  }

  startNode(name: string): Promise<Serving> {
    const place = join(this.folder, name);
    return serving(['node', 'start', place, '--name', name, '--listen', `${place}.sock`, ...this.reach]);
  }

  /** Waits until the copies on a node are in a state. */
  async untilCopies(node: string, state: string): Promise<void> {
    await until(`the copies on ${node} to be ${state}`, async () => {
      const { groups } = (await ask(['volume', 'show', 'main', ...this.reach])) as unknown as Listed;
      const copies = groups.flatMap(({ members }) => members).filter(({ nodeName }) => nodeName === node);
      return copies.length > 0 && copies.every((copy) => copy.state === state);
    });
  }

  async stop(): Promise<void> {
    const { code, stderr } = await this.command.stop();
    assert.is(code, 0, stderr);
  }
}

check(
  'a mounted file system goes on without a node, and after a take-over has all that was synced',
  mountable,
  async () => {
    const whole = await Whole.start();
    const load = new FileLoad();
    let volume = await MountedVolume.mount(whole.uri, { fresh: true });
    let served: Serving | null = null;
    const nodes: Serving[] = [];
    for (let turn = 0; turn < repetitions(3, 1); turn += 1) {
      load.start(volume.folder);
      await load.reach(30);
      const node = `n${2 + turn}`;
      whole.kill(node);
      await load.reach(60);
      await whole.untilCopies(node, 'offline');
      nodes.push(await whole.startNode(node));
      await whole.untilCopies(node, 'in-sync');
      await load.reach(20);
      if (served === null) whole.kill('export of main');
      else await served.kill();
      await load.failed();
      await volume.remove({ check: false });
      const socket = socketPath();
      served = await serving(['volume', 'export', 'main', '--take-over', '--socket', socket, ...whole.reach]);
      volume = await MountedVolume.mount(String(served.data.uri));
      load.check(volume.folder);
    }
    mkdirSync(join(volume.folder, 'and-goes-on'));
    await volume.remove();
    assert.is((await served?.stop())?.code, 0);
    for (const node of nodes) assert.is((await node.stop()).code, 0);
    await whole.stop();
  },
);

run();

/** Simulated connections: bytes arrive whole, in order and once, however they are cut, delayed and held back. */

import * as assert from 'uvu/assert';
import { ECONNRESET, EPIPE } from '#strake/core/errno.js';
import { RECEIVE_WAIT_ALL } from '#strake/ports/transport.js';
import type { SimLineSettings } from '#strake/sim/net/connection.js';
import { SimTransport } from '#strake/sim/net/transport.js';
import { SimLoop } from '#strake/sim/world/loop.js';
import { check, run } from '../support/check.js';

const MEMORY = 1 << 20;
const OUT = MEMORY / 2;

async function connected(seed: number, settings: SimLineSettings = {}) {
  const loop = new SimLoop({ seed, arenaBytes: MEMORY });
  const transport = new SimTransport(loop, settings);
  const waiting: ((result: number) => void)[] = [];
  const base = loop.register({ complete: (tag, result) => waiting[tag](result) });
  const start = (begin: (token: number) => void) =>
    new Promise<number>((resolve) => begin(base + waiting.push(resolve) - 1));
  const listener = transport.listen();
  const accepted = start((token) => transport.accept(listener, token));
  const peer = transport.peer(listener);
  const got: number[] = [];
  peer.onData = (bytes) => got.push(...bytes);
  let ended = false;
  peer.onEnd = () => {
    ended = true;
  };
  const file = await loop.settle(accepted);
  const receive = (length: number, flags = 0) => start((token) => transport.receive(file, 0, length, flags, token));
  const send = (from: number, length: number) => {
    transport.addPiece(OUT + from, Math.ceil(length / 2));
    transport.addPiece(OUT + from + Math.ceil(length / 2), Math.floor(length / 2));
    return start((token) => transport.send(file, token));
  };
  return { loop, transport, peer, file, listener, got, receive, send, start, isEnded: () => ended };
}

const pattern = (length: number) => Uint8Array.from({ length }, (_, at) => (at * 7 + (at >> 8)) & 255);

check('what a peer sends is received in order, in pieces of any length, under loss too', [], async () => {
  let short = 0;
  for (let seed = 1; seed <= 40; seed += 1) {
    const { loop, peer, receive } = await connected(seed, { loss: seed % 2 === 0 ? 0.2 : 0 });
    const bytes = pattern(50_000);
    for (let at = 0; at < bytes.length; at += 10_000) peer.send(bytes.subarray(at, at + 10_000));
    peer.finish();
    const all: number[] = [];
    for (;;) {
      const result = await loop.settle(receive(9_000));
      if (result === 0) break;
      if (result < 9_000) short += 1;
      all.push(...loop.bytes.subarray(0, result));
    }
    assert.equal(Uint8Array.from(all), bytes, `seed ${seed}`);
  }
  assert.ok(short > 40);
});

check('a receive that waits for all gets all, or what there was before the end', [], async () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const { loop, peer, receive } = await connected(seed);
    const first = receive(6_000, RECEIVE_WAIT_ALL);
    peer.send(pattern(5_000));
    peer.send(pattern(4_000));
    assert.is(await loop.settle(first), 6_000);
    peer.finish();
    assert.is(await loop.settle(receive(6_000, RECEIVE_WAIT_ALL)), 3_000);
    assert.is(await loop.settle(receive(1)), 0);
  }
});

check('a send ends when the window has let all of it go, and takes its bytes only then', [], async () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const { loop, peer, got, send } = await connected(seed, { windowBytes: 4_096 });
    loop.bytes.set(pattern(10_000), OUT);
    peer.paused = true;
    let sent = false;
    const sending = send(0, 10_000).then((result) => {
      sent = true;
      return result;
    });
    await assertStuck(loop);
    assert.not.ok(sent);
    assert.is(got.length, 0);
    // Whoever uses the memory again before the end of the send is found out.
    loop.bytes.fill(1, OUT + 9_000, OUT + 10_000);
    peer.paused = false;
    assert.is(await loop.settle(sending), 0);
    await loop.run(() => got.length === 10_000);
    assert.equal(Uint8Array.from(got.slice(0, 9_000)), pattern(10_000).subarray(0, 9_000));
    assert.ok(got.slice(9_000).every((byte) => byte === 1));
  }
});

async function assertStuck(loop: SimLoop): Promise<void> {
  const error = await loop.run(() => false).catch((reason: Error) => reason);
  assert.match(String(error), /nothing is left to happen/);
}

check('a direction that is blocked holds everything back, the other goes on', [], async () => {
  const { loop, peer, got, receive, send } = await connected(3);
  peer.block('to-server');
  peer.send(pattern(100));
  const receiving = receive(100, RECEIVE_WAIT_ALL);
  loop.bytes.set(pattern(200), OUT);
  assert.is(await loop.settle(send(0, 200)), 0);
  await loop.run(() => got.length === 200);
  await assertStuck(loop);
  peer.unblock('to-server');
  assert.is(await loop.settle(receiving), 100);
});

check('a reset ends what is in flight at both ends', [], async () => {
  const { loop, peer, receive, send, isEnded } = await connected(4, { windowBytes: 100 });
  peer.paused = true;
  const both = Promise.all([receive(10), send(0, 1_000)]);
  peer.reset();
  assert.ok(isEnded());
  assert.equal(await loop.settle(both), [-ECONNRESET, -EPIPE]);
});

check('a connection that the server shuts ends behind what it has sent', [], async () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const { loop, transport, file, got, receive, send, isEnded } = await connected(seed);
    assert.is(await loop.settle(send(0, 3_000)), 0);
    const receiving = receive(10);
    transport.shutdown(file);
    transport.close(file);
    assert.is(await loop.settle(receiving), 0);
    await loop.run(isEnded);
    assert.is(got.length, 3_000);
  }
});

check('a listener that is closed refuses, and its accept ends', [], async () => {
  const { loop, transport, listener, start } = await connected(5);
  const accepting = start((token) => transport.accept(listener, token));
  transport.shutdown(listener);
  transport.close(listener);
  assert.ok((await loop.settle(accepting)) < 0);
  const peer = transport.peer(listener);
  let refused = false;
  peer.onEnd = () => {
    refused = true;
  };
  await loop.run(() => refused);
  assert.not.ok(peer.open);
});

check('the same seed gives the same trace', [], async () => {
  const hash = async (seed: number) => {
    const { loop, peer, receive } = await connected(seed, { loss: 0.3 });
    peer.send(pattern(20_000));
    peer.finish();
    while ((await loop.settle(receive(3_000))) > 0);
    return loop.trace.hash;
  };
  assert.is(await hash(1), await hash(1));
  assert.is.not(await hash(1), await hash(2));
});

run();

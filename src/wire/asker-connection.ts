/**
 * The end of a connection that has asked for it: the handshake, and what ends the connection. What is asked and answered behind
 * is added by whoever has the session.
 */

import { check } from '../core/check.js';
import type { StreamedRequest, StreamPart } from '../net/stream-connection.js';
import { FrameConnection } from './connection.js';
import { decodeControl, type WelcomeFields } from './control.js';
import type { Frame } from './frame.js';
import type { Agreement, HelloAsker } from './hello.js';
import { KIND_CHALLENGE, KIND_HELLO, KIND_REFUSED, KIND_WELCOME, STATUS_BAD_FRAME } from './messages.js';
import { WireRefusal } from './refusal.js';

export abstract class AskerConnection<Request extends StreamedRequest, Part extends StreamPart> extends FrameConnection<
  Request,
  Part
> {
  /** Counts what has been received, as a sign of life. */
  heard = 0;
  private hello: HelloAsker | null = null;
  /** Whether the other end has said anything. */
  protected answers = false;

  /** The handshake is over. */
  protected abstract welcomed(welcome: WelcomeFields & Agreement): void;
  /** Takes a frame of the session. Returns what is wrong with it, or null. May throw a `WireRefusal`. */
  protected abstract takeAnswer(frame: Frame, vector: number): string | null;
  /** The other end has said that it wants no session. */
  protected abstract declined(): void;

  /** Begins with a new socket, and what proves who asks. */
  protected greet(file: number, nowMs: number, hello: HelloAsker): void {
    this.hello = hello;
    this.answers = false;
    this.beginFrames(file, nowMs);
    this.receive();
  }

  // ---- handshake

  private shakeHands({ kind }: Frame, vector: number): void {
    const { hello } = this;
    check(hello !== null, 'hands are shaken without a hello');
    this.answers = true;
    const payload = this.payload(vector, this.reader.vectorBytes);
    if (kind === KIND_CHALLENGE) this.say(KIND_HELLO, hello.takeChallenge(payload).hello);
    else if (kind === KIND_WELCOME) this.begun(hello.takeWelcome(payload));
    else throw new WireRefusal(STATUS_BAD_FRAME, `a frame of kind ${kind} comes in the handshake`);
  }

  private begun(welcome: WelcomeFields & Agreement): void {
    this.hello = null;
    this.reader.open(welcome.version);
    this.state = 'serving';
    this.welcomed(welcome);
  }

  // ---- frames

  /** A copy of bytes that have been received. */
  protected payload(at: number, bytes: number): Uint8Array {
    return this.resources.memory.bytes.slice(at, at + bytes);
  }

  protected takeFrame(frame: Frame, vector: number): boolean {
    if (frame.kind === KIND_REFUSED) {
      this.declined();
      this.end(`the node has refused to go on: ${refusalOf(this.payload(vector, frame.payload))}`);
      return false;
    }
    try {
      if (this.state === 'handshake') {
        this.shakeHands(frame, vector);
        return true;
      }
      const wrong = this.takeAnswer(frame, vector);
      if (wrong !== null) return this.refuse({ status: STATUS_BAD_FRAME, message: wrong });
      return !this.closing;
    } catch (error) {
      if (error instanceof WireRefusal) return this.refuse(error);
      throw error;
    }
  }

  override onReceived(result: number, flags: number): void {
    this.heard += 1;
    super.onReceived(result, flags);
  }

  /** Nothing is streamed from this end, and what is asked is not counted as a request of the connection. */
  protected beginStream(): void {}

  endRequest(): void {}

  protected onFree(): void {
    this.hello = null;
  }
}

/** Why the other end ends a connection, in its words. */
function refusalOf(payload: Uint8Array): string {
  try {
    return decodeControl('refused', payload).message;
  } catch (error) {
    if (error instanceof WireRefusal) return 'without a reason that could be read';
    throw error;
  }
}

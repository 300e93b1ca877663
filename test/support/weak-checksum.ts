/** A checksum for which another content with the same one is easily found, as scripted members have. */

const SUM_START = 2166136261;
const SUM_FACTOR = 16777619;

export function checksum(bytes: Uint8Array): number {
  const words = new Uint32Array(bytes.slice().buffer);
  let sum = SUM_START;
  for (const word of words) sum = Math.imul(sum ^ word, SUM_FACTOR);
  return sum >>> 0;
}

/** Other bytes with the same checksum. */
export function collision(bytes: Uint8Array): Uint8Array {
  const words = new Uint32Array(bytes.slice().buffer);
  const before = Math.imul(SUM_START ^ words[0], SUM_FACTOR);
  words[0] ^= 1;
  // The second word takes back what the first has changed.
  words[1] ^= before ^ Math.imul(SUM_START ^ words[0], SUM_FACTOR);
  return new Uint8Array(words.buffer);
}

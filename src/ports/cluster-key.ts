/**
 * The key of a cluster: what proves to nodes, clients and managers that they belong together. What it has authenticated can be
 * handed on by anybody.
 */

/** Bytes of what `authenticate` returns, and of a nonce. */
export const MAC_BYTES = 32;
export const NONCE_BYTES = 32;

export interface ClusterKey {
  /** HMAC-SHA256 (RFC 2104, FIPS 180-4) of a message: 32 bytes. */
  authenticate(message: Uint8Array): Uint8Array;
  /**
   * Whether `mac` is what `authenticate` returns, or as many bytes from its beginning as it has, at least 16. The time that takes
   * does not depend on where they differ.
   */
  verify(message: Uint8Array, mac: Uint8Array): boolean;
  /** 32 bytes that nobody can foretell, and that never come again. */
  nonce(): Uint8Array;
}

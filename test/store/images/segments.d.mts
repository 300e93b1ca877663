export interface Segments {
  readonly segments: number;
  readonly blocks: number;
  readonly sha256: string;
}

export function segmentsOf(
  // biome-ignore lint/suspicious/noExplicitAny: both programs that dump have their own types.
  dump: (request: object) => Promise<any>,
  read: (offset: number, bytes: number) => Uint8Array,
): Promise<Segments>;

/** What a shard is doing, in counts and bytes; for status, metrics and tests of leaks. */
export interface ShardStats {
  readonly engine: string;
  readonly registeredBytes: number;
  readonly arenaBytes: number;
  readonly operationsInFlight: number;
  readonly files: number;
  readonly batches: number;
  readonly nbd: Readonly<Record<string, number>>;
  readonly devices: readonly { readonly device: number; readonly fence: number }[];
}

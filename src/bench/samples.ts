/** What a probe is given, and what it measures. */

export interface ProbeContext {
  /** From 0 on. */
  readonly round: number;
  /** In the order of this round. */
  readonly files: readonly string[];
  readonly sizeBytes: number;
  readonly seconds: number;
  readonly folder: string;
  readonly slots: number;
  /** How often it measures, in a round, what differs much from one time to the next. */
  readonly times: number;
}

/** One row's values of one round. */
export interface Sample {
  readonly id: string;
  readonly unit: string;
  readonly strake: number;
  readonly rivals?: Readonly<Record<string, number>>;
}

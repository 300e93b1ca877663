/** What bounds the command alone. */

/** Bytes of a configuration file. */
export const CONFIG_BYTES_MAX = 1 << 20;
/** Paths of devices in a configuration file: more than a node has, as patterns and paths of devices that are away count too. */
export const CONFIG_DEVICES_MAX = 1024;
/** Bytes of the text that says to which cluster devices belong. */
export const CLUSTER_BYTES_MAX = 255;
/** The largest seed of a trial. */
export const SEED_MAX = 2 ** 31 - 1;
/** Trials that making a failure smaller may take. */
export const SHRINK_TRIALS_MAX = 400;
/** Failures of trials that are listed; all are counted. */
export const FAILURES_MAX = 100;
/** Nodes of a cluster that one command runs. */
export const UP_NODES_MAX = 16;

/**
 * Errors with stable codes.
 *
 * An operating error is a `StrakeError`: its code never changes its meaning, its message says what happened and why, and
 * `remedy` says what to do. `explain` in the command line prints the table below. A programmer's error is an ordinary
 * exception and ends the thread it happens in.
 */

/** What a code means and what to do about it. */
export interface ErrorEntry {
  readonly summary: string;
  readonly remedy: string;
  /** Exit code of the command line: 1 failed, 2 usage, 4 unavailable, 5 refused for safety. */
  readonly exitCode: 1 | 2 | 4 | 5;
  /** Whether the same call may succeed later without anything being changed. */
  readonly retryable: boolean;
}

const entry = (exitCode: ErrorEntry['exitCode'], retryable: boolean, summary: string, remedy: string): ErrorEntry => ({
  summary,
  remedy,
  exitCode,
  retryable,
});

/** Every code, without its `ERR_STRAKE_` prefix. */
export const ERRORS = {
  NOT_FOUND: entry(1, false, 'There is no such device or file.', 'Check the path; `lsblk` lists block devices.'),
  NO_PERMISSION: entry(
    1,
    false,
    'The system does not let this user open the device.',
    'Run as root, or give the user access to the device node (group "disk") or file.',
  ),
  IN_USE: entry(
    5,
    true,
    'The device is mounted, locked, or used by the kernel or another program.',
    'Stop what uses it. A second process never shares a device that is open for writing.',
  ),
  SIGNATURE: entry(
    5,
    false,
    'The device holds a file system, a partition table or other data with a known signature.',
    'Check that it is the right device. To go on, name it a second time with --confirm, or open it read-only.',
  ),
  READ_ONLY: entry(
    1,
    false,
    'The device, or the way it was opened, does not allow writing.',
    'Open it read-only (--read-only), or make the device writable (`blockdev --setrw`).',
  ),
  NOT_A_DEVICE: entry(
    2,
    false,
    'The path names something other than a block device or a regular file.',
    'Give the path of a block device or of a regular file.',
  ),
  SYMLINK: entry(
    5,
    false,
    'The path is a symbolic link, which could point elsewhere the next time.',
    'Name the target. Links in /dev/disk are followed.',
  ),
  TOO_SMALL: entry(1, false, 'The device is smaller than one block of 4096 bytes.', 'Use a larger device or file.'),
  BAD_SIZE: entry(
    1,
    false,
    'The size of the file is not a multiple of its block size, so its end could not be written.',
    'Round the size up, for example `truncate -s %4096 FILE`.',
  ),
  NO_DIRECT_IO: entry(
    1,
    false,
    'The file system does not support O_DIRECT, so writes could not be known to reach the device.',
    'Put the file on another file system (ext4, XFS, Btrfs), or use a block device.',
  ),
  IO: entry(1, false, 'The device answered with an error.', 'Look at the kernel log (`dmesg`) and replace the device.'),
  FENCED: entry(
    1,
    false,
    'A flush failed or an operation never ended, so what the device holds is not known; it takes no more writes.',
    'Replace the device, or check it and open it again.',
  ),
  OUT_OF_RANGE: entry(2, false, 'The range lies outside of the device.', 'Stay within sizeBytes.'),
  NO_SPACE: entry(1, false, 'The storage under the device is full.', 'Free space below it.'),
  NOT_SUPPORTED: entry(1, false, 'The device cannot do this.', 'Use another way, or another device.'),
  INVALID_ARGUMENT: entry(2, false, 'An argument is not valid.', 'Correct it; the message says what is expected.'),
  CLOSED: entry(1, false, 'The device or server has been closed.', 'Open it again.'),
  ABORTED: entry(1, true, 'The caller gave the operation up.', 'Nothing; a write may or may not have been done.'),
  ADDRESS_IN_USE: entry(
    1,
    true,
    'Another server answers at this address.',
    'Stop it, or choose another socket path or port.',
  ),
  ADDRESS: entry(2, false, 'It is not possible to listen at this address.', 'Choose another socket path or address.'),
  WORKER_DIED: entry(
    4,
    true,
    'A worker thread ended unexpectedly; a new one takes over its devices and exports.',
    'Try again. What was not acknowledged may or may not have been done.',
  ),
  UNAVAILABLE: entry(
    4,
    true,
    'Too few members of the volume are there, or what they hold is not known to be current; nothing is served.',
    'Bring the missing devices back.',
  ),
  BUSY: entry(4, true, 'All slots are taken.', 'Wait for requests to finish.'),
  TIMED_OUT: entry(4, true, 'It took too long.', 'Try again; look for what is slow.'),
  UNSUPPORTED_PLATFORM: entry(
    1,
    false,
    'The native part of Strake does not run on this platform.',
    'Use Linux on x86-64 or arm64 with glibc or musl, or build from source.',
  ),
  NO_ENGINE: entry(
    1,
    false,
    'The engine that was asked for cannot be used here.',
    'Leave the choice to Strake (STRAKE_ENGINE=auto); `strake doctor` says why it is denied.',
  ),
  TOO_LARGE: entry(1, false, 'The device is larger than the format can manage.', 'Divide it into partitions.'),
  NOT_FORMATTED: entry(
    1,
    false,
    'The device holds no Strake superblock.',
    'Format it with `strake device format`, which erases what it holds, or name another one.',
  ),
  UNKNOWN_FEATURE: entry(
    1,
    false,
    'The device was written by a newer version, and uses something that this one does not know.',
    'Use the version that wrote it, or a newer one.',
  ),
  DAMAGED: entry(
    1,
    false,
    'Structures on the device are damaged; it was not opened, so that nothing gets worse.',
    '`strake device fsck` lists the damage. A member of a mirror is rebuilt from the others with `strake device replace`.',
  ),
  WRONG_DEVICE: entry(
    5,
    false,
    'The device is not the one that is expected: a clone, an older copy, or a part of another cluster.',
    'Remove the copy, or format it as a new device.',
  ),
  EXISTS: entry(1, false, 'Something of this name or address exists already.', 'Choose another name.'),
  NO_VOLUME: entry(1, false, 'There is no such volume.', '`strake volume list` shows those there are.'),
  NO_JOB: entry(
    1,
    false,
    'There is no such job.',
    '`strake job list` shows those that go on, and the last ones that have ended.',
  ),
  NAME_CONFLICT: entry(
    5,
    false,
    'Several volumes have this name, so it is not known which is meant; none is served until one has another name.',
    '`strake volume list` shows their ids. Rename one by its id: `strake volume rename ID NEWNAME`; or delete one by its id.',
  ),
  UNPROVEN: entry(
    5,
    false,
    'Devices are missing that may hold newer data, so what is there cannot be proven to be current.',
    'Bring the missing device back; or, if it is lost for good, start without it: `strake volume start NAME --without ID`.',
  ),
  VOLUME_BUSY: entry(5, true, 'The volume is exported or has work in progress.', 'Stop that first.'),
  CHECKSUM: entry(
    1,
    false,
    'What the device returned does not match its checksum, and there is no other copy.',
    'Restore the data from a backup; the message names device and place.',
  ),
  NO_DEVICE: entry(
    1,
    false,
    'There is no such device in the node, or no formatted device to make a node of.',
    '`strake device list` shows the devices of a folder and of a running node; `strake device format` makes one.',
  ),
  NO_NODE: entry(
    4,
    true,
    'No node answers here.',
    'Start it with `strake up DIR`, or say where it is: --node DIR, or the variable STRAKE_NODE.',
  ),
  NO_MANAGER: entry(
    4,
    true,
    'No manager of the cluster answers, or it does not decide anything yet; volumes that are open go on while no member fails.',
    'Start it with `strake manager start DIR`; `strake cluster status` says what it waits for.',
  ),
  MANAGED: entry(
    5,
    false,
    'Managers of a cluster decide about volumes on the devices, and a node that stands alone must not.',
    'Run it as a node of its cluster (`strake node start`), or take its volumes back first (`strake cluster leave`).',
  ),
  STALE_METADATA: entry(
    5,
    false,
    'The store of the manager is an older copy of itself, or another manager has decided since; nothing is decided by it.',
    'Stop this manager. Start it on the directory that it ran on last, or restore the newest copy that there is.',
  ),
  HOLDS_DATA: entry(
    5,
    false,
    'The volume holds data, which would be lost.',
    'Check that it is the right volume. To delete it, name it a second time with --confirm.',
  ),
  TOOL_MISSING: entry(1, false, 'A program that this needs is not installed.', 'Install it; the message says how.'),
} as const satisfies Record<string, ErrorEntry>;

/** A code without its prefix. */
export type ErrorName = keyof typeof ERRORS;
/** A code as it appears in `error.code`. */
export type ErrorCode = `ERR_STRAKE_${ErrorName}`;

/** Details of an error. */
export interface StrakeErrorOptions {
  readonly cause?: unknown;
  /** What to do, where it is more precise than the table. */
  readonly remedy?: string;
  /** The system's error number, positive. */
  readonly errno?: number;
  /** The system call that failed. */
  readonly syscall?: string;
}

/** An operating error. */
export class StrakeError extends Error {
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly remedy: string;
  readonly errno: number | undefined;
  readonly syscall: string | undefined;

  constructor(name: ErrorName, message: string, options: StrakeErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'StrakeError';
    this.code = `ERR_STRAKE_${name}`;
    this.retryable = ERRORS[name].retryable;
    this.remedy = options.remedy ?? ERRORS[name].remedy;
    this.errno = options.errno;
    this.syscall = options.syscall;
  }

  /** The table's entry. */
  get entry(): ErrorEntry {
    return ERRORS[errorName(this.code)];
  }

  /** Plain data that crosses between threads. */
  toWire(): WireError {
    const { message, remedy, errno, syscall } = this;
    return { name: errorName(this.code), message, remedy, errno, syscall };
  }

  /** The error that another thread sent. */
  static fromWire(wire: WireError): StrakeError {
    return new StrakeError(wire.name, wire.message, wire);
  }
}

/** A `StrakeError` as plain data. */
export interface WireError extends StrakeErrorOptions {
  readonly name: ErrorName;
  readonly message: string;
}

function errorName(code: ErrorCode): ErrorName {
  return code.slice('ERR_STRAKE_'.length) as ErrorName;
}

/** Any thrown value as a `StrakeError`; what is not one already becomes an `IO` error with that cause. */
export function toStrakeError(error: unknown): StrakeError {
  if (error instanceof StrakeError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new StrakeError('IO', message, { cause: error });
}

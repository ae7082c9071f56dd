// The errors of the store, and the mapping from errors of Node and leveldb to them. Texts name paths and fields, but
// never quote the content of a file, because an identity is a secret.
import { basename } from 'node:path'
import { CodedError, codeOf } from '../../core/model/coded-error.ts'

type StoreErrorCode =
  // Another process has the database open, or this process opens it a second time.
  | 'STORE_LOCKED'
  | 'STORE_READONLY'
  // A later version of this program has written the files.
  | 'STORE_NEWER'
  // The disk or the quota of this user is full. What was stored before is unchanged.
  | 'DISK_FULL'
  // Both copies of the identity are damaged.
  | 'IDENTITY_CORRUPT'
  // The program tried to save an identity that it could not read again.
  | 'IDENTITY_INVALID'
  // A method was called after `close`.
  | 'STORE_CLOSED'
  // Another user owns the folder or a file with keys, or could read or write it.
  | 'STATE_EXPOSED'
  // Any other failure of the disk, the folder or leveldb.
  | 'STORE_FAILED'

/** An error of the store. `path` is the file or folder concerned; `fix` tells the operator what to do. */
export class StoreError extends CodedError<StoreErrorCode> {
  override readonly name = 'StoreError'
  declare readonly fix: string
  readonly path: string

  constructor(
    code: StoreErrorCode,
    message: string,
    options: { path: string; fix: string; cause?: unknown }
  ) {
    super({ code, message, fix: options.fix, cause: options.cause })
    this.path = options.path
  }
}

/**
 * Returns the StoreError of an error of Node or leveldb: DISK_FULL, STORE_READONLY, STORE_LOCKED, else STORE_FAILED. A
 * StoreError is returned as it is. The text is examined, because leveldb writes the errno into its message and has no
 * code for it.
 */
export function storeError(cause: unknown, path: string): StoreError {
  if (cause instanceof StoreError) return cause
  const text = describe(cause)
  if (/ENOSPC|EDQUOT|No space left on device|quota exceeded/i.test(text)) {
    return new StoreError('DISK_FULL', `the disk of ${path} is full; what was stored before is unchanged`, {
      path,
      fix: 'free space on that disk; the agent then continues by itself',
      cause
    })
  }
  if (/EROFS|EACCES|EPERM|Read-only file system|Permission denied/i.test(text)) {
    return new StoreError('STORE_READONLY', `${path} is not writable`, {
      path,
      fix: 'make the folder writable for the agent (its owner, or the mount), or set `state-dir` to another folder',
      cause
    })
  }
  if (/LEVEL_LOCKED/.test(text)) {
    return new StoreError('STORE_LOCKED', `another process uses ${path}`, {
      path,
      fix: 'stop the other agent, or set `state-dir` of this one to another folder',
      cause
    })
  }
  return new StoreError('STORE_FAILED', `the store in ${path} failed: ${text.slice(0, 300)}`, {
    path,
    fix: failedFix(text, path),
    cause
  })
}

/** Only the database can be pulled again from peers; a file beside it has what exists once. */
function failedFix(text: string, path: string): string {
  if (/EISDIR/.test(text)) return `move the folder ${path} away: the agent keeps a file there`
  return basename(path) === 'db'
    ? 'check the disk; if it has no errors, move the folder `db` away: the agent pulls the replica again from its peers'
    : 'check the disk and the file system; then start the agent again'
}

/** Returns the codes and messages of an error and all its causes in one line. */
export function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const code = codeOf(error)
  const cause = error.cause === undefined ? '' : `: ${describe(error.cause)}`
  const isInMessage = code === undefined || error.message.startsWith(code)
  return `${isInMessage ? '' : `${code} `}${error.message}${cause}`
}

/** Returns the error of a call after `close`. */
export function storeClosed(path: string): StoreError {
  return new StoreError('STORE_CLOSED', 'the store is closed', { path, fix: 'open it again' })
}

/**
 * The text of DISK_FULL for a start: a running agent continues from memory, but an agent that starts has no state in
 * memory.
 */
export function fullAtStart(error: StoreError): StoreError {
  return new StoreError(
    'DISK_FULL',
    `${error.message}, and the agent stops because it cannot open its store`,
    {
      path: error.path,
      fix: 'free space on that disk, then start the agent again; until then this host keeps its tunnel and routes',
      cause: error
    }
  )
}

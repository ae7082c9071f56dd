// What the store throws. Texts name paths and field names, never contents: an identity is a secret.
import { CodedError, codeOf } from '../../core/model/coded-error.ts'

type StoreErrorCode =
  | 'STORE_LOCKED'
  | 'STORE_READONLY'
  | 'STORE_NEWER'
  | 'DISK_FULL'
  | 'IDENTITY_CORRUPT'
  | 'IDENTITY_INVALID'
  | 'STORE_CLOSED'
  | 'STATE_EXPOSED'
  | 'STORE_FAILED'

/** `path` is the file or folder concerned; `fix` says what to do. */
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

/** Tells a full disk, a read-only folder and a lock apart; leveldb folds the errno into its text. */
export function storeError(cause: unknown, path: string): StoreError {
  if (cause instanceof StoreError) return cause
  const text = describe(cause)
  if (/ENOSPC|EDQUOT|No space left on device|quota exceeded/i.test(text)) {
    return new StoreError(
      'DISK_FULL',
      `no space left on the disk of ${path}: what was stored before is unchanged`,
      {
        path,
        fix: 'free space on that disk; the agent goes on by itself',
        cause
      }
    )
  }
  if (/EROFS|EACCES|EPERM|Read-only file system|Permission denied/i.test(text)) {
    return new StoreError('STORE_READONLY', `${path} is not writable`, {
      path,
      fix: 'give the agent its own writable folder: change its owner or mount, or the setting `state-dir`',
      cause
    })
  }
  if (/LEVEL_LOCKED/.test(text)) {
    return new StoreError('STORE_LOCKED', `${path} is in use by another process`, {
      path,
      fix: 'stop the other agent, or give this one a folder of its own with the setting `state-dir`',
      cause
    })
  }
  return new StoreError('STORE_FAILED', `the store in ${path} failed: ${text.slice(0, 300)}`, {
    path,
    fix: 'check the disk; if it is sound, move the folder `db` away: it is pulled again from the peers',
    cause
  })
}

/** Codes and messages of an error and its causes, in one line. */
export function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const code = codeOf(error)
  const cause = error.cause === undefined ? '' : `: ${describe(error.cause)}`
  return `${code === undefined ? '' : `${code} `}${error.message}${cause}`
}

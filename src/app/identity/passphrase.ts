// The passphrase of a new file that an agent encrypts: root keys, backups.
import { AppError } from '../observe/errors.ts'

/** Shorter ones are found by trying. */
const PASSPHRASE_CHARACTERS_MIN = 12

/** Refuses a passphrase for a new file that is too short. Errors: AppError BAD_ARGUMENT. */
export function checkNewPassphrase(passphrase: string): void {
  if (passphrase.length >= PASSPHRASE_CHARACTERS_MIN) return
  throw new AppError(
    'BAD_ARGUMENT',
    `the passphrase has fewer than ${PASSPHRASE_CHARACTERS_MIN} characters`,
    'use several words'
  )
}

// Runs what signs, and says which field exceeds the rights of the administrator that signs.
import { AppError } from '../observe/errors.ts'

/**
 * Returns what `sign` returns. A RangeError of core/trust/author names the field that exceeds the rights. `refused` is
 * the clause before it. Errors: AppError BAD_ARGUMENT.
 */
export function withinRights<T>(refused: string, sign: () => T): T {
  try {
    return sign()
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw new AppError(
      'BAD_ARGUMENT',
      `${refused}: ${error.message}`,
      'stay within the rights that `meshctl admin list` shows, or ask an administrator with more rights'
    )
  }
}

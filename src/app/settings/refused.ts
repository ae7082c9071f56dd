// The result of a parser of a setting that does not accept the value. The parsers return it and do not throw, so that a
// list can add the item to the reason; setting-values.ts turns it into an issue of zod.
import type { z } from 'zod'

/**
 * Why a value is refused, and what the operator can write in its place. Both are parts of sentences without a full
 * stop; in `reason`, "it" is the value.
 */
export class Refused {
  readonly reason: string
  readonly fix: string

  constructor(reason: string, fix: string) {
    this.reason = reason
    this.fix = fix
  }
}

/** The key of the fix in `params` of a zod issue, which itself has room for a message only. */
export const FIX = 'fix'

/** The fix of the first issue that has one. Issues that zod makes itself have none. */
export function fixOf(error: z.ZodError): string | undefined {
  for (const issue of error.issues) {
    if (issue.code !== 'custom') continue
    const fix: unknown = issue.params?.[FIX]
    if (typeof fix === 'string') return fix
  }
  return undefined
}

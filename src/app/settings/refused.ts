// The outcome of a parser of settings that takes no value.

/** Why a value will not do, and what would. */
export class Refused {
  readonly reason: string
  readonly fix: string

  constructor(reason: string, fix: string) {
    this.reason = reason
    this.fix = fix
  }
}

/** The key under which an issue carries its fix. */
export const FIX = 'fix'

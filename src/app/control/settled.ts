// When a changed trust set is judged. A rotation of a cluster's key comes in two frames, the admission of the new key and
// the credential of the agent under it. Between them the agent stands under no key: judged there, its connection would be
// closed and its records would be removed.

/** Looks in a row with a new version each, after which the set is judged all the same: 1 s of ticks. */
const LOOKS_MAX = 5

/** Waits until the version stays the same from one look to the next one. */
export class Settled {
  #seen: number | undefined
  #looks = 0

  /** Returns whether this version is to be judged now. Called once per tick while it is not judged. */
  look(version: number): boolean {
    const isSame = version === this.#seen
    this.#seen = version
    if (!isSame && ++this.#looks < LOOKS_MAX) return false
    this.#looks = 0
    return true
  }
}

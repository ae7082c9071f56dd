// What was refused since the start, by reason. Reasons may quote a peer (a name, a PeerId), and a hostile member can think of
// new ones for ever: so only the part before the first detail counts, and the kinds are bounded.

// The protocol, the handshake and the trust book have some forty fixed reasons between them.
const KINDS_MAX = 64
const KIND_CHARACTERS_MAX = 60
const OTHER = 'other'

export class Refusals {
  readonly #counts = new Map<string, number>()

  /** Returns the kind it was counted as: a label that stays one of few. */
  count(reason: string): string {
    const wanted = kindOf(reason)
    const isKnown = this.#counts.has(wanted) || this.#counts.size < KINDS_MAX
    const kind = isKnown ? wanted : OTHER
    this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1)
    return kind
  }

  counts(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#counts)
  }
}

function kindOf(reason: string): string {
  return reason.split(/[:,"]/)[0]?.trim().slice(0, KIND_CHARACTERS_MAX) || OTHER
}

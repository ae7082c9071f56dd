// Counts what was refused since the start, by reason, for `meshctl status` and the metric `rhizome_refused_total`. A
// reason may quote a peer (a name, a PeerId), and a hostile member can invent new ones without end. So only the part
// before the first detail counts, and the number of kinds is bounded.

// The protocol, the handshake and the trust store have about forty fixed reasons.
const KINDS_MAX = 64
const KIND_CHARACTERS_MAX = 60
const OTHER = 'other'

/** Counts by kind of reason. Kinds beyond KINDS_MAX are counted together as `other`. */
export class Refusals {
  readonly #counts = new Map<string, number>()

  /**
   * Counts one refusal, and returns the kind under which it was counted. The kind is one of few, so it can be a label
   * of a metric.
   */
  count(reason: string): string {
    const wanted = kindOf(reason)
    const isKnown = this.#counts.has(wanted) || this.#counts.size < KINDS_MAX
    const kind = isKnown ? wanted : OTHER
    this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1)
    return kind
  }

  /** Returns the counts since the start, by kind. */
  counts(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#counts)
  }
}

/**
 * Returns the reason up to its first colon, comma or quote, at most KIND_CHARACTERS_MAX characters: "handshake
 * clock", "malformed frame".
 */
export function kindOf(reason: string): string {
  return reason.split(/[:,"]/)[0]?.trim().slice(0, KIND_CHARACTERS_MAX) || OTHER
}

// Who is dead, as far as the mesh can tell. A neighbour that is silent is suspected by a signed vote, which is flooded; two voices
// make a death unless the suspect, which hears of it, refutes them in time with a signed beacon of a higher incarnation. As SWIM
// with Lifeguard does it, but with signatures, and without traffic while nobody is suspected.
// Invariants
//   L1. A vote counts for its signer only, once per incarnation; one liar kills nobody.
//   L2. A beacon is the origin's own word: it clears every vote of a lower incarnation.
//   L3. Votes are bounded, per suspect and per voice; each is passed on once.
// It says nothing of the data: what was replicated stays until the tunnel, too, is dead (fail static).
import type { Crypto } from '../../model/crypto.ts'
import type { Origin } from '../../model/values.ts'
import { parseOrigin } from '../../model/identity.ts'
import {
  decodeBeaconBody,
  decodeSuspicionBody,
  encodeFrame,
  encodeMessage,
  wire
} from '../../wire/messages.ts'

export interface SuspicionsOptions {
  readonly self: Origin
  readonly selfSeed: Uint8Array
  readonly meshId: Uint8Array
  readonly crypto: Crypto
  /** Undefined for those who are no members. */
  readonly memberKey: (origin: Origin) => Uint8Array | undefined
  readonly originsMax: number
  /** Where this life begins to count: above what earlier ones may have said, or 0. */
  readonly incarnation: number
}

/** What to do with what came: pass it on to the other neighbours, say that we live, or nothing. */
export type Said =
  | { readonly kind: 'forward'; readonly alive?: Origin }
  | { readonly kind: 'refute' }
  | { readonly kind: 'known' }
  /** A beacon from before these votes: its sender does not know of them, and may have forgotten that it was ever suspected. */
  | { readonly kind: 'outdated'; readonly votes: readonly Uint8Array[] }
  | { readonly kind: 'refused'; readonly reason: string }

interface Signed {
  readonly body: Uint8Array
  readonly signature: Uint8Array
}

interface Suspect {
  incarnation: number
  /** The votes of this incarnation by their voices, as frames to pass on. */
  readonly votes: Map<Origin, Uint8Array>
  /** When the second vote came. */
  confirmedMs: number | undefined
}

export class Suspicions {
  readonly #options: SuspicionsOptions
  readonly #suspects = new Map<Origin, Suspect>()
  readonly #voices = new Map<Origin, number>()
  #voicesMs = -Infinity
  #incarnation: number

  constructor(options: SuspicionsOptions) {
    this.#options = options
    this.#incarnation = options.incarnation
  }

  isSuspected(origin: Origin): boolean {
    return (this.#suspects.get(origin)?.votes.size ?? 0) > 0
  }

  /** Two voices, or the only other one there is, and no refutation in time. */
  isDead(origin: Origin, nowMs: number, members: number): boolean {
    const suspect = this.#suspects.get(origin)
    if (!suspect || suspect.votes.size < Math.min(VOICES_MIN, members - 1)) return false
    return nowMs - (suspect.confirmedMs ?? nowMs) >= REFUTATION_MS
  }

  /** We hear of it ourselves: our own vote falls. */
  heard(origin: Origin): void {
    const suspect = this.#suspects.get(origin)
    if (!suspect?.votes.delete(this.#options.self)) return
    if (suspect.votes.size < VOICES_MIN) suspect.confirmedMs = undefined
  }

  /** Our own vote as a frame to flood; undefined when it was cast already. */
  suspect(origin: Origin, nowMs: number): Uint8Array | undefined {
    const { self, selfSeed, meshId, crypto } = this.#options
    const suspect = this.#of(origin)
    if (!suspect || suspect.votes.has(self)) return undefined
    const { incarnation } = suspect
    const body = encodeMessage(wire.SuspicionBody, { origin, by: self, incarnation })
    const signature = new Uint8Array(crypto.sign(selfSeed, SUSPICION_TAG, meshId, body))
    const frame = encodeFrame({ suspicion: { body, signature } })
    this.#count(suspect, self, frame, nowMs)
    return frame
  }

  takeVote(signed: Signed, nowMs: number): Said {
    const { self } = this.#options
    const body = decodeSuspicionBody(signed.body)
    const [origin, by] = [parseOrigin(body?.origin ?? ''), parseOrigin(body?.by ?? '')]
    if (!body || !origin || !by) return { kind: 'refused', reason: 'malformed suspicion' }
    if (by === self || by === origin) return { kind: 'known' }
    if (body.incarnation >= INCARNATION_MAX) return { kind: 'refused', reason: 'malformed suspicion' }
    if (origin === self && body.incarnation < this.#incarnation) return { kind: 'known' }
    const suspect = this.#of(origin)
    if (!suspect || body.incarnation < suspect.incarnation || suspect.votes.has(by)) return { kind: 'known' }
    // L3: enough is known, or this voice says too much.
    if (suspect.votes.size >= VOICES_MAX || !this.#mayspeak(by, nowMs)) return { kind: 'known' }
    if (!this.#verifies(by, SUSPICION_TAG, signed)) return { kind: 'refused', reason: 'bad signature' }
    if (origin === self) {
      this.#incarnation = body.incarnation + 1
      return { kind: 'refute' }
    }
    if (body.incarnation > suspect.incarnation) clear(suspect, body.incarnation)
    this.#count(suspect, by, encodeFrame({ suspicion: signed }), nowMs)
    return { kind: 'forward' }
  }

  /** Our own beacon, for flooding: we live. */
  refutation(): Uint8Array {
    const { self, selfSeed, meshId, crypto } = this.#options
    const body = encodeMessage(wire.BeaconBody, { origin: self, incarnation: this.#incarnation })
    const signature = new Uint8Array(crypto.sign(selfSeed, BEACON_TAG, meshId, body))
    return encodeFrame({ beacon: { body, signature } })
  }

  /** The beacon that refutes all we have heard of ourselves, and what was said of our earlier lives; none where there is neither. */
  lastWord(): readonly Uint8Array[] {
    return this.#incarnation > 0 ? [this.refutation()] : []
  }

  takeBeacon(signed: Signed): Said {
    const body = decodeBeaconBody(signed.body)
    const origin = parseOrigin(body?.origin ?? '')
    if (!body || !origin) return { kind: 'refused', reason: 'malformed beacon' }
    const suspect = this.#of(origin)
    if (!suspect || origin === this.#options.self) return { kind: 'known' }
    if (body.incarnation <= suspect.incarnation)
      return suspect.votes.size > 0 ? { kind: 'outdated', votes: this.votesOn(origin) } : { kind: 'known' }
    if (!this.#verifies(origin, BEACON_TAG, signed)) return { kind: 'refused', reason: 'bad signature' }
    clear(suspect, body.incarnation) // L2
    return { kind: 'forward', alive: origin }
  }

  /** For a neighbour that has come (back): the votes on itself, which it will refute. */
  votesOn(peer: Origin): readonly Uint8Array[] {
    return [...(this.#suspects.get(peer)?.votes.values() ?? [])]
  }

  #of(origin: Origin): Suspect | undefined {
    const known = this.#suspects.get(origin)
    if (known) return known
    if (this.#suspects.size >= this.#options.originsMax || !this.#options.memberKey(origin)) return undefined
    const suspect: Suspect = {
      incarnation: 0,
      votes: new Map(),
      confirmedMs: undefined
    }
    this.#suspects.set(origin, suspect)
    return suspect
  }

  #count(suspect: Suspect, by: Origin, frame: Uint8Array, nowMs: number): void {
    suspect.votes.set(by, frame) // L1
    suspect.confirmedMs ??= nowMs
    if (suspect.votes.size === VOICES_MIN) suspect.confirmedMs = nowMs
  }

  #mayspeak(by: Origin, nowMs: number): boolean {
    if (nowMs - this.#voicesMs >= VOICE_INTERVAL_MS) {
      this.#voicesMs = nowMs
      this.#voices.clear()
    }
    const said = this.#voices.get(by) ?? 0
    this.#voices.set(by, said + 1)
    return said < VOTES_PER_INTERVAL
  }

  #verifies(origin: Origin, tag: Uint8Array, { body, signature }: Signed): boolean {
    const { crypto, meshId, memberKey } = this.#options
    const key = memberKey(origin)
    return key !== undefined && crypto.verify(key, signature, tag, meshId, body)
  }
}

const VOICES_MIN = 2
// One to spare; more say nothing new.
const VOICES_MAX = 3
// Twice around the earth: votes to the suspect, its beacon back.
const REFUTATION_MS = 1000
// One agent loses all its neighbours when its own network breaks; it need not tell of all at once.
const VOTES_PER_INTERVAL = 64
const VOICE_INTERVAL_MS = 10_000
// Milliseconds of the next 140,000 years. A vote above it is a lie that could not be refuted: numbers end at 2 ** 53.
const INCARNATION_MAX = 2 ** 52
const encoder = new TextEncoder()
const SUSPICION_TAG = encoder.encode('rhizome/suspicion/1\0')
const BEACON_TAG = encoder.encode('rhizome/beacon/1\0')

function clear(suspect: Suspect, incarnation: number): void {
  suspect.incarnation = incarnation
  suspect.votes.clear()
  suspect.confirmedMs = undefined
}

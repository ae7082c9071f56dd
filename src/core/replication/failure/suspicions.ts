// Failure detection across the mesh. An agent suspects a silent neighbour with a signed vote, which is flooded. Votes
// of two agents declare the suspect dead unless it refutes them within REFUTATION_MS with a signed beacon of a higher
// incarnation. The method is that of SWIM with Lifeguard, but with signatures, and without traffic while no agent is
// suspected.
// Invariants
//   L1. A vote counts for its signer only, once per incarnation; a single lying agent cannot declare another one dead.
//   L2. A beacon is signed by its origin and clears every vote of a lower incarnation.
//   L3. Votes are bounded per suspect and per voter; each is forwarded once.
//   L4. A vote counts only for an incarnation that the suspect has signed, and carries that beacon. So no voter can raise
//       the incarnation of another agent, and votes on it count later as before.
// A death withdraws no data: replicated records stay until the tunnel is dead as well (fail static).
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
  /** The Ed25519 public key of a member; undefined for an agent that is no member. */
  readonly memberKey: (origin: Origin) => Uint8Array | undefined
  readonly originsMax: number
  /** The first incarnation of this run, above those of earlier runs, or 0. */
  readonly incarnation: number
}

/** What to do with a received vote or beacon: forward it to the other neighbours, refute it, or nothing. */
export type Said =
  | { readonly kind: 'forward'; readonly frame: Uint8Array; readonly alive?: Origin }
  | { readonly kind: 'refute' }
  | { readonly kind: 'known' }
  /**
   * A beacon from before these votes: its sender does not know of them, and may have forgotten that it was ever
   * suspected.
   */
  | { readonly kind: 'outdated'; readonly votes: readonly Uint8Array[] }
  | { readonly kind: 'refused'; readonly reason: string }

/** A body as it was signed, and its Ed25519 signature of 64 bytes. */
interface Signed {
  readonly body: Uint8Array
  readonly signature: Uint8Array
}

/** A vote as it was received, with the beacon of its incarnation. */
interface Vote extends Signed {
  readonly beacon?: Signed | null
}

/** A member on which a vote or a beacon has arrived. */
interface Suspect {
  /** The highest incarnation that the member has signed, as far as known here; votes of others do not count (L4). */
  incarnation: number
  /** The beacon of this incarnation, which goes with each vote; undefined for incarnation 0. */
  beacon: Signed | undefined
  /** The votes of this incarnation by their voters, as frames to pass on. Each further vote confirms the suspicion. */
  readonly votes: Map<Origin, Uint8Array>
  /**
   * When the second vote arrived; while there is only one vote, when that one arrived; undefined without votes. An
   * agent is dead REFUTATION_MS after this time at the earliest.
   */
  confirmedMs: number | undefined
}

/** The suspicions that one agent knows. Times are in milliseconds. */
export class Suspicions {
  readonly #options: SuspicionsOptions
  readonly #suspects = new Map<Origin, Suspect>()
  /** The number of votes that each voter has cast in the present interval, and when that began (L3). */
  readonly #votesBy = new Map<Origin, number>()
  #intervalMs = -Infinity
  /** The present incarnation of this agent; a refutation raises it above that of the votes. */
  #incarnation: number

  constructor(options: SuspicionsOptions) {
    this.#options = options
    this.#incarnation = options.incarnation
  }

  /** True when at least one vote on this agent counts now. */
  isSuspected(origin: Origin): boolean {
    return (this.#suspects.get(origin)?.votes.size ?? 0) > 0
  }

  /** True when two agents (or the only other one) have voted and REFUTATION_MS have passed without a beacon. */
  isDead(origin: Origin, nowMs: number, members: number): boolean {
    const suspect = this.#suspects.get(origin)
    if (!suspect || suspect.votes.size < Math.min(CONFIRMATIONS_MIN, members - 1)) return false
    return nowMs - (suspect.confirmedMs ?? nowMs) >= REFUTATION_MS
  }

  /** A frame of this agent has arrived, so this agent's own vote is withdrawn. */
  heard(origin: Origin): void {
    const suspect = this.#suspects.get(origin)
    if (!suspect?.votes.delete(this.#options.self)) return
    if (suspect.votes.size < CONFIRMATIONS_MIN) suspect.confirmedMs = undefined
  }

  /** This agent's own vote as a frame to flood; undefined when it was cast already. */
  suspect(origin: Origin, nowMs: number): Uint8Array | undefined {
    const { self, selfSeed, meshId, crypto } = this.#options
    const suspect = this.#of(origin)
    if (!suspect || suspect.votes.has(self)) return undefined
    const { incarnation } = suspect
    const body = encodeMessage(wire.SuspicionBody, { origin, by: self, incarnation })
    const signature = new Uint8Array(crypto.sign(selfSeed, SUSPICION_TAG, meshId, body))
    return this.#count(suspect, { by: self, body, signature }, nowMs)
  }

  /**
   * Takes the vote of another agent. The signatures are verified last, so a vote that is known or useless costs no
   * verification. A vote on this agent itself is refuted by a beacon of a higher incarnation.
   */
  takeVote(signed: Vote, nowMs: number): Said {
    const { self, memberKey } = this.#options
    const body = decodeSuspicionBody(signed.body)
    const [origin, by] = [parseOrigin(body?.origin ?? ''), parseOrigin(body?.by ?? '')]
    if (!body || !origin || !by) return { kind: 'refused', reason: 'malformed suspicion' }
    if (by === self || by === origin) return { kind: 'known' }
    // A voter that is no member here may be one for the neighbour that forwards the vote.
    if (!memberKey(by)) return { kind: 'known' }
    if (body.incarnation >= INCARNATION_MAX) return { kind: 'refused', reason: 'malformed suspicion' }
    const suspect = this.#of(origin)
    const incarnation = origin === self ? this.#incarnation : suspect?.incarnation
    if (!suspect || incarnation === undefined || body.incarnation < incarnation) return { kind: 'known' }
    const isNewer = body.incarnation > incarnation
    // L3: the suspect has enough votes, or this voter has cast too many in this interval.
    const isSpare = suspect.votes.has(by) || suspect.votes.size >= CONFIRMATIONS_MAX
    if ((isSpare && !isNewer) || !this.#mayVote(by, nowMs)) return { kind: 'known' }
    const { beacon } = signed
    if (isNewer) {
      if (!isBeaconOf(beacon, { origin, incarnation: body.incarnation })) return { kind: 'known' } // L4
      if (!this.#verifies(origin, BEACON_TAG, beacon)) return { kind: 'refused', reason: 'bad signature' }
    }
    if (!this.#verifies(by, SUSPICION_TAG, signed)) return { kind: 'refused', reason: 'bad signature' }
    if (origin === self) {
      this.#incarnation = body.incarnation + 1
      return { kind: 'refute' }
    }
    if (isNewer && beacon) clear(suspect, body.incarnation, beacon)
    return { kind: 'forward', frame: this.#count(suspect, { ...signed, by }, nowMs) }
  }

  /**
   * Returns this agent's beacon as a frame to flood. It refutes the votes on this agent, because its incarnation is
   * higher than theirs.
   */
  refutation(): Uint8Array {
    const { self, selfSeed, meshId, crypto } = this.#options
    const body = encodeMessage(wire.BeaconBody, { origin: self, incarnation: this.#incarnation })
    const signature = new Uint8Array(crypto.sign(selfSeed, BEACON_TAG, meshId, body))
    return encodeFrame({ beacon: { body, signature } })
  }

  /**
   * The latest beacon, which refutes all votes on this and earlier runs of this agent; empty while the incarnation is
   * 0.
   */
  lastWord(): readonly Uint8Array[] {
    return this.#incarnation > 0 ? [this.refutation()] : []
  }

  /** Takes the beacon of another agent, which clears all votes of lower incarnations (L2). */
  takeBeacon(signed: Signed): Said {
    const body = decodeBeaconBody(signed.body)
    const origin = parseOrigin(body?.origin ?? '')
    if (!body || !origin || body.incarnation >= INCARNATION_MAX)
      return { kind: 'refused', reason: 'malformed beacon' }
    const suspect = this.#of(origin)
    if (!suspect || origin === this.#options.self || !this.#options.memberKey(origin))
      return { kind: 'known' }
    if (body.incarnation <= suspect.incarnation)
      return suspect.votes.size > 0 ? { kind: 'outdated', votes: this.votesOn(origin) } : { kind: 'known' }
    if (!this.#verifies(origin, BEACON_TAG, signed)) return { kind: 'refused', reason: 'bad signature' }
    clear(suspect, body.incarnation, signed) // L2
    return { kind: 'forward', frame: encodeFrame({ beacon: signed }), alive: origin }
  }

  /** The votes on a neighbour that has connected, as frames; the neighbour will refute them. */
  votesOn(peer: Origin): readonly Uint8Array[] {
    return [...(this.#suspects.get(peer)?.votes.values() ?? [])]
  }

  /**
   * Returns the entry of a member and makes one if needed; undefined for an agent that is no member, or without room.
   */
  #of(origin: Origin): Suspect | undefined {
    const known = this.#suspects.get(origin)
    if (known) return known
    if (this.#suspects.size >= this.#options.originsMax || !this.#options.memberKey(origin)) return undefined
    const suspect: Suspect = {
      incarnation: 0,
      beacon: undefined,
      votes: new Map(),
      confirmedMs: undefined
    }
    this.#suspects.set(origin, suspect)
    return suspect
  }

  /** Counts a vote (L1). Returns it as a frame, with the beacon that is held here (L4). */
  #count(suspect: Suspect, vote: Signed & { readonly by: Origin }, nowMs: number): Uint8Array {
    const { by, body, signature } = vote
    const frame = encodeFrame({
      suspicion: { body, signature, ...(suspect.beacon ? { beacon: suspect.beacon } : {}) }
    })
    suspect.votes.set(by, frame)
    suspect.confirmedMs ??= nowMs
    if (suspect.votes.size === CONFIRMATIONS_MIN) suspect.confirmedMs = nowMs
    return frame
  }

  /** Counts a vote of this voter; false when it has cast VOTES_PER_INTERVAL votes in this interval already (L3). */
  #mayVote(by: Origin, nowMs: number): boolean {
    if (nowMs - this.#intervalMs >= VOTE_INTERVAL_MS) {
      this.#intervalMs = nowMs
      this.#votesBy.clear()
    }
    const said = this.#votesBy.get(by) ?? 0
    this.#votesBy.set(by, said + 1)
    return said < VOTES_PER_INTERVAL
  }

  /** True when a member has signed this body for this mesh and this kind of message. */
  #verifies(origin: Origin, tag: Uint8Array, { body, signature }: Signed): boolean {
    const { crypto, meshId, memberKey } = this.#options
    const key = memberKey(origin)
    return key !== undefined && crypto.verify(key, signature, tag, meshId, body)
  }
}

// Votes that declare an agent dead after REFUTATION_MS. One vote is not enough, because the voter's own network may be
// at fault (L1).
const CONFIRMATIONS_MIN = 2
// Votes that are kept of one suspect. Two suffice, a third one is a reserve, and more give no new information.
const CONFIRMATIONS_MAX = 3
// A vote travels to the suspect and its beacon back: twice around the earth takes less than 1 s.
const REFUTATION_MS = 1000
// One agent loses all its neighbours when its own network breaks; it need not tell of all at once.
const VOTES_PER_INTERVAL = 64
const VOTE_INTERVAL_MS = 10_000
// An incarnation is in Unix milliseconds, which reach this number in 140,000 years. A forged vote above it could not be
// refuted, because a number is exact only up to 2 ** 53.
const INCARNATION_MAX = 2 ** 52
const encoder = new TextEncoder()
const SUSPICION_TAG = encoder.encode('rhizome/suspicion/1\0')
const BEACON_TAG = encoder.encode('rhizome/beacon/1\0')

/** True when this is a beacon of this agent and this incarnation. Its signature is not checked. */
function isBeaconOf(
  beacon: Signed | null | undefined,
  of: { readonly origin: Origin; readonly incarnation: number }
): beacon is Signed {
  const body = beacon ? decodeBeaconBody(beacon.body) : undefined
  return body?.origin === of.origin && body.incarnation === of.incarnation
}

/** Begins a new incarnation of a suspect, without votes. The bytes are copied: a view would keep its whole frame. */
function clear(suspect: Suspect, incarnation: number, { body, signature }: Signed): void {
  suspect.incarnation = incarnation
  suspect.beacon = { body: new Uint8Array(body), signature: new Uint8Array(signature) }
  suspect.votes.clear()
  suspect.confirmedMs = undefined
}

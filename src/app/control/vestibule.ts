// Neighbours that have proved their key, and are not told records yet: first the trust sets are exchanged, because the
// peer may bring the statement by which it stands, or the one by which it falls (docs/door.md).
// Invariants
//   1. A peer is admitted when the sets are equal, or after EXCHANGE_MS, and only if its agent stands then. While the sponsor
//      of its cluster is not known here it waits until EXCHANGE_MS: another neighbour may bring that statement, and then
//      the peer is admitted on the same connection.
//   2. Frames of replication that come before are kept, within KEPT_BYTES for each peer, and delivered after. What does
//      not fit is pulled again later.
import type { Origin } from '../../core/model/values.ts'
import { rejectionOf } from '../../core/trust/door/fallen.ts'
import { rejection, type Rejection } from '../../core/trust/door/codes.ts'
import type { Credential } from '../../core/trust/members/credential.ts'
import { monotonicMs } from '../observe/clock.ts'
import type { ConnectionInfo } from './handshakes.ts'
import type { MeshTrust } from './mesh-trust.ts'

/** Milliseconds: trust comes before records, but never keeps them away for longer. */
const EXCHANGE_MS = 5000
const KEPT_BYTES = 1024 * 1024

/** A peer that was admitted. */
export interface Admittance {
  readonly info: ConnectionInfo
  readonly credential: Credential
  /** How far its clock is ahead of this host's, in seconds. */
  readonly skewSeconds: number
  /** The frames of replication that came before. */
  readonly frames: readonly Uint8Array[]
}

/** A peer between its handshake and its admission. */
interface Waiting extends Admittance {
  readonly deadlineMs: number
  readonly frames: Uint8Array[]
  bytes: number
  /** The version of the members for which the peer was last judged; undefined: the sets are not equal yet. */
  judgedVersion: number | undefined
}

interface VestibuleOptions {
  readonly trust: Pick<MeshTrust, 'addCredential' | 'members'>
  /** The peer stands: tell it records. */
  readonly onAdmitted: (peer: Origin, admitted: Admittance) => void
  /** The peer does not stand; `explain` are encoded items. */
  readonly onRefused: (peer: Origin, refused: Rejection & { readonly explain: readonly Uint8Array[] }) => void
}

/** See the head of this file. */
export class Vestibule {
  readonly #options: VestibuleOptions
  readonly #waiting = new Map<Origin, Waiting>()

  constructor(options: VestibuleOptions) {
    this.#options = options
  }

  /** Lets a peer in whose handshake has passed. */
  enter(peer: Origin, info: ConnectionInfo, credential: Credential, skewSeconds: number): void {
    const deadlineMs = monotonicMs() + EXCHANGE_MS
    this.#waiting.set(peer, {
      info,
      credential,
      skewSeconds,
      deadlineMs,
      frames: [],
      bytes: 0,
      judgedVersion: undefined
    })
  }

  has(peer: Origin): boolean {
    return this.#waiting.has(peer)
  }

  /** Keeps a frame of replication until the peer is admitted. */
  keep(peer: Origin, frame: Uint8Array): void {
    const waiting = this.#waiting.get(peer)
    if (waiting === undefined || waiting.bytes + frame.length > KEPT_BYTES) return
    waiting.bytes += frame.length
    waiting.frames.push(frame.slice())
  }

  /** The sets of this agent and the peer are equal. */
  inStep(peer: Origin): void {
    const waiting = this.#waiting.get(peer)
    if (waiting !== undefined) this.#decide(peer, waiting, { isFinal: false })
  }

  tick(nowMs: number): void {
    const { version } = this.#options.trust.members
    for (const [peer, waiting] of this.#waiting) {
      if (waiting.deadlineMs <= nowMs) this.#decide(peer, waiting, { isFinal: true })
      else if (waiting.judgedVersion !== undefined && waiting.judgedVersion !== version)
        this.#decide(peer, waiting, { isFinal: false })
    }
  }

  end(peer: Origin): void {
    this.#waiting.delete(peer)
  }

  /** Decides, unless the sponsor of the peer's cluster is not known here and may still come (`isFinal` false). */
  #decide(peer: Origin, waiting: Waiting, { isFinal }: { readonly isFinal: boolean }): void {
    const { credential } = waiting
    const { trust, onAdmitted, onRefused } = this.#options
    const verdict = trust.addCredential(credential)
    waiting.judgedVersion = trust.members.version
    if (verdict.kind === 'refused' && verdict.code === 'unknown' && !isFinal) return
    this.#waiting.delete(peer)
    if (verdict.kind === 'admitted') return onAdmitted(peer, waiting)
    const standing = trust.members.verdictOn(credential)
    if (standing.kind !== 'stands') return onRefused(peer, rejectionOf(trust.members.set, standing))
    const code = verdict.code === 'full' ? 'quota' : 'certificate'
    onRefused(peer, { ...rejection(code, verdict.reason), explain: [] })
  }
}

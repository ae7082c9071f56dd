// A mesh with real keys for the tests of the door: members and newcomers that shake hands over a table of frames, and
// hostile ones whose frames are changed on the way.
import assert from 'node:assert/strict'
import { createCrypto } from '../../../../src/io/crypto/crypto.ts'
import { equalBytes } from '../../../../src/core/model/bytes.ts'
import { originOf } from '../../../../src/core/model/identity.ts'
import type { Origin } from '../../../../src/core/model/values.ts'
import { openCredential } from '../../../../src/core/trust/members/credential.ts'
import type { MemberVerdict } from '../../../../src/core/trust/members/members.ts'
import {
  createHandshake,
  type Handshake,
  type HandshakeSelf
} from '../../../../src/core/trust/door/handshake.ts'
import type { DoorPort, HandshakeOutcome, HandshakeStep } from '../../../../src/core/trust/door/port.ts'
import { keyId, type KeyId } from '../../../../src/core/trust/set/ids.ts'
import type { TrustSet } from '../../../../src/core/trust/set/trust-set.ts'
import { decodeFrame, encodeFrame, type FrameMessage } from '../../../../src/core/wire/messages.ts'
import { NOW } from '../fixtures.ts'
import { addAll, look, type TestCluster, type TestInvite, type Thing, World } from '../set/world.ts'

export const NOW_MS = NOW * 1000

/** An agent of the tests: a member, a newcomer, or one that only claims to be either. */
export interface Actor {
  readonly origin: Origin
  readonly seed: Uint8Array
  readonly shows: HandshakeSelf['shows']
  readonly set: TrustSet
  readonly meshId: Uint8Array
  readonly verdict?: MemberVerdict
  /** Public keys of invites of gateways that it keeps. */
  readonly gateways?: ReadonlySet<KeyId>
}

export class DoorWorld extends World {
  /** Meshes of different numbers of roots are different ones; all else of a World is the same in each run. */
  constructor(roots = 1) {
    super({ crypto: createCrypto(), roots })
  }

  /** A member of this cluster, whose set holds these things. */
  member(cluster: TestCluster, holds: readonly Thing[] = [cluster], seed = this.crypto.random(32)): Actor {
    const set = addAll(this.set(), holds)
    const credential = this.agent(cluster, 1, seed).item
    return this.#actor(seed, set, { kind: 'member', credential })
  }

  /** A newcomer with a token of this mesh; its set is empty. */
  newcomer(
    invite: TestInvite,
    clusterSeed = this.crypto.random(32),
    seed = this.crypto.random(32)
  ): Actor & {
    readonly clusterSeed: Uint8Array
    readonly certItem: Uint8Array
    readonly invite: TestInvite
  } {
    const certItem = this.redeem(invite, clusterSeed).item
    const actor = this.#actor(seed, this.set(), { kind: 'newcomer', certItem, clusterSeed })
    return { ...actor, clusterSeed, certItem, invite }
  }

  originOf(seed: Uint8Array): Origin {
    return originOf(this.crypto.publicKeyOf(seed))
  }

  open(actor: Actor, remote: Origin, initiator: boolean, nowMs = NOW_MS): Handshake {
    return createHandshake({
      crypto: this.crypto,
      self: { ...actor, software: 'rhizome/test' },
      remote,
      initiator,
      nowMs,
      door: doorOf(actor)
    })
  }

  #actor(seed: Uint8Array, set: TrustSet, shows: HandshakeSelf['shows']): Actor {
    return { origin: this.originOf(seed), seed, shows, set, meshId: this.roots.meshId }
  }
}

/** The port over a set; standing is evaluated from scratch. */
export function doorOf({ set, verdict, gateways = new Set() }: Actor): DoorPort {
  return {
    openCredential: (bytes) => openCredential(set, bytes),
    openItem: (bytes) => set.open(bytes),
    knowsGateway: (key) => gateways.has(keyId(key)),
    verdictOn({ clusterKey }) {
      if (verdict !== undefined) return verdict
      const found = look(set).standing.clusters.get(clusterKey)?.verdict
      if (found === undefined) return { kind: 'unknown' }
      if (found.stands) return { kind: 'stands' }
      const { rule, reason, causes } = found
      return { kind: 'fallen', code: 'barred', rule, reason, explain: causes }
    }
  }
}

/** Changes a frame on its way, or replaces it. */
export type Tamper = (message: FrameMessage, frame: Uint8Array) => Uint8Array

/** What changes the frames of the dialling side, and those of the dialled side. */
export type Tampers = readonly [(Tamper | undefined)?, (Tamper | undefined)?]

export interface Meeting {
  readonly dialler: Handshake
  readonly door: Handshake
  /** Of the dialling side, and of the dialled side; the last one of each. */
  readonly outcomes: readonly [HandshakeOutcome?, HandshakeOutcome?]
  /** All frames that each side sent. */
  readonly sent: readonly [readonly Uint8Array[], readonly Uint8Array[]]
}

/** Carries frames both ways until neither side has more to say. */
export function meet(
  dialler: Handshake,
  door: Handshake,
  options: {
    /** Changes the frames of the dialling side, of the dialled side. */
    readonly tamper?: Tampers
    /** Answers a knock. */
    readonly decide?: (
      knock: Extract<HandshakeOutcome, { kind: 'knock' }>
    ) => Parameters<Handshake['answer']>[0]
    readonly nowMs?: readonly [number, number]
  } = {}
): Meeting {
  const sides = [dialler, door] as const
  const outcomes: [HandshakeOutcome?, HandshakeOutcome?] = []
  const sent: [Uint8Array[], Uint8Array[]] = [[], []]
  const queue: { from: 0 | 1; frame: Uint8Array }[] = []
  const push = (from: 0 | 1, frames: readonly Uint8Array[]) => {
    for (const frame of frames) {
      sent[from].push(frame)
      const message = decodeFrame(frame)
      assert.ok(message)
      queue.push({ from, frame: options.tamper?.[from]?.(message, frame) ?? frame })
    }
  }
  push(0, dialler.start())
  push(1, door.start())
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const to = next.from === 0 ? 1 : 0
    const step: HandshakeStep = sides[to].receive(next.frame, options.nowMs?.[to] ?? NOW_MS)
    push(to, step.send)
    if (step.outcome === undefined) continue
    outcomes[to] = step.outcome
    if (step.outcome.kind === 'knock' && options.decide !== undefined) {
      const answered = sides[to].answer(options.decide(step.outcome))
      push(to, answered.send)
      if (answered.outcome !== undefined) outcomes[to] = answered.outcome
    }
  }
  return { dialler, door, outcomes, sent }
}

/** Rewrites the fields of one message. */
export function rewrite(kind: keyof FrameMessage, fields: object): Tamper {
  return (message, frame) => {
    const found = message[kind]
    return found === null ? frame : encodeFrame({ [kind]: { ...(found as object), ...fields } })
  }
}

/** Whether `needle` occurs in one of the frames. */
export function contains(frames: readonly Uint8Array[], needle: Uint8Array): boolean {
  return frames.some((frame) =>
    Array.from({ length: Math.max(0, frame.length - needle.length + 1) }).some((_, at) =>
      equalBytes(frame.subarray(at, at + needle.length), needle)
    )
  )
}

export function keyOf(world: World, seed: Uint8Array) {
  return keyId(world.crypto.publicKeyOf(seed))
}

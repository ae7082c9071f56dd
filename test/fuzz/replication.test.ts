import assert from 'node:assert/strict'
import {
  comparePositions,
  NOWHERE,
  verifyHead,
  type Head,
  type Position
} from '../../src/core/replication/head.ts'
import { PROTOCOL_LIMITS } from '../../src/core/replication/limits.ts'
import { FRAME_BYTES_MAX } from '../../src/core/wire/limits.ts'
import type { Origin } from '../../src/core/model/values.ts'
import { publicKeyOf } from '../../src/core/model/identity.ts'
import { createProtocol, type Effect, type Protocol } from '../../src/core/replication/protocol.ts'
import { isKey, type StoredRecord } from '../../src/core/replication/record.ts'
import { Replica } from '../../src/core/replication/replica.ts'
import { StagingBudget } from '../../src/core/replication/partial-state.ts'
import { StateHash } from '../../src/core/replication/state-hash.ts'
import { decodeFrame, encodeMessage, wire, type DeltaMessage } from '../../src/core/wire/messages.ts'
import { deltaFrames } from '../../src/core/replication/delta-frames.ts'
import { membersOf } from '../core/trust/fixtures.ts'
import type { Random } from '../sim/random.ts'
import {
  crypto,
  east,
  EAST2_HISTORY,
  EAST_HISTORY,
  mesh,
  north,
  NORTH_HISTORY,
  service,
  sign,
  SMALL_FRAMES,
  VALUES,
  west,
  type History
} from './corpus.ts'
import { base64, budget, fuzz } from './fuzz.ts'
import { mutate, shuffled } from './mutate.ts'

// Small enough to be met by a few frames.
const LIMITS = {
  ...PROTOCOL_LIMITS,
  stagingBytesMax: 20_000,
  pullsMax: 2,
  originsMax: 6,
  keysPerOriginMax: 20
}
const HONEST: readonly History[] = [EAST_HISTORY, EAST2_HISTORY]
const STATES = new Map(
  HONEST.flatMap(({ states }) => states.map(({ head, records }) => [base64(head.bytes), records] as const))
)
const ALL_FRAMES = [...EAST_HISTORY.frames, ...EAST2_HISTORY.frames, ...NORTH_HISTORY.frames, ...SMALL_FRAMES]
const SELF = west.credential.origin
const HOSTILE = north.credential.origin

describe('hostile replication', () => {
  it('frames of a neighbour never make an agent throw, hold what was not signed, go back, or break its bounds', async function () {
    const { cases, timeoutMs } = budget(200)
    this.timeout(timeoutMs)
    let applied = 0
    await fuzz('protocol.receive', {
      cases,
      make: (random) => Array.from({ length: 1 + random.below(24) }, () => hostileFrame(random)),
      bytesOf: (frames) => frames,
      act: (frames, random) => {
        const protocol = victim()
        const seen = new Map<Origin, Position>()
        let nowMs = 0
        for (const frame of frames) {
          nowMs += random.below(400)
          const from = random.chance(0.7) ? HOSTILE : east.credential.origin
          checkEffects(protocol.receive(from, frame, nowMs))
          if (random.chance(0.3)) checkEffects(protocol.tick(nowMs))
          checkState(protocol, seen)
        }
        applied += seen.size - 1
        checkAlive(protocol, nowMs)
      }
    })
    if (cases > 100) assert.ok(applied > cases / 4, `only ${applied} origins were ever taken`)
  })

  it('deltas put together of sound and unsound parts lead to a signed state or to none', async function () {
    const { cases, timeoutMs } = budget(500)
    this.timeout(timeoutMs)
    let applied = 0
    const sound = EAST_HISTORY.frames
      .map((frame) => decodeFrame(frame)?.delta ?? undefined)
      .filter((d) => d !== undefined)
    await fuzz('Replica.apply', {
      cases,
      make: (random) =>
        Array.from({ length: 1 + random.below(20) }, () => {
          const at = random.below(sound.length)
          // Parts that follow each other stay together often enough to come to an end.
          return sound.slice(at, at + 1 + random.below(6)).map((delta) => {
            const changed = random.chance(0.4) ? changeDelta(random, delta, sound) : delta
            return encodeMessage<object>(wire.Frame, { delta: changed })
          })
        }).flat(),
      bytesOf: (frames) => frames,
      act: (frames, random) => {
        const deltas = frames
          .map((frame) => decodeFrame(frame)?.delta)
          .filter((delta) => delta !== undefined && delta !== null)
        const staging = new StagingBudget(LIMITS)
        const { origin, agentKey: publicKey } = east.credential
        const { meshId } = mesh
        const replica = new Replica({ origin, publicKey, meshId, crypto, limits: LIMITS, staging })
        let held: Position = NOWHERE
        for (const [nowMs, delta] of deltas.entries()) {
          const head = headOf(random, delta)
          if (head === undefined) continue
          const from = random.chance(0.8) ? HOSTILE : SELF
          const verdict = replica.apply({ from, head, delta, nowMs })
          if (verdict.kind === 'applied') applied++
          assert.ok(comparePositions(replica.position, held) >= 0, 'it went back')
          held = replica.position
          assert.ok(
            staging.used >= 0 && staging.used <= LIMITS.stagingBytesMax,
            `${staging.used} bytes unfinished`
          )
          checkRecords(origin, replica.head, replica.records)
        }
        replica.dropIdleStaged(Infinity)
        assert.equal(staging.used, 0)
      }
    })
    if (cases > 100) assert.ok(applied > cases / 4, `only ${applied} deltas were applied`)
  })
})

// ------------------------------------------------------------------ what a hostile neighbour sends

function hostileFrame(random: Random): Uint8Array {
  if (random.chance(0.35)) return random.pick(ALL_FRAMES)
  if (random.chance(0.3)) return ownNonsense(random)
  return mutate(random, ALL_FRAMES, FRAME_BYTES_MAX + 10)
}

/** A member signs anything: keys that are none, values that are noise, any epoch, in its own name and in others'. */
function ownNonsense(random: Random): Uint8Array {
  const records: StoredRecord[] = []
  let seq = random.below(3)
  const count = 1 + random.below(random.chance(0.1) ? 40 : 6)
  for (let index = 0; index < count; index++) {
    const { key, bytes } = random.pick(VALUES)
    const name = random.chance(0.3)
      ? random.pick(['', ' ', 'svc/a/b', '__proto__', 'k\n', 'ü', 'x'.repeat(600)])
      : key
    const value = random.chance(0.3) ? mutate(random, [bytes], 70_000) : bytes
    seq += 1 + random.below(random.chance(0.05) ? 2 ** 40 : 3)
    if (!records.some((record) => record.key === name)) records.push({ key: name, seq, value })
  }
  const epoch = random.pick([1, 2, 3, 2 ** 52])
  const place = { epoch, seq: seq + random.below(2), prevSeq: random.below(seq + 1) }
  const other = random.chance(0.3) ? random.pick([east, west]) : undefined
  const head = sign(north, records, { ...place, origin: (other ?? north).credential.origin })
  const credential = random.chance(0.5) ? (other ?? north).credential.bytes : undefined
  const partBytes = random.pick([200, 64 * 1024])
  return random.pick(
    deltaFrames({
      head,
      fromSeq: random.pick([0, 0, head.prevSeq]),
      operations: records,
      credential,
      partBytes
    })
  )
}

function changeDelta(random: Random, delta: DeltaMessage, others: readonly DeltaMessage[]): DeltaMessage {
  const { operations } = delta
  const other = random.pick(others)
  const at = random.below(operations.length)
  const edit = (change: object) =>
    operations.map((operation, index) => (index === at ? { ...operation, ...change } : operation))
  switch (random.below(12)) {
    case 0:
      return { ...delta, operations: operations.toSpliced(at, 1) }
    case 1:
      return { ...delta, operations: operations.toSpliced(at, 0, ...operations.slice(at, at + 1)) }
    case 2:
      return { ...delta, operations: [...shuffled(random, operations)] }
    case 3:
      return { ...delta, operations: [...operations, ...other.operations] }
    case 4:
      return { ...delta, head: other.head }
    case 5:
      return { ...delta, part: random.below(4), more: random.chance(0.5) }
    case 6:
      return { ...delta, fromSeq: random.pick([0, other.fromSeq, 2 ** 53 - 1]) }
    case 7:
      return { ...delta, operations: edit({ seq: random.pick([0, 1, 5, 2 ** 53 - 1]) }) }
    case 8:
      return { ...delta, operations: edit({ value: random.pick(VALUES).bytes, tombstone: false }) }
    case 9:
      return { ...delta, operations: edit({ value: new Uint8Array(), tombstone: random.chance(0.5) }) }
    case 10:
      return { ...delta, operations: edit({ key: random.pick(VALUES).key }) }
    default:
      return { ...delta, more: !delta.more }
  }
}

function headOf(random: Random, delta: DeltaMessage): Head | undefined {
  const signed = delta.head
  const state = EAST_HISTORY.states.find(
    ({ head }) => base64(head.bytes) === base64(signed?.head ?? new Uint8Array())
  )
  if (state === undefined) return undefined
  // A head that east did not sign, as readHead would let it pass.
  if (random.chance(0.05)) return { ...state.head, seq: state.head.seq + 1, signature: new Uint8Array(64) }
  if (random.chance(0.05))
    return sign(north, [...state.records.values()], {
      epoch: 9,
      seq: 99,
      prevSeq: 1,
      origin: state.head.origin
    })
  return state.head
}

// ------------------------------------------------------------------ the victim

function victim(): Protocol {
  const { meshId } = mesh
  // All clusters are known, as after the exchange of the trust set; of east no agent is.
  const members = membersOf(mesh, [west, north])
  members.addItems([east.credential.item])
  const protocol = createProtocol({
    self: SELF,
    selfSeed: west.seed,
    meshId,
    crypto,
    admission: {
      isAdmitted: (origin) => members.isAdmitted(origin),
      clusterOf: (origin) => members.agentOf(origin)?.cluster,
      admit: (origin, credential) => members.admit(origin, credential),
      credentialOf: (origin) => members.credentialOf(origin),
      publicKeyOf
    },
    limits: LIMITS
  })
  protocol.publish([{ key: 'svc/shop/own', value: service('own') }], 0)
  for (const peer of [HOSTILE, east.credential.origin]) protocol.peerUp(peer, 0)
  return protocol
}

function checkEffects(effects: readonly Effect[]): void {
  for (const effect of effects) {
    assert.notEqual(effect.kind, 'ownRollback', 'nobody but west signs for west')
    assert.notEqual(effect.kind, 'damaged')
    if (effect.kind === 'send')
      assert.ok(decodeFrame(effect.frame) !== undefined, 'it sends what none can read')
  }
}

function checkState(protocol: Protocol, seen: Map<Origin, Position>): void {
  const { stagingBytes, pulls } = protocol.load()
  assert.ok(stagingBytes <= LIMITS.stagingBytesMax, `${stagingBytes} bytes unfinished`)
  assert.ok(pulls <= LIMITS.pullsMax, `${pulls} pulls`)
  assert.ok(protocol.origins().length <= LIMITS.originsMax)
  for (const origin of protocol.origins()) {
    const head = protocol.head(origin)
    assert.ok(
      head !== undefined && comparePositions(head, seen.get(origin) ?? NOWHERE) >= 0,
      `${origin} went back`
    )
    seen.set(origin, head)
    checkRecords(origin, head, protocol.records(origin))
  }
}

/** Of the honest, what they once were; of the hostile, what it signed; of our own, what we published. */
function checkRecords(
  origin: Origin,
  head: Head | undefined,
  records: ReadonlyMap<string, StoredRecord>
): void {
  if (head === undefined) return assert.equal(records.size, 0)
  if (origin === SELF) return assert.deepEqual([...records.keys()], ['svc/shop/own'])
  if (origin !== HOSTILE) return assert.deepEqual(sorted(records), sorted(STATES.get(base64(head.bytes))))
  assert.ok(verifyHead(crypto, north.credential.agentKey, head))
  assert.ok(records.size <= LIMITS.keysPerOriginMax)
  const hash = new StateHash(crypto)
  for (const record of records.values()) {
    assert.ok(isKey(record.key) && record.value.length > 0, `${record.key} is no record`)
    hash.set(record)
  }
  assert.deepEqual(new Uint8Array(hash.root()), head.stateHash)
}

function sorted(records: ReadonlyMap<string, StoredRecord> | undefined): readonly StoredRecord[] {
  return [...(records?.values() ?? [])]
    .map(({ key, seq, value }) => ({ key, seq, value: new Uint8Array(value) }))
    .sort((left, right) => left.seq - right.seq)
}

/** Whatever was sent before, the truth of an honest origin still gets in. */
function checkAlive(protocol: Protocol, nowMs: number): void {
  for (const { origin, states } of HONEST) {
    const state = states.at(-1)
    const agent = HONEST.find((history) => history.origin === origin)?.agent
    assert.ok(state !== undefined && agent !== undefined)
    // East2 did sign two states: that stops it rightly, until its next epoch.
    if (origin === EAST2_HISTORY.origin && protocol.isFrozen(origin)) continue
    const operations = [...state.records.values()].sort((left, right) => left.seq - right.seq)
    const { bytes: credential } = agent.credential
    for (const frame of deltaFrames({
      head: state.head,
      fromSeq: 0,
      operations,
      credential,
      partBytes: 64 * 1024
    })) {
      protocol.receive(east.credential.origin, frame, nowMs)
    }
    assert.equal(comparePositions(protocol.head(origin) ?? NOWHERE, state.head), 0, `${origin} is shut out`)
  }
}

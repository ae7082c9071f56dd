import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { Answers } from '../../../src/core/replication/pull/pull-server.ts'
import { deltaFrames } from '../../../src/core/replication/delta-frames.ts'
import { NOWHERE, readHead, signHead, type Head, type Position } from '../../../src/core/replication/head.ts'
import { PROTOCOL_LIMITS, type ReplicaLimits } from '../../../src/core/replication/limits.ts'
import type { Origin } from '../../../src/core/model/values.ts'
import { originOf } from '../../../src/core/model/identity.ts'
import type { Operation } from '../../../src/core/replication/record.ts'
import type { Verdict } from '../../../src/core/replication/delta-verdict.ts'
import { Replica } from '../../../src/core/replication/replica.ts'
import { decodeFrame, type DeltaMessage } from '../../../src/core/wire/messages.ts'
import { StagingBudget, type StagingStep } from '../../../src/core/replication/partial-state.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'

const crypto = createCrypto()
const seed = new Uint8Array(32).fill(1)
const publicKey = crypto.publicKeyOf(seed)
const origin = originOf(publicKey)
const peer = originOf(crypto.publicKeyOf(new Uint8Array(32).fill(2)))
const other = originOf(crypto.publicKeyOf(new Uint8Array(32).fill(3)))
const meshId = new Uint8Array(32).fill(9)

type Model = Map<string, string>
interface Past {
  readonly head: Head
  readonly fold: Model
}

describe('replica', () => {
  it('is, at every head, the fold of the operations up to it, whatever arrives and in whatever order', () => {
    const change = fc.record({ key: fc.integer({ min: 0, max: 7 }), value: fc.option(fc.nat(3)) })
    const step = fc.record({ from: fc.nat(), to: fc.nat(), snapshot: fc.boolean(), pick: fc.nat() })
    fc.assert(
      fc.property(
        fc.array(fc.array(change, { maxLength: 6 }), { maxLength: 12 }),
        fc.array(step),
        (batches, steps) => {
          const { writer, past, deltas } = history(batches)
          const reader = newReplica({ tombstonesMax: 2 })
          for (const { pick } of steps) {
            const delta = deltas[pick % Math.max(1, deltas.length)]
            if (!delta) continue
            const before = reader.position
            deliver(reader, delta)
            assert.ok(reader.position.seq >= before.seq)
            assert.deepEqual(shown(reader), past.get(reader.position.seq)?.fold ?? new Map())
          }
          catchUp(reader, writer)
          assert.deepEqual(shown(reader), shown(writer))
        }
      ),
      { numRuns: 300 }
    )
  })

  it('knows every key that changed since a position it held, or says that it does not know', () => {
    const change = fc.record({ key: fc.integer({ min: 0, max: 7 }), value: fc.option(fc.nat(3)) })
    const batches = fc.array(fc.array(change, { minLength: 1, maxLength: 6 }), {
      minLength: 30,
      maxLength: 60
    })
    fc.assert(
      fc.property(batches, fc.nat(59), (list, rewriteAt) => {
        const replica = newReplica({ tombstonesMax: 2 })
        const past: { readonly position: Position; readonly fold: Model }[] = []
        for (const [index, batch] of list.entries()) {
          const values = batch.map(({ key, value }) => ({
            key: `k${key}`,
            value: value === null ? undefined : bytes(`${value}`)
          }))
          replica.write(values, seed)
          if (index === rewriteAt) replica.rewrite(replica.position.epoch + 1, seed)
          const now = shown(replica)
          for (const { position, fold } of past) {
            const keys = replica.keysSince(position)
            if (keys === undefined) continue
            for (const key of new Set([...now.keys(), ...fold.keys()]))
              if (now.get(key) !== fold.get(key)) assert.ok(keys.has(key), `${key} since ${position.seq}`)
          }
          past.push({ position: { ...replica.position }, fold: now })
          assert.deepEqual(replica.keysSince(replica.position), new Set())
        }
      }),
      { numRuns: 100, endOnFailure: true } // to shrink so long a history takes minutes
    )
  })

  it('takes a conflated answer that starts before what it holds', () => {
    const writer = newReplica()
    write(writer, { a: '1' })
    const reader = newReplica()
    catchUp(reader, writer)
    write(writer, { b: '1' })
    const early = answer(writer, { epoch: 1, seq: 1 })
    deliver(reader, early.slice(0, 1))
    write(writer, { a: undefined })
    assert.equal(deliver(reader, answer(writer, { epoch: 1, seq: 1 })).kind, 'applied')
    assert.deepEqual(shown(reader), new Map([['b', '1']]))
  })

  it('shows nothing before the last part, nor anything of a delta that stops', () => {
    const writer = newReplica()
    write(writer, Object.fromEntries(Array.from({ length: 50 }, (_, index) => [`k${index}`, 'x'.repeat(20)])))
    const parts = answer(writer, NOWHERE, 200)
    assert.ok(parts.length > 5)
    const reader = newReplica()
    for (const part of parts.slice(0, -1)) {
      assert.equal(deliver(reader, [part]).kind, 'partial')
      assert.equal(reader.records.size, 0)
    }
    assert.equal(deliver(reader, parts.slice(-1)).kind, 'applied')
    assert.equal(reader.records.size, 50)
  })

  it('does not mix the parts of two neighbours', () => {
    const writer = newReplica()
    write(writer, { a: 'x'.repeat(99), b: 'x'.repeat(99) })
    const [first, second] = answer(writer, NOWHERE, 100)
    assert.ok(first && second)
    const reader = newReplica()
    assert.equal(deliver(reader, [first], peer).kind, 'partial')
    assert.equal(deliver(reader, [second], other).kind, 'stray')
  })

  it('gives back the memory of unfinished deltas', () => {
    const writer = newReplica()
    write(writer, { a: 'x'.repeat(99), b: 'x'.repeat(99) })
    const staging = new StagingBudget({ stagingBytesMax: 700, stagingBytesPerPeerMax: 700 })
    const reader = newReplica({}, staging)
    const [first] = answer(writer, NOWHERE, 100)
    assert.ok(first)
    assert.equal(deliver(reader, [first], peer).kind, 'partial')
    assert.ok(staging.used > 0)
    assert.deepEqual(deliver(reader, [first], other), {
      kind: 'refused',
      reason: 'too many unfinished bytes'
    })
    reader.dropStaged(peer)
    assert.equal(staging.used, 0)
    assert.equal(deliver(reader, [first], other).kind, 'partial')
    reader.dropIdleStaged(10_001)
    assert.equal(staging.used, 0)
  })

  it('refuses a state other than the signed one, and keeps what it had', () => {
    const writer = newReplica()
    write(writer, { a: '1', b: '1' })
    const reader = newReplica()
    catchUp(reader, writer)
    const before = shown(reader)
    write(writer, { a: '2', b: undefined, c: '1' })
    for (const forge of forgeries(only(answer(writer, reader.position)))) {
      assert.deepEqual(deliver(reader, [forge]), { kind: 'refused', reason: 'state hash mismatch' })
      assert.deepEqual(shown(reader), before)
    }
    assert.equal(deliver(reader, answer(writer, reader.position)).kind, 'applied')
    assert.deepEqual(shown(reader), shown(writer))
  })

  it('refuses a head that its origin did not sign', () => {
    const writer = newReplica()
    write(writer, { a: '1' })
    const delta = only(answer(writer, NOWHERE))
    assert.ok(delta.head)
    const signature = new Uint8Array(delta.head.signature)
    signature[3] = (signature[3] ?? 0) ^ 1
    const forged = { ...delta, head: { ...delta.head, signature } }
    assert.deepEqual(deliver(newReplica(), [forged]), { kind: 'refused', reason: 'bad signature' })
  })

  it('never goes back to an older epoch, and replaces everything for a newer one', () => {
    const old = newReplica()
    write(old, { a: '1', b: '1' })
    const reader = newReplica()
    catchUp(reader, old)
    const writer = newReplica()
    writer.raiseEpoch(2)
    write(writer, { c: '1' })
    catchUp(reader, writer)
    assert.deepEqual(shown(reader), new Map([['c', '1']]))
    write(old, { d: '1' })
    assert.equal(deliver(reader, answer(old, NOWHERE)).kind, 'stale')
    assert.deepEqual(reader.position.epoch, 2)
  })

  it('asks for more when a delta starts after what it holds', () => {
    const writer = newReplica()
    write(writer, { a: '1' })
    const { seq } = writer.position
    write(writer, { b: '1' })
    assert.equal(deliver(newReplica(), answer(writer, { epoch: 1, seq })).kind, 'gap')
  })

  it('freezes an origin that signed two states for one position, until its next epoch', () => {
    const [one, two] = [newReplica(), newReplica()]
    write(one, { a: '1' })
    write(two, { a: '2' })
    const reader = newReplica()
    catchUp(reader, one)
    assert.equal(deliver(reader, answer(two, NOWHERE)).kind, 'equivocation')
    write(one, { b: '1' })
    assert.deepEqual(deliver(reader, answer(one, reader.position)), {
      kind: 'refused',
      reason: 'frozen by equivocation'
    })
    one.rewrite(2, seed)
    catchUp(reader, one)
    assert.equal(reader.proof, undefined)
    assert.deepEqual(shown(reader), shown(one))
  })

  it('takes a proof of equivocation only when both signatures hold', () => {
    const [one, two] = [newReplica(), newReplica()]
    write(one, { a: '1' })
    write(two, { a: '2' })
    assert.ok(one.head && two.head)
    const reader = newReplica()
    assert.equal(reader.freeze({ first: one.head, second: one.head }), 'known')
    assert.equal(
      reader.freeze({ first: one.head, second: { ...two.head, signature: one.head.signature } }),
      'bad signature'
    )
    assert.equal(reader.freeze({ first: one.head, second: two.head }), 'frozen')
    assert.equal(reader.freeze({ first: one.head, second: two.head }), 'known')
  })

  it('answers below the floor of its tombstones with a whole state', () => {
    const writer = newReplica({ tombstonesMax: 2 })
    write(writer, { a: '1', b: '1', c: '1', d: '1' })
    const reader = newReplica()
    catchUp(reader, writer)
    write(writer, { a: undefined, b: undefined, c: undefined })
    assert.equal(
      writer.placeOf({ ...NOWHERE_IN_AN_ANSWER, epoch: 1, fromSeq: reader.position.seq }).fromSeq,
      0
    )
    catchUp(reader, writer)
    assert.deepEqual(shown(reader), new Map([['d', '1']]))
  })

  it('holds at most the keys and bytes of one origin', () => {
    const writer = newReplica()
    write(writer, { a: '1', b: '1', c: '1' })
    const delta = answer(writer, NOWHERE)
    assert.deepEqual(deliver(newReplica({ keysPerOriginMax: 2 }), delta), {
      kind: 'refused',
      reason: 'too many keys'
    })
    assert.deepEqual(deliver(newReplica({ bytesPerOriginMax: 5 }), delta), {
      kind: 'refused',
      reason: 'too many bytes'
    })
  })

  it('writes nothing for changes that change nothing', () => {
    const writer = newReplica()
    write(writer, { a: '1' })
    const { head } = writer
    assert.deepEqual(
      writer.write(
        [
          { key: 'a', value: bytes('1') },
          { key: 'b', value: undefined }
        ],
        seed
      ),
      { kind: 'unchanged' }
    )
    assert.equal(writer.head, head)
  })

  it('tells damaged records on disk, and then starts a new epoch', () => {
    const writer = newReplica()
    write(writer, { a: '1', b: '2' })
    const { head } = writer
    assert.ok(head)
    const good = newReplica()
    assert.equal(good.restore(head, writer.records.values()), undefined)
    assert.deepEqual(shown(good), shown(writer))
    const flipped = [...writer.records.values()].map((record) =>
      record.key === 'a' ? { ...record, value: bytes('3') } : record
    )
    const bad = newReplica()
    assert.equal(bad.restore(head, flipped), 'damaged records')
    assert.equal(bad.head, undefined)
    assert.equal(bad.epochFloor, 2)
  })

  it('refuses operations out of order, beyond the head, or with a key that is none', () => {
    const operation = (key: string, seq: number) => ({ key, seq, value: bytes('1') })
    const malformed: readonly (readonly Operation[])[] = [
      [operation('a', 2), operation('b', 1)],
      [operation('a', 9)],
      [operation('a b', 1)],
      [operation('', 1)],
      [operation('k'.repeat(513), 1)]
    ]
    for (const operations of malformed) {
      const head = signHead(
        crypto,
        { seed, meshId },
        { origin, epoch: 1, seq: 3, prevSeq: 0, stateHash: new Uint8Array(32) }
      )
      const delta = toDeltas(deltaFrames({ head, fromSeq: 0, operations, partBytes: 1000 }))
      assert.deepEqual(deliver(newReplica(), delta), { kind: 'refused', reason: 'malformed delta' })
    }
  })

  it('applies a snapshot in a time that grows as its records do', () => {
    const cpuOf = (count: number): number => {
      const writer = newReplica()
      const changes = Array.from({ length: count }, (_, index) => ({
        key: `svc/shop/s${index}`,
        value: new Uint8Array(100).fill(index)
      }))
      writer.write(changes, seed)
      const parts = answer(writer, NOWHERE, PROTOCOL_LIMITS.partBytes)
      const reader = newReplica()
      const before = process.cpuUsage()
      assert.equal(deliver(reader, parts).kind, 'applied')
      const { user } = process.cpuUsage(before)
      assert.equal(reader.records.size, count)
      return user
    }
    const few = Math.min(cpuOf(5000), cpuOf(5000))
    assert.ok(cpuOf(100_000) < 100 * few) // twenty times the records; the square would be 400
  })
})

function newReplica(
  limits: Partial<ReplicaLimits> = {},
  staging = new StagingBudget(PROTOCOL_LIMITS),
  keep?: (step: StagingStep) => void
): Replica {
  return new Replica({
    origin,
    publicKey,
    meshId,
    crypto,
    limits: { ...PROTOCOL_LIMITS, ...limits },
    staging,
    ...(keep ? { keep } : {})
  })
}

function write(writer: Replica, changes: Readonly<Record<string, string | undefined>>): void {
  const encoded = Object.entries(changes).map(([key, value]) => ({
    key,
    value: value === undefined ? undefined : bytes(value)
  }))
  assert.equal(writer.write(encoded, seed).kind, 'written')
}

/** A writer, its fold at every head, and every delta that could be on its way: pushes and answers from any boundary. */
function history(batches: readonly (readonly { key: number; value: number | null }[])[]) {
  const writer = newReplica({ tombstonesMax: 2 })
  const model: Model = new Map()
  const past = new Map<number, Past>()
  const deltas: (readonly DeltaMessage[])[] = []
  for (const batch of batches) {
    for (const { key, value } of batch) {
      if (value === null) model.delete(`k${key}`)
      else model.set(`k${key}`, `v${value}`)
    }
    const changes = batch.map(({ key, value }) => ({
      key: `k${key}`,
      value: value === null ? undefined : bytes(`v${value}`)
    }))
    if (writer.write(changes, seed).kind !== 'written' || !writer.head) continue
    past.set(writer.head.seq, { head: writer.head, fold: new Map([...model].sort(byKey)) })
    for (const seq of [0, ...past.keys()]) deltas.push(answer(writer, { epoch: 1, seq }, 30))
  }
  return { writer, past, deltas }
}

const NOWHERE_IN_AN_ANSWER = { afterSeq: 0, atSeq: 0 }

function answer(writer: Replica, held: Position, partBytes = 64 * 1024): readonly DeltaMessage[] {
  assert.ok(writer.head)
  const answers = new Answers()
  const place = { ...NOWHERE_IN_AN_ANSWER, epoch: held.epoch, fromSeq: held.seq }
  answers.open(writer, { origin, ...place, afterKey: '', window: 0 }, undefined)
  return toDeltas([...answers.frames(writer, partBytes)])
}

function toDeltas(frames: readonly Uint8Array[]): readonly DeltaMessage[] {
  return frames.map((frame) => {
    const delta = decodeFrame(frame)?.delta
    assert.ok(delta)
    // Plain objects: the defaults of a decoded message sit on its prototype, where a spread does not see them.
    const { head, fromSeq, part, more, credential, afterSeq } = delta
    const operations = delta.operations.map(({ key, seq, value, tombstone }) => ({
      key,
      seq,
      value,
      tombstone
    }))
    return { head, fromSeq, operations, part, more, credential, afterSeq }
  })
}

function catchUp(reader: Replica, writer: Replica): void {
  if (writer.head) deliver(reader, answer(writer, reader.position, 50))
}

/** The last verdict. */
function deliver(reader: Replica, parts: readonly DeltaMessage[], from: Origin = peer): Verdict {
  let verdict: Verdict = { kind: 'stale' }
  for (const delta of parts) {
    const head = readHead(delta.head, meshId)
    assert.ok(typeof head !== 'string')
    verdict = reader.apply({ from, head, delta, nowMs: 0 })
  }
  return verdict
}

function forgeries(delta: DeltaMessage): readonly DeltaMessage[] {
  const [first] = delta.operations
  assert.ok(first)
  return [
    { ...delta, operations: [] },
    { ...delta, operations: delta.operations.slice(1) },
    { ...delta, operations: delta.operations.filter(({ tombstone }) => !tombstone) },
    {
      ...delta,
      operations: delta.operations.map((operation) =>
        operation === first ? { ...first, value: bytes('9') } : operation
      )
    },
    {
      ...delta,
      operations: delta.operations.map((operation) =>
        operation === first ? { ...first, key: 'z' } : operation
      )
    }
  ]
}

function only<T>(items: readonly T[]): T {
  const [item] = items
  assert.ok(item !== undefined && items.length === 1)
  return item
}

function shown(replica: Replica): Model {
  const entries = [...replica.records].map(([key, { value }]): [string, string] => [
    key,
    new TextDecoder().decode(value)
  ])
  return new Map(entries.sort(byKey))
}

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

function byKey([left]: readonly [string, string], [right]: readonly [string, string]): number {
  return left < right ? -1 : 1
}

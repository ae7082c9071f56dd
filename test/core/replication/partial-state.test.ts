import assert from 'node:assert/strict'
import { Answers } from '../../../src/core/replication/pull/pull-server.ts'
import { readHead, type Head } from '../../../src/core/replication/head.ts'
import { PROTOCOL_LIMITS } from '../../../src/core/replication/limits.ts'
import type { Origin } from '../../../src/core/model/values.ts'
import { originOf } from '../../../src/core/model/identity.ts'
import type { StoredRecord } from '../../../src/core/replication/record.ts'
import type { Verdict } from '../../../src/core/replication/delta-verdict.ts'
import { Replica } from '../../../src/core/replication/replica.ts'
import { StagingBudget, type StagingStep } from '../../../src/core/replication/partial-state.ts'
import { decodeFrame } from '../../../src/core/wire/messages.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'

const crypto = createCrypto()
const seed = new Uint8Array(32).fill(1)
const publicKey = crypto.publicKeyOf(seed)
const origin = originOf(publicKey)
const [peer, other] = [2, 3].map((byte) => originOf(crypto.publicKeyOf(new Uint8Array(32).fill(byte)))) as [
  Origin,
  Origin
]
const meshId = new Uint8Array(32).fill(9)
const PART_BYTES = 100

describe('a state that is not whole yet', () => {
  it('goes on in the next life after its last part, and is seen when the signed hash matches, not before', () => {
    const writer = newWriter(60)
    const first = new Life()
    first.take(partsOf(writer).slice(0, 8))
    const second = new Life(first.disk)
    assert.equal(second.replica.records.size, 0)
    const place = second.replica.resume(other)
    assert.ok(place && place.afterSeq === first.disk.lastSeq && place.afterSeq > 20)
    const rest = partsOf(writer, place)
    assert.equal(rest[0]?.delta.operations[0]?.seq, place.afterSeq + 1)
    second.take(rest.slice(0, -1), other)
    assert.equal(second.replica.records.size, 0)
    const verdict = second.take(rest.slice(-1), other)
    assert.ok(verdict.kind === 'applied' && verdict.adopts === second.disk.lastSeq)
    assert.deepEqual(shown(second.replica.records.values()), shown(writer.records.values()))
    // What is adopted on disk, with the last part, is the same.
    for (const { key, seq, value } of verdict.operations)
      if (value) second.disk.records.set(key, { key, seq, value })
    assert.deepEqual(shown(second.disk.records.values()), shown(writer.records.values()))
    assert.equal(second.budget.used, 0)
  })

  it('takes over what was deleted and changed while nobody was there', () => {
    const writer = newWriter(60)
    const first = new Life()
    first.take(partsOf(writer).slice(0, 8))
    writer.write(
      [
        { key: 'k000', value: undefined },
        { key: 'k001', value: bytes('new') }
      ],
      seed
    )
    const second = new Life(first.disk)
    assert.equal(second.take(partsOf(writer, second.replica.resume(peer))).kind, 'applied')
    assert.deepEqual(shown(second.replica.records.values()), shown(writer.records.values()))
  })

  it('is dropped where it was damaged, and pulled from zero', () => {
    const writer = newWriter(60)
    const first = new Life()
    first.take(partsOf(writer).slice(0, 8))
    first.disk.records.set('k003', { key: 'k003', seq: 4, value: bytes('flipped') })
    const second = new Life(first.disk)
    const verdict = second.take(partsOf(writer, second.replica.resume(peer)))
    assert.deepEqual(verdict, { kind: 'refused', reason: 'state hash mismatch' })
    assert.equal(second.disk.head, undefined)
    assert.equal(second.replica.resume(peer), undefined)
    assert.equal(second.take(partsOf(writer)).kind, 'applied')
  })

  it('is not taken from the disk when its head is not signed, it is superseded, or there is no room', () => {
    const writer = newWriter(60)
    const first = new Life()
    first.take(partsOf(writer).slice(0, 8))
    const { head } = first.disk
    assert.ok(head)
    const parts = { ...first.disk, head, records: first.disk.records.values() }
    const signature = new Uint8Array(64)
    assert.equal(newReplica().restoreParts({ ...parts, head: { ...head, signature } }), 'bad signature')
    assert.equal(newReplica().restoreParts({ ...parts, lastSeq: head.seq + 1 }), 'malformed')
    const whole = new Life()
    whole.take(partsOf(writer))
    assert.equal(whole.replica.restoreParts(parts), 'superseded')
    const budget = new StagingBudget({ stagingBytesMax: 500, stagingBytesPerPeerMax: 500 })
    const records = first.disk.records.values()
    assert.equal(newReplica({ budget }).restoreParts({ ...parts, records }), 'too many unfinished bytes')
    assert.equal(budget.used, 0)
  })

  it('is kept once, whoever else sends the same origin, and dropped when a newer state is taken over', () => {
    const writer = newWriter(60)
    const life = new Life()
    life.take(partsOf(writer).slice(0, 3), peer)
    const lastSeq = life.disk.lastSeq
    life.take(partsOf(writer).slice(0, 6), other)
    assert.equal(life.disk.lastSeq, lastSeq)
    const verdict = life.take(partsOf(writer).slice(6), other)
    assert.ok(verdict.kind === 'applied' && verdict.adopts === undefined && verdict.operations.length === 60)
    assert.equal(life.disk.head, undefined)
    assert.equal(life.budget.used, 0)
  })

  it('survives a push of its origin in between', () => {
    const writer = newWriter(60)
    const life = new Life()
    const answers = new Answers()
    answers.open(writer, { ...NO_PLACE, origin, afterKey: '', window: 500 }, undefined)
    life.take(deltas(answers.frames(writer, PART_BYTES)))
    const before = writer.position
    writer.write([{ key: 'k500', value: bytes('pushed') }], seed)
    const push = partsOf(writer, { epoch: before.epoch, fromSeq: before.seq, afterSeq: 0, atSeq: 0 })
    assert.equal(life.take(push).kind, 'gap')
    answers.credit(origin, 1e6)
    assert.equal(life.take(deltas(answers.frames(writer, PART_BYTES))).kind, 'applied')
    assert.deepEqual(shown(life.replica.records.values()), shown(writer.records.values()))
  })

  it('begins anew when who goes on with it has another past', () => {
    const writer = newWriter(60)
    const life = new Life()
    life.take(partsOf(writer).slice(0, 8))
    const twin = newWriter(60, 'of a twin')
    assert.equal(life.take(partsOf(twin, life.replica.resume(other)), other).kind, 'stray')
    assert.equal(life.replica.resume(other), undefined)
    assert.equal(life.take(partsOf(twin), other).kind, 'applied')
  })

  it('waits on disk for a neighbour some minutes, and gives its room back then, or when room is short', () => {
    const writer = newWriter(60)
    for (const [stagingBytesMax, gone] of [
      [1e6, 700_000],
      [20_000, 20_000]
    ] as const) {
      const life = new Life(undefined, { stagingBytesMax, stagingBytesPerPeerMax: stagingBytesMax })
      life.take(partsOf(writer).slice(0, 10))
      life.replica.dropIdleStaged(9000)
      assert.ok(life.disk.head && life.budget.used > 10_000)
      const next = new Life(copyOf(life.disk), { stagingBytesMax, stagingBytesPerPeerMax: stagingBytesMax })
      next.replica.dropIdleStaged(5e9)
      assert.ok(next.disk.head)
      next.replica.dropIdleStaged(5e9 + gone)
      assert.equal(next.disk.head, undefined)
      life.replica.dropIdleStaged(gone)
      assert.equal(life.disk.head, undefined)
      assert.equal(life.budget.used, 0)
    }
  })

  it('of one neighbour leaves room for those of others', () => {
    const budget = new StagingBudget({ stagingBytesMax: 30_000, stagingBytesPerPeerMax: 22_000 })
    const parts = partsOf(newWriter(200))
    const [first, second, third] = [newReplica({ budget }), newReplica({ budget }), newReplica({ budget })]
    for (const part of parts.slice(0, 14)) assert.equal(apply(first, part, peer).kind, 'partial')
    const verdicts = parts.slice(0, 5).map((part) => apply(second, part, peer))
    assert.ok(
      verdicts.some((verdict) => verdict.kind === 'refused' && verdict.reason === 'too many unfinished bytes')
    )
    for (const part of parts.slice(0, 4)) assert.equal(apply(third, part, other).kind, 'partial')
  })
})

interface Disk {
  head: Head | undefined
  atSeq: number
  lastSeq: number
  readonly records: Map<string, StoredRecord>
}

function copyOf(disk: Disk): Disk {
  return { ...disk, records: new Map(disk.records) }
}

/** A replica with what it has kept. */
class Life {
  readonly disk: Disk
  readonly budget: StagingBudget
  readonly replica: Replica

  constructor(disk?: Disk, limits = { stagingBytesMax: 1e6, stagingBytesPerPeerMax: 1e6 }) {
    this.disk = disk ?? { head: undefined, atSeq: 0, lastSeq: 0, records: new Map() }
    this.budget = new StagingBudget(limits)
    this.replica = newReplica({ budget: this.budget, keep: (step) => this.#keep(step) })
    const { head } = this.disk
    if (head)
      assert.equal(
        this.replica.restoreParts({ ...this.disk, head, records: this.disk.records.values() }),
        undefined
      )
  }

  take(parts: readonly Part[], from: Origin = peer): Verdict {
    let verdict: Verdict = { kind: 'stale' }
    for (const part of parts) verdict = apply(this.replica, part, from)
    return verdict
  }

  #keep(step: StagingStep): void {
    const { disk } = this
    if (step.kind === 'dropped' || step.afterSeq === 0) disk.records.clear()
    if (step.kind === 'dropped') {
      disk.head = undefined
      disk.lastSeq = 0
      return
    }
    assert.equal(step.afterSeq, step.afterSeq === 0 ? 0 : disk.lastSeq)
    Object.assign(disk, { head: step.head, atSeq: step.atSeq, lastSeq: step.lastSeq })
    for (const { key, seq, value } of step.operations) {
      if (value) disk.records.set(key, { key, seq, value })
      else disk.records.delete(key)
    }
  }
}

const NO_PLACE = { epoch: 0, fromSeq: 0, afterSeq: 0, atSeq: 0 }

type Part = ReturnType<typeof deltas>[number]

function deltas(frames: Iterable<Uint8Array>) {
  return [...frames].map((frame) => {
    const delta = decodeFrame(frame)?.delta
    const head = delta && readHead(delta.head, meshId)
    assert.ok(delta && head && typeof head !== 'string')
    return { delta, head }
  })
}

function partsFrames(writer: Replica, place = NO_PLACE): Iterable<Uint8Array> {
  const answers = new Answers()
  answers.open(writer, { ...place, origin, afterKey: '', window: 0 }, undefined)
  return answers.frames(writer, PART_BYTES)
}

function partsOf(writer: Replica, place: typeof NO_PLACE | undefined = NO_PLACE): readonly Part[] {
  return deltas(partsFrames(writer, place))
}

function apply(replica: Replica, { delta, head }: Part, from: Origin): Verdict {
  return replica.apply({ from, head, delta, nowMs: 0 })
}

function newReplica(given: { budget?: StagingBudget; keep?: (step: StagingStep) => void } = {}): Replica {
  const { budget = new StagingBudget(PROTOCOL_LIMITS), keep } = given
  const options = { origin, publicKey, meshId, crypto, limits: PROTOCOL_LIMITS, staging: budget }
  return new Replica({ ...options, ...(keep ? { keep } : {}) })
}

function newWriter(count: number, text = '0123456789'): Replica {
  const writer = newReplica()
  const changes = Array.from({ length: count }, (_, index) => ({
    key: `k${String(index).padStart(3, '0')}`,
    value: bytes(text)
  }))
  assert.equal(writer.write(changes, seed).kind, 'written')
  return writer
}

function shown(records: Iterable<StoredRecord>): Map<string, string> {
  return new Map(
    [...records]
      .map(({ key, value }): [string, string] => [key, new TextDecoder().decode(value)])
      .sort(([left], [right]) => (left < right ? -1 : 1))
  )
}

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

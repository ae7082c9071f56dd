import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { Answers } from '../../../../src/core/replication/pull/pull-server.ts'
import { readHead } from '../../../../src/core/replication/head.ts'
import { PROTOCOL_LIMITS } from '../../../../src/core/replication/limits.ts'
import type { Origin } from '../../../../src/core/model/values.ts'
import { originOf } from '../../../../src/core/model/identity.ts'
import type { Verdict } from '../../../../src/core/replication/delta-verdict.ts'
import { Replica } from '../../../../src/core/replication/replica.ts'
import { StagingBudget } from '../../../../src/core/replication/partial-state.ts'
import { decodeFrame } from '../../../../src/core/wire/messages.ts'
import { createCrypto } from '../../../../src/io/crypto/crypto.ts'

const crypto = createCrypto()
const seed = new Uint8Array(32).fill(1)
const publicKey = crypto.publicKeyOf(seed)
const origin = originOf(publicKey)
const [peer, other] = [2, 3].map((byte) => originOf(crypto.publicKeyOf(new Uint8Array(32).fill(byte))))
const meshId = new Uint8Array(32).fill(9)
const PART_BYTES = 100

describe('answers', () => {
  it('send what the credit allows and one part more, and go on with more credit', () => {
    const writer = newReplica()
    fill(writer, 30)
    const answers = new Answers()
    answers.open(writer, pull({ window: 150 }), undefined)
    const first = [...answers.frames(writer, PART_BYTES)]
    assert.equal(first.length, 2)
    assert.deepEqual([...answers.frames(writer, PART_BYTES)], [])
    answers.credit(origin, 100)
    assert.equal([...answers.frames(writer, PART_BYTES)].length, 1)
  })

  it('go on with the new head when the origin has moved on, and nothing deleted stays', () => {
    const writer = newReplica()
    fill(writer, 30)
    const reader = newReplica()
    const answers = new Answers()
    answers.open(writer, pull({ window: 400 }), undefined)
    deliverAll(reader, answers.frames(writer, PART_BYTES))
    writer.write(
      [
        { key: 'k000', value: undefined },
        { key: 'k001', value: bytes('changed') }
      ],
      seed
    )
    answers.credit(origin, 1e6)
    assert.equal(deliverAll(reader, answers.frames(writer, PART_BYTES))?.kind, 'applied')
    assert.deepEqual(shown(reader), shown(writer))
  })

  it('are gone on with by another neighbour where the first one stopped', () => {
    const writer = newReplica()
    fill(writer, 60)
    const reader = newReplica()
    const answers = new Answers()
    answers.open(writer, pull({ window: 1500 }), undefined)
    deliverAll(reader, answers.frames(writer, PART_BYTES))
    assert.ok(other)
    const place = reader.resume(other)
    assert.ok(place && place.afterSeq > 20)
    const second = new Answers()
    second.open(writer, pull({ ...place, window: 0 }), undefined)
    const frames = [...second.frames(writer, PART_BYTES)]
    assert.equal(decodeFrame(frames[0] ?? new Uint8Array())?.delta?.operations[0]?.seq, place.afterSeq + 1)
    assert.equal(deliverAll(reader, frames, other)?.kind, 'applied')
    assert.deepEqual(shown(reader), shown(writer))
  })

  it('lead to the signed state or to none, whatever is written and whoever answers in between', () => {
    const change = fc.tuple(fc.nat(15), fc.boolean())
    const step = fc.record({
      changes: fc.array(change, { maxLength: 3 }),
      turn: fc.boolean(),
      credit: fc.nat(300)
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20 }), fc.nat(12), (steps, held) => {
        const writer = newReplica({ tombstonesMax: 3 })
        const reader = newReplica()
        fill(writer, held)
        if (held > 5) deliverAll(reader, open(writer, pullFrom(reader, 0)).frames(writer, PART_BYTES))
        fill(writer, 16)
        let from = peer
        let answers = open(writer, pullFrom(reader, 50))
        for (const { changes, turn, credit } of steps) {
          deliverAll(reader, answers.frames(writer, PART_BYTES), from)
          writer.write(
            changes.map(([key, value]) => ({ key: name(key), value: value ? bytes('x') : undefined })),
            seed
          )
          if (turn) {
            from = from === peer ? other : peer
            const place = from && reader.resume(from)
            answers = open(writer, place ? pull({ ...place, window: 50 }) : pullFrom(reader, 50))
          } else answers.credit(origin, credit)
        }
        answers.credit(origin, 1e9)
        deliverAll(reader, answers.frames(writer, PART_BYTES), from)
        deliverAll(reader, open(writer, pullFrom(reader, 0)).frames(writer, PART_BYTES), from)
        assert.deepEqual(shown(reader), shown(writer))
      }),
      { numRuns: 300 }
    )
  })
})

function open(writer: Replica, message: ReturnType<typeof pull>): Answers {
  const answers = new Answers()
  answers.open(writer, message, undefined)
  return answers
}

function pullFrom(reader: Replica, window: number) {
  const { epoch, seq } = reader.position
  return pull({ epoch, fromSeq: seq, window })
}

function pull(
  given: Partial<{ epoch: number; fromSeq: number; afterSeq: number; atSeq: number; window: number }>
) {
  return { origin, epoch: 0, fromSeq: 0, afterKey: '', afterSeq: 0, atSeq: 0, window: 0, ...given }
}

function newReplica(limits: Partial<typeof PROTOCOL_LIMITS> = {}): Replica {
  const staging = new StagingBudget(PROTOCOL_LIMITS)
  return new Replica({
    origin,
    publicKey,
    meshId,
    crypto,
    limits: { ...PROTOCOL_LIMITS, ...limits },
    staging
  })
}

function fill(writer: Replica, count: number): void {
  const changes = Array.from({ length: count }, (_, index) => ({
    key: name(index),
    value: bytes('0123456789')
  }))
  writer.write(changes, seed)
}

function deliverAll(
  reader: Replica,
  frames: Iterable<Uint8Array>,
  from: Origin | undefined = peer
): Verdict | undefined {
  let verdict: Verdict | undefined
  for (const frame of frames) {
    const delta = decodeFrame(frame)?.delta
    const head = readHead(delta?.head ?? null, meshId)
    assert.ok(delta && from && typeof head !== 'string')
    verdict = reader.apply({ from, head, delta, nowMs: 0 })
    assert.notEqual(verdict.kind, 'refused')
  }
  return verdict
}

function shown(replica: Replica): ReadonlyMap<string, string> {
  return new Map(
    [...replica.records].map(([key, { value }]) => [key, new TextDecoder().decode(value)] as const)
  )
}

function name(index: number): string {
  return `k${String(index).padStart(3, '0')}`
}

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

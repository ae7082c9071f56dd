import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import {
  askFrame,
  deliverFrame,
  keyTextOf,
  originOfKeyText,
  readRelayFrame,
  readyFrame,
  sendFrame
} from '../../../src/core/host/relay-frame.ts'
import { ASKS_MAX, RelayTable } from '../../../src/core/host/relay-table.ts'
import { originOf } from '../../../src/core/model/identity.ts'
import type { ClusterName, Origin } from '../../../src/core/model/values.ts'

const agent = fc.constantFrom(...(['a', 'b', 'c', 'd'] as Origin[]))
const ask = (from: string, to: string, nowMs: number, cluster = `cluster of ${from}`) => ({
  from: from as Origin,
  to: to as Origin,
  cluster: cluster as ClusterName,
  nowMs,
  costMs: 7
})

describe('the asks of a relay', () => {
  it('make a pair of two agents only while each has asked for the other within 10 s, whoever else asks', () => {
    const step = fc.record({ from: agent, to: agent, waitMs: fc.integer({ min: 0, max: 9_000 }) })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const table = new RelayTable()
        const asked = new Map<string, number>()
        let nowMs = 0
        for (const { from, to, waitMs } of steps) {
          nowMs += waitMs
          table.tick(nowMs)
          const { kind } = table.ask(ask(from, to, nowMs))
          if (from === to) assert.equal(kind, 'refused')
          else asked.set(from + to, nowMs)
          if (kind === 'pair') assert.ok(nowMs - (asked.get(to + from) ?? -Infinity) <= 3_000)
          for (const one of 'abcd')
            for (const other of 'abcd') {
              const isPair = table.pair(one as Origin, other as Origin, nowMs) !== undefined
              const isFresh = (key: string) => nowMs - (asked.get(key) ?? -Infinity) <= 10_000
              if (isPair) assert.ok(isFresh(one + other) && isFresh(other + one))
            }
        }
        table.tick(nowMs + 10_001)
        assert.deepEqual(table.pairs(), [])
      })
    )
  })

  it('of one cluster are bounded, and all; what is kept stays, and what has ended makes room', () => {
    const table = new RelayTable()
    const kinds = (cluster: number, count: number, nowMs: number) =>
      Array.from({ length: count }, (_, index) => table.ask(ask(`${cluster}`, `to ${index}`, nowMs)).kind)
    const kept = (list: readonly string[]) => list.filter((kind) => kind === 'waits').length
    assert.equal(kept(kinds(0, 300, 0)), 256)
    for (let cluster = 1; cluster < 16; cluster++) assert.equal(kept(kinds(cluster, 256, 0)), 256)
    assert.equal(16 * 256, ASKS_MAX)
    assert.equal(kept(kinds(16, 10, 0)), 0)
    assert.equal(kept(kinds(0, 256, 5_000)), 256)
    table.tick(11_000)
    assert.equal(kept(kinds(16, 10, 11_000)), 10)
  })

  it('tell both ends one round trip while the pair lasts', () => {
    const table = new RelayTable()
    table.ask(ask('a', 'b', 0))
    const first = table.ask({ ...ask('b', 'a', 100), costMs: 20 })
    const second = table.ask({ ...ask('a', 'b', 1_000), costMs: 90 })
    assert.ok(first.kind === 'pair' && second.kind === 'pair')
    assert.deepEqual(
      [first.isNew, second.isNew, first.pair.costMs, second.pair.costMs],
      [true, false, 20, 20]
    )
  })
})

describe('the frames of a relay', () => {
  const origin = originOf(new Uint8Array(32).fill(200))
  const key = keyTextOf(origin)
  const data = new Uint8Array(96)
  data[0] = 4

  it('are read as they were written', () => {
    assert.ok(key)
    assert.equal(originOfKeyText(key), origin)
    assert.deepEqual(readRelayFrame(askFrame(key)), { kind: 'ask', other: key })
    for (const [cost, read] of [
      [0, 0],
      [300, 300],
      [1e9, 65_535],
      [-1, 0]
    ] as const)
      assert.deepEqual(readRelayFrame(readyFrame(key, cost)), { kind: 'ready', other: key, costMs: read })
    assert.deepEqual(readRelayFrame(sendFrame(key, data)), { kind: 'send', other: key, datagram: data })
    assert.deepEqual(readRelayFrame(deliverFrame(key, data)), { kind: 'deliver', other: key, datagram: data })
  })

  it('are none in any other form', () => {
    assert.ok(key)
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const frame = readRelayFrame(bytes)
        assert.ok(frame === undefined || bytes.length >= 33)
      })
    )
    const bad = [
      new Uint8Array(),
      askFrame(key).subarray(0, 32),
      Uint8Array.of(...askFrame(key), 0),
      readyFrame(key, 1).subarray(0, 34),
      sendFrame(key, data.subarray(0, 31)),
      sendFrame(key, new Uint8Array(96)),
      sendFrame(
        key,
        Uint8Array.from({ length: 9_217 }, (_, index) => (index === 0 ? 4 : 0))
      )
    ]
    for (const bytes of bad) assert.equal(readRelayFrame(bytes), undefined)
  })
})

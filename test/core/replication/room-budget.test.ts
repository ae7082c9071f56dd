import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { originOf } from '../../../src/core/model/identity.ts'
import type { Origin, ServiceValue } from '../../../src/core/model/values.ts'
import { PROTOCOL_LIMITS } from '../../../src/core/replication/limits.ts'
import { createProtocol, type Effect, type Protocol } from '../../../src/core/replication/protocol.ts'
import { recordBytes } from '../../../src/core/replication/record.ts'
import { RoomBudget, type Size } from '../../../src/core/replication/room-budget.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { credentialOf } from '../../sim/mesh.ts'

const LIMITS = { keysPerClusterMax: 50, bytesPerClusterMax: 500, originsPerClusterMax: 10, bytesMax: 1000 }
const crypto = createCrypto()
const meshId = new Uint8Array(32).fill(7)

describe('room budget', () => {
  it('keeps each cluster and the sum within their limits, and takes nothing from a cluster below an equal share', () => {
    const step = fc.record({ cluster: fc.nat(4), agent: fc.nat(3), bytes: fc.nat(700), keys: fc.nat(60) })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const budget = new RoomBudget(name(0, 0), LIMITS)
        const held = new Map<Origin, { readonly cluster: string; readonly size: Size }>()
        const sumOf = (cluster: string) => sum([...held.values()].filter((each) => each.cluster === cluster))
        for (const { cluster, agent, ...size } of steps) {
          const origin = name(cluster, agent)
          const account = `cluster ${cluster}`
          for (;;) {
            const verdict = budget.judge(origin, account, size)
            if (verdict.kind === 'refused') break
            if (verdict.kind === 'evict') {
              const victim = held.get(verdict.origin)
              assert.ok(victim && verdict.origin !== origin && verdict.origin !== name(0, 0))
              const isOwnAffair = victim.cluster === account
              // What the own cluster takes is no room of the others; the new state counts, too.
              const share = (LIMITS.bytesMax - sumOf('cluster 0').bytes) / 5
              assert.ok(isOwnAffair || sumOf(victim.cluster).bytes > share, 'evicted a modest cluster')
              held.delete(verdict.origin)
              budget.drop(verdict.origin)
              continue
            }
            budget.set(origin, account, size)
            held.set(origin, { cluster: account, size })
            break
          }
          const isOwn = (clusterOfOwn: string) => clusterOfOwn === 'cluster 0'
          for (const each of new Set([...held.values()].map(({ cluster: one }) => one)))
            assert.ok(isOwn(each) || within(sumOf(each)), `${each} exceeds its limit`)
          const all = sum([...held.values()])
          assert.equal(budget.bytes, all.bytes)
          assert.ok(all.bytes <= LIMITS.bytesMax + (held.get(name(0, 0))?.size.bytes ?? 0))
        }
      }),
      { numRuns: 500 }
    )
  })

  it('counts a record with what it takes in memory, so that many empty ones are not free', () => {
    assert.ok(recordBytes('k', 1) > 400)
    assert.equal(recordBytes('k', undefined), 0)
    const records = PROTOCOL_LIMITS.bytesPerClusterMax / recordBytes('svc/a/b', 1)
    assert.ok(records < 320_000)
  })
})

describe('a cluster that floods with records', () => {
  it('with many agents has no more room than with one', () => {
    const [honest, ...agents] = [1, 2, 3, 4, 5].map(agentOf)
    assert.ok(honest)
    const reader = startOf(agentOf(9), {
      clusterOf: (origin) => (origin === honest.origin ? 'honest' : 'greedy'),
      bytesPerClusterMax: 100 * recordBytes('svc/shop/web-00', 40),
      keysPerClusterMax: 100
    })
    deliver(reader, honest, 10)
    for (const each of agents) deliver(reader, each, 60)
    assert.equal(reader.records(honest.origin).size, 10)
    assert.ok(agents.reduce((sumOf, { origin }) => sumOf + reader.records(origin).size, 0) <= 100)
  })

  it('loses its largest state when all is full, and the others lose nothing, also after a restart', () => {
    const honest = [1, 2, 3, 4].map(agentOf)
    const greedy = agentOf(5)
    const bytesMax = 200 * recordBytes('svc/shop/web-00', 40)
    const reader = startOf(agentOf(9), { clusterOf: (origin) => origin, bytesMax })
    deliver(reader, greedy, 150)
    const removed: Effect[] = []
    for (const each of honest)
      removed.push(...deliver(reader, each, 30).filter(({ kind }) => kind === 'removed'))
    assert.deepEqual(removed, [{ kind: 'removed', origin: greedy.origin, reason: 'evicted' }])
    assert.ok(!reader.origins().includes(greedy.origin))
    for (const { origin } of honest) assert.equal(reader.records(origin).size, 30)
    // It is not taken again at once: the next attempt is refused, and costs no honest state.
    deliver(reader, greedy, 151)
    assert.equal(reader.records(greedy.origin).size, 0)
    for (const { origin } of honest) assert.equal(reader.records(origin).size, 30)
  })

  it('has as many agents with records as a cluster may have', () => {
    const reader = startOf(agentOf(9), { clusterOf: () => 'greedy', originsPerClusterMax: 3 })
    for (const number of [1, 2, 3, 4, 5]) deliver(reader, agentOf(number), 1)
    assert.ok(reader.origins().length <= 3)
  })
})

describe('an agent that is no member any more', () => {
  it('loses its records here, and they are removed from disk', () => {
    const [stays, goes] = [agentOf(1), agentOf(2)]
    const members = new Set([stays.origin, goes.origin, agentOf(9).origin])
    const reader = startOf(agentOf(9), { isMember: (origin) => members.has(origin) })
    deliver(reader, stays, 2)
    deliver(reader, goes, 2)
    members.delete(goes.origin)
    const effects = reader.collect()
    assert.deepEqual(
      effects.filter(({ kind }) => kind === 'removed'),
      [{ kind: 'removed', origin: goes.origin, reason: 'no member' }]
    )
    assert.deepEqual(reader.origins(), [stays.origin])
    assert.deepEqual(reader.collect(), [])
  })
})

interface Agent {
  readonly seed: Uint8Array
  readonly origin: Origin
}

function agentOf(number: number): Agent {
  const seed = new Uint8Array(32).fill(number)
  return { seed, origin: originOf(crypto.publicKeyOf(seed)) }
}

function startOf(
  { seed, origin }: Agent,
  options: {
    readonly clusterOf?: (origin: Origin) => string | undefined
    readonly isMember?: (origin: Origin) => boolean
  } & Partial<typeof PROTOCOL_LIMITS> = {}
): Protocol {
  const { clusterOf = () => undefined, isMember = () => true, ...limits } = options
  return createProtocol({
    self: origin,
    selfSeed: seed,
    meshId,
    crypto,
    limits,
    admission: {
      isAdmitted: isMember,
      admit: () => ({ kind: 'admitted' }),
      credentialOf,
      clusterOf,
      publicKeyOf: keyOfOrigin
    }
  })
}

function keyOfOrigin(origin: Origin): Uint8Array | undefined {
  const found = [...Array(10).keys()].map(agentOf).find((each) => each.origin === origin)
  return found && crypto.publicKeyOf(found.seed)
}

/** A protocol that publishes so many records, connected to the reader until nothing more is sent. */
function deliver(reader: Protocol, from: Agent, records: number): readonly Effect[] {
  const writer = startOf(from)
  const all: Effect[] = []
  const services = Array.from({ length: records }, (_, index) => service(index))
  writer.publish(services, 0)
  const to = agentOf(9).origin
  const queue: { readonly toReader: boolean; readonly effects: readonly Effect[] }[] = [
    { toReader: true, effects: writer.peerUp(to, 1) },
    { toReader: false, effects: reader.peerUp(from.origin, 1) }
  ]
  for (let at = 0; at < queue.length; at++) {
    const next = queue[at]
    if (next === undefined) break
    if (!next.toReader) all.push(...next.effects)
    for (const effect of next.effects) {
      if (effect.kind === 'whenSent')
        queue.push({ toReader: next.toReader, effects: (next.toReader ? writer : reader).sent(effect.to) })
      if (effect.kind !== 'send') continue
      const effects = next.toReader
        ? reader.receive(from.origin, effect.frame, 2)
        : writer.receive(to, effect.frame, 2)
      queue.push({ toReader: !next.toReader, effects })
    }
  }
  all.push(...reader.peerDown(from.origin))
  return all
}

function service(index: number): { readonly key: string; readonly value: ServiceValue } {
  const name = `web-${String(index).padStart(2, '0')}`
  const value: ServiceValue = {
    kind: 'service',
    namespace: 'shop',
    name,
    clusterIps: [],
    ports: [],
    headless: true,
    externalName: undefined,
    affinitySeconds: 0,
    publishNotReady: false
  } as never
  return { key: `svc/shop/${name}`, value }
}

function name(cluster: number, agent: number): Origin {
  return `agent ${cluster}.${agent}` as Origin
}

function sum(states: readonly { readonly size: Size }[]): Size {
  return states.reduce((all, { size }) => ({ keys: all.keys + size.keys, bytes: all.bytes + size.bytes }), {
    keys: 0,
    bytes: 0
  })
}

function within({ keys, bytes }: Size): boolean {
  return keys <= LIMITS.keysPerClusterMax && bytes <= LIMITS.bytesPerClusterMax
}
